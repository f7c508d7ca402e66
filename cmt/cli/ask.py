"""`cmt ask` and `cmt chat`: questions answered by a running `cmt serve` of the project, or in this process."""

import io
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.answering.answer import check_length
from cmt.cli import output
from cmt.cli.context import AsOf, CliContext, Json, parse_as_of, parse_question, print_result
from cmt.common.text import plain

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.cli.client import ServerClient

NoServer = Annotated[bool, typer.Option("--no-server", help="Load the model even if a `cmt serve` could answer.")]

_END = "exit"


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: AsOf = None,
    compare: Annotated[bool, typer.Option("--compare", help="Also print the LM's answer without memory.")] = False,
    no_server: NoServer = False,
    as_json: Json = False,
) -> None:
    """Answer a question from memory and list the documents that the answer rests on.

    Uses a running `cmt serve` of the same project and parameters if there is one.
    """
    line = parse_question(question, longest=ctx.obj.params.serving.question_characters)
    instant = parse_as_of(as_of)
    with ctx.obj.progress as progress:
        progress.stage("ask")
        asker = Asker(ctx.obj, use_server=not (no_server or compare))
        answer = asker.ask(line, instant, compare=compare)
    print_result(output.answer_json(answer, instant), lambda: output.write_answer(answer), as_json=as_json)


def chat(
    ctx: typer.Context,
    as_of: AsOf = None,
    no_server: NoServer = False,
    json_lines: Annotated[bool, typer.Option("--json-lines", help="Print each answer as a line of JSON.")] = False,
) -> None:
    """Answer one question a line and keep the model loaded; Ctrl-D or `exit` ends.

    Each question is answered by itself; there is no conversation.
    """
    instant = parse_as_of(as_of)
    with ctx.obj.progress as progress:
        progress.stage("load")
        asker = Asker(ctx.obj, use_server=not no_server)
        asker.load()
    ctx.obj.progress.current = ""  # Ctrl-C at the prompt interrupts no stage
    longest = ctx.obj.params.serving.question_characters
    for question in _questions():
        try:
            check_length(question, longest=longest)
        except ValueError as error:
            output.write_line(f"error: {error}", style="red", stderr=True)
            continue
        answer = asker.ask(question, instant)
        if json_lines:
            output.write_json(output.answer_json(answer, instant), indent=None)
        else:
            output.write_short_answer(answer)


class Asker:
    """Answers questions through the server of the project while it answers, then in this process."""

    def __init__(self, context: CliContext, *, use_server: bool) -> None:
        self._context = context
        self._server = _find_server(context) if use_server else None

    def load(self) -> None:
        """Load LM, compressor and bank unless a server answers. Raises ModelError, BankError."""
        if self._server is None:
            self._context.workspace.active_bank()

    def ask(self, question: str, as_of: datetime | None, *, compare: bool = False) -> "Answer":
        """The answer. `compare`: with the LM's answer without memory, which no server gives."""
        if self._server and not compare:
            if answer := self._server.ask(question, as_of):
                return answer
            self._server = None
        return self._context.workspace.ask(question, as_of=as_of, closed_book=compare)


def _find_server(context: CliContext) -> "ServerClient | None":
    from cmt.cli.client import ServerClient

    return ServerClient.find(context.root, context.params)


def _questions() -> Iterator[str]:
    """Lines from stdin until its end or `exit`, without empty ones; with a prompt on a terminal."""
    prompt = ""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - line editing and history for input()

        prompt = "? "
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            question = plain(input(prompt))
        except EOFError:
            return
        if question == _END:
            return
        if question:
            yield question
