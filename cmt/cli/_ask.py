"""`cmt ask`, `cmt history` and `cmt chat`: answers with their cited documents."""

import io
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from cmt.answering.answer import NOT_IN_MEMORY, check_length, clean_question
from cmt.cli import output
from cmt.cli.context import AsOf, Json, parse_as_of, print_result
from cmt.questions.follow_up import Turn, complete
from cmt.text.display import plain


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: AsOf = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also print the LM's answer without memory.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Answer a question from memory and list the cited documents."""
    line, instant = _clean(ctx, question), parse_as_of(as_of)
    with ctx.obj.stage("ask"):
        answer = ctx.obj.workspace.ask(line, as_of=instant, closed_book=compare)
    print_result(
        output.answer_json(answer, instant), lambda: output.write_answer(answer), as_json=as_json
    )


def history(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """List the values that answered a question over time, with their documents."""
    line, instant = _clean(ctx, question), parse_as_of(as_of)
    with ctx.obj.stage("history"):
        found = ctx.obj.workspace.history(line, as_of=instant)
    print_result(
        output.history_json(found),
        (lambda: output.write_history(found)) if found.values else NOT_IN_MEMORY,
        as_json=as_json,
    )


def chat(
    ctx: typer.Context,
    as_of: AsOf = None,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print each answer as a line of JSON.")
    ] = False,
) -> None:
    """Answer one question per line and keep the model loaded; Ctrl-D or `exit` ends.

    A follow-up such as "and in June?" is completed from the questions before it, and printed as it
    is answered. With --json-lines the line of a refused question has `error`, and the exit status
    is 1.
    """
    instant = parse_as_of(as_of)
    workspace, longest = ctx.obj.workspace, ctx.obj.params.serving.question_characters
    with ctx.obj.stage("load") as progress:
        ctx.obj.project.active.bank()
    progress.current = ""  # Ctrl-C at the prompt interrupts no stage
    refused = False
    previous: list[Turn] = []
    for line in _questions():
        question = line
        try:
            check_length(question, longest=longest)
            question = complete(question, previous)
        except ValueError as error:
            if json_lines:
                refused = True
                output.write_json({"question": question, "error": str(error)}, indent=None)
            else:
                output.write_line(f"error: {error}", style="red", stderr=True)
            continue
        answer = workspace.ask(question, as_of=instant)
        previous.append((question, answer.text))
        if json_lines:
            output.write_json(output.answer_json(answer, instant), indent=None)
            continue
        if question != line:
            output.write_line(question, indent=2, style="dim")
        output.write_short_answer(answer)
    if refused:
        raise typer.Exit(1)


def _clean(ctx: typer.Context, question: str) -> str:
    """The question on one line. Raises BadParameter if it is empty or too long."""
    try:
        line = clean_question(question)
        check_length(line, longest=ctx.obj.params.serving.question_characters)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="QUESTION") from None
    return line


def _questions() -> Iterator[str]:
    """Lines from stdin until its end or `exit`, without empty ones; with a prompt on a terminal."""
    prompt = ""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if (
        sys.stdin.isatty() and sys.stdout.isatty()
    ):  # input() prints its prompt on stdout, also into a file
        import readline  # noqa: F401 - line editing and history for input()

        prompt = "? "
    while True:
        try:
            question = plain(input(prompt))
        except EOFError:
            return
        if question == "exit":
            return
        if question:
            yield question
