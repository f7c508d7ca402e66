"""Commands that show what the memory does: `report` and `explain`."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cmt.cli import output
from cmt.cli.context import AsOf, Json, parse_as_of, parse_question, print_result

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source, Span
    from cmt.report.highlights import Piece
    from cmt.workspace import Workspace


def report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path("report/index.html"),
    as_json: Json = False,
) -> None:
    """Write one HTML page: rounds, baselines, the worst questions, and the inputs of every number."""
    from cmt.report.page import write_report

    with ctx.obj.progress as progress:
        progress.stage("load")
        record = write_report(ctx.obj.workspace, out, progress=progress)
    content = (
        f"{record['rounds']} rounds, {len(record['systems'])} systems, {record['worst_questions']} worst questions"
    )
    print_result(record, f"{out}: {content}, {record['bytes'] / 1e6:.1f} MB", as_json=as_json)


def explain(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Answer from memory and show which windows of which documents the model read."""
    line = parse_question(question, longest=ctx.obj.params.serving.question_characters)
    instant = parse_as_of(as_of)
    workspace: Workspace = ctx.obj.workspace
    with ctx.obj.progress as progress:
        progress.stage("ask")
        answer = workspace.ask(line, as_of=instant)
    record = output.answer_json(answer, instant) | {"sources": [_source_json(source) for source in answer.sources]}
    print_result(record, lambda: _write_answer(answer, workspace.params.selection.abstain_below), as_json=as_json)


def _source_json(source: "Source") -> dict[str, Any]:
    def with_text(span: "Span") -> dict[str, Any]:
        return {**asdict(span), "text": (source.text or "")[span.first : span.last]}

    return {
        "doc_id": source.doc_id,
        "title": source.title,
        "published_at": source.published_at,
        "similarity": source.similarity,
        "weight": source.weight,
        "supersedes": source.supersedes,
        "text": source.text,
        "spans": [with_text(span) for span in source.spans],
        "quote": with_text(source.quote) if source.quote else None,
    }


def _write_answer(answer: "Answer", threshold: float) -> None:
    output.write_line(output.worded(answer), style="bold")
    bound = "" if answer.known else f", below selection.abstain_below {threshold:g}"
    verdict = answer.verdict.replace("_", " ")
    output.write_line(f"{verdict}, confidence {answer.confidence:.2f}{bound}", style="dim")
    for source in answer.sources:
        _write_source(source)


def _write_source(source: "Source") -> None:
    from cmt.report.highlights import passage

    highlights = passage(source)
    output.write_line("")
    _write_pieces(highlights.heading, "bold")
    scores = f"similarity {source.similarity:.2f} · weight {source.weight:.2f}"
    relation = f" supersedes {source.supersedes}" if source.supersedes else ""
    output.write_line(f"{source.published_at.date()} · {source.doc_id}{relation} · {scores}", style="dim")
    if source.text is None:
        output.write_line("the bank keeps no text", style="dim")
    else:
        _write_pieces(highlights.body, "")


def _write_pieces(pieces: "Sequence[Piece]", style: str) -> None:
    """Print windows reversed and the quote underlined on a terminal; elsewhere as >>windows<< and **quote**."""
    console, text = output.console(), Text(style=style)
    for read, run in groupby(pieces, key=lambda piece: piece.read):
        shown = [(_printable(piece.text), piece.quoted) for piece in run]
        if console.is_terminal:
            for words, quoted in shown:
                text.append(words, "bold reverse underline" if quoted else "reverse" if read else "")
        else:
            joined = "".join(f"**{words}**" if quoted else words for words, quoted in shown)
            text.append(f">>{joined}<<" if read else joined)
    console.print(text, soft_wrap=not console.is_terminal)


def _printable(text: str) -> str:
    """`text` with its line ends but without other control characters, which could rewrite the terminal."""
    return "".join(
        character
        for character in text.replace("\t", " ")
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cs")
    )
