"""What commands print: JSON for machines, tables and lines for people.

Titles, ids and answers come from other people's documents: nothing in them is read as markup, and control characters,
with which a text could rewrite the terminal, are dropped.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from cmt.common.dates import iso
from cmt.common.text import plain

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.bank.ledger import Round
    from cmt.evaluation.evaluate import Evaluation
    from cmt.stream.store import IngestReport

_PIPE_WIDTH = 200  # nobody's window: a pipe gets its rows in one line each


def console(*, stderr: bool = False) -> Console:
    """The console of a stream; it prints strings as they are."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def write_json(value: object) -> None:
    """`value` as JSON on stdout, in ASCII: it survives every terminal and encoding. What is no number is null."""
    print(json.dumps(_finite(value), indent=2))


def write_line(text: str, *, style: str = "", stderr: bool = False) -> None:
    """One line, not wrapped."""
    console(stderr=stderr).print(plain(text), style=style, soft_wrap=True)


def write_lines(lines: Sequence[str]) -> None:
    """Several lines."""
    for line in lines:
        write_line(line)


def answer_json(answer: "Answer", as_of: datetime | None) -> dict[str, Any]:
    """An answer without the texts of its sources."""
    sources = [{key: value for key, value in asdict(source).items() if key != "text"} for source in answer.sources]
    return {"as_of": as_of, **asdict(answer), "sources": sources}


def write_answer(answer: "Answer") -> None:
    """The answer, the articles it came from, and what the LM says without memory."""
    write_line(answer.text or "(an empty answer)", style="bold")
    if answer.known:
        rows = [[s.published_at.date(), s.title or "", s.doc_id, s.similarity] for s in answer.sources]
        write_table(["date", "title", "doc_id", "similarity"], rows, left=3)
    write_line(f"without memory: {answer.closed_book}", style="dim")


def write_ingested(report: "IngestReport") -> None:
    """The new slices, and the first reasons why rows were rejected."""
    if report.slices:
        rows = [[s.slice_id, s.n_documents, s.n_questions] for s in report.slices]
        write_table(["slice", "documents", "questions"], rows)
    write_line(report.summary())
    for row in report.rejected[:5]:
        write_line(f"  {row.file}:{row.row}: {row.reason}")


def write_rounds(rounds: "Sequence[Round]") -> None:
    """A row a round: its scores beside those without memory and with the full text; its compressor, if not all's."""
    names = ["round", "state", "documents", "rows", "EM", "F1", "closed F1", "RAG F1", "recall", "seconds"]
    table = [_round_row(round_) for round_ in rounds]
    if several := len({round_.compressor for round_ in rounds}) > 1:
        names = ["compressor", *names]
        table = [[round_.compressor[:12], *row] for round_, row in zip(rounds, table, strict=True)]
    write_table(names, table, left=3 if several else 2)
    for round_ in rounds:
        if round_.reason:
            write_line(f"{round_.round_id}: {round_.reason}")


def write_evaluation(evaluation: "Evaluation") -> None:
    """A row a way of answering."""
    rows = [
        [row["row"], row["n"], *(_score(row[name]) for name in ("em", "em_prefix", "f1")), _share(row["recall"])]
        for row in evaluation.to_json()["rows"]
    ]
    write_table(["row", "questions", "EM", "EM prefix", "F1", "recall"], rows)


def write_values(values: Mapping[str, object]) -> None:
    """Names and values below each other."""
    write_table(["", ""], list(values.items()))


def write_table(names: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> None:
    """A table whose first `left` columns are text and the others numbers; what does not fit is folded, never cut."""
    table = Table(box=box.SIMPLE_HEAD if any(names) else None, show_header=any(names), show_edge=False, pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console().print(table)


def _round_row(round_: "Round") -> list[object]:
    state = f"{round_.state} before" if round_.already else round_.state.replace("_", " ")
    scores = [_score(round_.scores.get(name)) for name in ("em", "f1", "closed_f1", "rag_f1")]
    took = f"{sum(round_.seconds.values()):.1f}"
    return [round_.round_id, state, round_.documents, round_.rows, *scores, _share(round_.scores.get("recall")), took]


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else plain(value)


def _finite(value: Any) -> Any:
    """`value` in what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _finite(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
