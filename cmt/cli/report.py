"""Commands that show what the memory does: `report`, `explain`, `curves` – and `chronicle`, a stream to try it with."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cmt.cli import output
from cmt.cli.context import Json, instant, report
from cmt.common.text import plain

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source, Span
    from cmt.evaluation.curve import Curve
    from cmt.report.highlights import Piece
    from cmt.workspace import Workspace

reports = typer.Typer()

CurveName = StrEnum("CurveName", ["retention", "noise", "supersession", "size", "k"])
AsOf = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="As things stood at the end of that day (UTC), or at a date-time with zone."),
]


@reports.command("report", epilog="Example: cmt report --out report/index.html")
def page(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report/index.html"),
    questions: Annotated[int, typer.Option(min=1, help="Most questions of a point of a curve, and of a row.")] = 40,
    as_json: Json = False,
) -> None:
    """Write one HTML page: rounds, curves, baselines, the worst questions, and what every number rests on."""
    from cmt.report.page import write_report

    with ctx.obj.display as display:
        display.stage("load")
        found = write_report(ctx.obj.workspace, out, questions=questions, progress=display)
    holds = (
        f"{found['rounds']} rounds, {len(found['curves'])} curves, {found['worst_questions']} of the worst questions"
    )
    report(found, f"{out}: {holds}, {found['bytes'] / 1e6:.1f} MB", as_json=as_json)


@reports.command(epilog="Example: cmt explain 'Who is the mayor of Port Ellery?' --as-of 2031-02-15")
def explain(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Answer from memory, and show which windows of which documents the answer came from."""
    asked, moment = plain(question), instant(as_of) if as_of is not None else None
    if not asked:
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    workspace: Workspace = ctx.obj.workspace
    with ctx.obj.display as display:
        display.stage("ask")
        answer = workspace.ask(asked, as_of=moment)
    found = output.answer_json(answer, moment) | {"sources": [_source_json(source) for source in answer.sources]}
    report(found, lambda: _write_answer(answer, workspace.params.selection.threshold), as_json=as_json)


@reports.command(epilog="Example: cmt curves retention --questions 100 --out curves")
def curves(
    ctx: typer.Context,
    name: Annotated[CurveName, typer.Argument(metavar="CURVE", help=", ".join(CurveName) + ".")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: where `cmt report` looks.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Most questions of a point.")] = 200,
    as_json: Json = False,
) -> None:
    """Measure how the score moves: as the bank grows, among irrelevant documents, after news, with K."""
    from cmt.evaluation.curve import write
    from cmt.evaluation.curves import CURVES
    from cmt.evaluation.testbed import BankTestbed
    from cmt.report.curves import folder

    workspace: Workspace = ctx.obj.workspace
    with ctx.obj.display as display:
        display.stage("load")
        curve = CURVES[name](BankTestbed.of(workspace, progress=display), limit=questions)
        files = write(curve, out or folder(workspace))
    report(curve.to_json() | {"files": files}, lambda: _write_curve(curve, files), as_json=as_json)


@reports.command(epilog="Example: cmt chronicle --documents 10000 --out chronicle.jsonl")
def chronicle(
    ctx: typer.Context,
    documents: Annotated[int, typer.Option(min=1, help="How many.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines, for `cmt ingest --format jsonl`.")],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed, another world. Default: the project's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make up a stream of any length, for load and supersession tests; its scores say nothing about quality."""
    from cmt.stream.synthetic import write_chronicle

    drawn = ctx.obj.workspace.params.seed if seed is None else seed
    with ctx.obj.display as display:
        display.stage("chronicle", documents)
        questions = write_chronicle(out, documents=documents, seed=drawn, on_progress=display.advance)
    found = {"path": out, "documents": documents, "questions": questions, "seed": drawn}
    report(found, f"{out}: {documents:,} documents and {questions:,} questions", as_json=as_json)


def _source_json(source: "Source") -> dict[str, Any]:
    def told(span: "Span") -> dict[str, Any]:
        return {**asdict(span), "text": (source.text or "")[span.first : span.last]}

    return {
        "doc_id": source.doc_id,
        "title": source.title,
        "published_at": source.published_at,
        "similarity": source.similarity,
        "weight": source.weight,
        "supersedes": source.supersedes,
        "text": source.text,
        "spans": [told(span) for span in source.spans],
        "quote": told(source.quote) if source.quote else None,
    }


def _write_answer(answer: "Answer", threshold: float) -> None:
    output.write_line(answer.text or "(an empty answer)", style="bold")
    verdict = "" if answer.known else f", below selection.threshold {threshold:g}"
    output.write_line(f"confidence {answer.confidence:.2f}{verdict}", style="dim")
    for source in answer.sources:
        _write_source(source)


def _write_source(source: "Source") -> None:
    from cmt.report.highlights import passage

    found = passage(source)
    output.write_line("")
    _write_pieces(found.heading, "bold")
    scores = f"similarity {source.similarity:.2f} · weight {source.weight:.2f}"
    news = f" supersedes {source.supersedes}" if source.supersedes else ""
    output.write_line(f"{source.published_at.date()} · {source.doc_id}{news} · {scores}", style="dim")
    if source.text is None:
        output.write_line("the bank keeps no text", style="dim")
    else:
        _write_pieces(found.body, "")


def _write_pieces(pieces: "Sequence[Piece]", style: str) -> None:
    """The windows reversed on a terminal and the quote underlined; elsewhere >>windows<< and **quote**."""
    out, text = output.console(), Text(style=style)
    for read, run in groupby(pieces, key=lambda piece: piece.read):
        shown = [(_lines(piece.text), piece.quoted) for piece in run]
        if out.is_terminal:
            for words, quoted in shown:
                text.append(words, "bold reverse underline" if quoted else "reverse" if read else "")
        else:
            joined = "".join(f"**{words}**" if quoted else words for words, quoted in shown)
            text.append(f">>{joined}<<" if read else joined)
    out.print(text, soft_wrap=not out.is_terminal)


def _lines(text: str) -> str:
    """`text` without control characters, with which it could rewrite the terminal; its line ends stay."""
    flat = text.replace("\t", " ")
    return "".join(one for one in flat if one == "\n" or unicodedata.category(one) not in ("Cc", "Cs"))


def _write_curve(curve: "Curve", files: Sequence[Path]) -> None:
    names = {**(curve.axes or {"series": "asked"}), "f1": "F1", "f1_low": "low", "f1_high": "high"}
    names |= {"kept": "kept, %", "known": "known, %", "recall": "recall", "n": "questions"}
    columns = curve.points.select(list(names)).to_pydict()
    columns |= {"x": [f"{place:g}" for place in columns.get("x", [])]}
    told = [name for name in names if any(value is not None for value in columns[name])]
    rows = [[columns[name][place] for name in told] for place in range(curve.points.num_rows)]
    output.write_table([names[name] for name in told], rows)
    output.write_lines([str(file) for file in files])
