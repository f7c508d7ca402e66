"""What commands print: JSON for programs, tables and lines for people.

Titles, ids and answers come from foreign documents: they are never parsed as markup, and their
control characters, which could rewrite the terminal, are removed.
"""

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from rich import box
from rich.console import Console
from rich.table import Table

from cmt.common.dates import iso
from cmt.text.display import MISSING, counted, format_optional, plain

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.answering.dated_values import FactHistory
    from cmt.bank.change_values import ChangeReport
    from cmt.bank.rounds import Round
    from cmt.evaluation.evaluate import Evaluation
    from cmt.rounds.care.forgetting import ForgottenDocument
    from cmt.rounds.care.verification import PartReport
    from cmt.rounds.erasure import ForgetReport
    from cmt.sources.sync import SyncReport
    from cmt.stream.admission.report import IngestReport
    from cmt.training.plan import TrainingPlan

_PIPE_WIDTH = 200  # columns outside a terminal, so that a row stays on one line
_LISTED_REJECTIONS = 5
_LISTED = 20  # files, or problems of one part of a project


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that prints strings without parsing markup."""
    stream = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not stream.is_terminal:
        stream.width = _PIPE_WIDTH
    return stream


def write_json(value: object, *, indent: int | None = 2) -> None:
    """Print `value` as ASCII JSON, which every terminal and encoding can show; NaN and ±inf become
    null.
    """
    print(json.dumps(to_jsonable_python(value, inf_nan_mode="null"), indent=indent), flush=True)


def write_line(text: str, *, indent: int = 0, style: str = "", stderr: bool = False) -> None:
    """Print one line, not wrapped, after `indent` blanks."""
    console(stderr=stderr).print(" " * indent + plain(text), style=style, soft_wrap=True)


def write_lines(lines: Iterable[str], *, indent: int = 0) -> None:
    """Print several lines, each after `indent` blanks."""
    for line in lines:
        write_line(line, indent=indent)


def answer_json(answer: "Answer", as_of: datetime | None) -> dict[str, Any]:
    """`answer` as JSON without the texts of its sources, confidences rounded; `answer` and `text`
    are its text.
    """
    return {
        "as_of": as_of,
        **asdict(answer),
        "confidence": round(answer.confidence, 4),
        "uncalibrated": round(answer.uncalibrated, 4),
        "sources": [
            {key: value for key, value in asdict(one).items() if key != "text"}
            for one in answer.sources
        ],
        "answer": answer.text,
        "known": answer.known,
        "day": answer.day and answer.day.isoformat(),
    }


def answer_lines(answer: "Answer") -> list[str]:
    """The text of an answer, marked if it is unsure; quoted sentences, or the compared numbers,
    each on a line with its document; the names that the document lacks, and another value: an
    earlier one, or one that may replace it.
    """
    lines = [f"{item.text} ({item.published_at.date()}, {item.doc_id})" for item in answer.items]
    if not lines or answer.form == "compare":
        lines = [answer.text or "(an empty answer)", *lines]
    text = ""
    if answer.day:
        text += f" ({answer.day.isoformat()})"
    if answer.holds_from:
        text += f" (from {answer.holds_from.isoformat()})"
    if other := answer.other_value:
        since = f"{other.published_at.date()}, {other.doc_id}"
        text += (
            f" (perhaps {other.text} since {since})"
            if other.later
            else f" (before: {other.text}, {since})"
        )
    if answer.reason:
        text += f" ({answer.reason})"
    if answer.missing:
        text += f" (no mention of {', '.join(answer.missing)})"
    lines[-1] += text
    if answer.verdict == "unsure":
        lines[0] = f"perhaps: {lines[0]}"
    return lines


def write_answer(answer: "Answer") -> None:
    """Print the answer, a table of its sources, and the LM's answer without memory if there is
    one.
    """
    for line in answer_lines(answer):
        write_line(line, style="bold")
    if answer.known:
        rows = [
            [s.published_at.date(), s.title or "", s.doc_id, s.similarity] for s in answer.sources
        ]
        write_table(["date", "title", "doc_id", "similarity"], rows, left=3)
    if answer.closed_book is not None:
        write_line(f"without memory: {answer.closed_book}", style="dim")


def history_json(history: "FactHistory") -> dict[str, Any]:
    """`history` as JSON without the texts of its documents."""
    record = asdict(history)
    for value in record["values"]:
        for source in value["sources"]:
            del source["text"]
    return record


def write_history(history: "FactHistory") -> None:
    """Print a row for each document of each value."""
    rows = []
    for value in history.values:
        perhaps = "perhaps " if value.verdict == "unsure" else ""
        until = value.until.date() if value.until else MISSING
        cells: list[object] = [perhaps + value.text, value.since.date(), until, value.known]
        for source in value.sources:
            rows.append([*cells, source.doc_id])
            cells = [""] * len(cells)
    write_table(["value", "from", "until", "known", "document"], rows, left=5)


def write_short_answer(answer: "Answer", *, indent: int = 0) -> None:
    """Print the answer and a line for each source."""
    for line in answer_lines(answer):
        write_line(line, indent=indent, style="bold")
    if answer.known:
        for source in answer.sources:
            title = f"{source.title} " if source.title else ""
            write_line(
                f"{source.published_at.date()} {title}({source.doc_id})",
                indent=indent + 2,
                style="dim",
            )


def write_changes(reports: "Sequence[ChangeReport]") -> None:
    """Print a row for each inferred change."""
    rows = [
        [one.id, one.holds_from.date(), report.values, *one.doc_ids, one.state, one.confidence]
        for report in reports
        for one in [report.change]
    ]
    write_table(
        [
            "change",
            "from",
            "old → new value",
            "old document",
            "new document",
            "state",
            "confidence",
        ],
        rows,
        left=6,
    )


def write_ingested(report: "IngestReport") -> None:
    """Print the slices, the matched columns, a summary, and the reasons for rejections with one
    example each.
    """
    # 1. files, documents and slices
    if report.dry_run:
        write_table(["file", "format", "encoding"], report.files[:_LISTED], left=3)
        if (more := len(report.files) - _LISTED) > 0:
            write_line(f"and {more:,} more files", indent=2)
    for document in report.preview:
        write_line(
            f"{iso(document['published_at'])} {document['title'] or ''} ({document['doc_id']})"
        )
        write_line(textwrap.shorten(document["text"], 200, placeholder="…"), indent=2)
    if report.parts:
        names = [slice_.slice_id for slice_ in report.slices] or [
            period for period, _, _ in report.parts
        ]
        rows = [[name, *counts] for name, (_, *counts) in zip(names, report.parts, strict=True)]
        write_table(["period" if report.dry_run else "slice", "documents", "questions"], rows)
    write_line(report.summary())
    # 2. the columns that were matched
    if report.matched:
        write_line(report.matched, indent=2)
    write_lines(report.notices, indent=2)
    if report.clock:
        write_line(
            f"the clock is fixed (stream.clock): rows dated after {report.clock} are rejected"
        )
    # 3. rejected rows
    write_lines(report.first_reasons(_LISTED_REJECTIONS), indent=2)
    if (more := len(report.reasons()) - _LISTED_REJECTIONS) > 0:
        write_line(f"and {more:,} more reasons", indent=2)


def write_synced(reports: "Sequence[SyncReport]") -> None:
    """Print a row for each source, and the first refused rows and failed items."""
    if not reports:
        return
    counts = [report.counts() for report in reports]
    names = [name for name in counts[0] if name == "listed" or any(c[name] for c in counts)]
    rows = [
        [report.source, *(count[name] for name in names)]
        for report, count in zip(reports, counts, strict=True)
    ]
    write_table(["source", *names], rows)
    for report in reports:
        write_lines((f"{report.source}: {problem}" for problem in report.problems), indent=2)
        if report.quarantine:
            write_line(f"{report.source}: refused rows are in {report.quarantine}")


def write_forgotten_documents(documents: "Sequence[ForgottenDocument]") -> None:
    """Print a row for each forgotten document."""
    rows = [
        [
            one.doc_id,
            ", ".join(one.sources) or "every source",
            ", ".join(str(date.date()) for date in one.dates),
        ]
        for one in documents
    ]
    write_table(["doc_id", "refused from", "dates"], rows, left=3)


def write_forgotten(report: "ForgetReport", *, undo: bool) -> None:
    """Print the forgotten documents, similar ones that stay, and what a purge removed and could not
    reach.
    """
    names = report.doc_ids[0] if len(report.doc_ids) == 1 else f"{len(report.doc_ids):,} documents"
    verb, rows = "is" if len(report.doc_ids) == 1 else "are", counted(report.rows, "row")
    changes = f" and {counted(report.changes, 'change')}" if report.changes else ""
    if undo:
        write_line(f"{names} {verb} purged and no longer forgotten: ingest the text again")
    else:
        write_line(f"{names} {verb} forgotten: {rows}{changes} removed")
    for similar in report.similar:
        write_line(
            f"{similar.doc_id} stays, with {similar.overlap:.0%} of the text of "
            f"{similar.forgotten}",
            indent=2,
        )
    if report.unreached:
        write_table(["purged", ""], [[what, count] for what, count in report.purged.items()])
        write_line("not reached:")
        write_lines(report.unreached, indent=2)


def write_rounds(
    rounds: "Sequence[Round]", changed: "Callable[[Round], Iterable[str]]" = lambda _: ()
) -> None:
    """Print a row for each round, with its compressor if there are several, then its notes and
    `changed` answers.
    """
    names = [
        "round",
        "state",
        "gate",
        "documents",
        "rows",
        "EM",
        "F1",
        "closed F1",
        "RAG F1",
        "recall",
        "canaries",
    ]
    names += ["adapt, s", "measure, s"]
    rows = [_round_row(round_) for round_ in rounds]
    if several := len({round_.compressor for round_ in rounds}) > 1:
        names = ["compressor", *names]
        rows = [[round_.compressor[:12], *row] for round_, row in zip(rounds, rows, strict=True)]
    write_table(names, rows, left=4 if several else 3)
    for round_ in rounds:
        write_lines(
            f"{round_.round_id}: {line}" for line in (*round_.notes, *filter(None, [round_.reason]))
        )
        write_lines(changed(round_), indent=2)


def write_verified(reports: "Sequence[PartReport]") -> None:
    """Print a row for each part of a project, then its problems with their remedy."""
    rows = [
        [
            report.part,
            report.content or "–",
            report.digest[:12] or "–",
            "damaged" if report.problems else "sound",
        ]
        for report in reports
    ]
    write_table(["part", "content", "digest", "state"], rows, left=4)
    for report in reports:
        write_lines(f"{report.part}: {problem}" for problem in report.problems[:_LISTED])
        if (more := len(report.problems) - _LISTED) > 0:
            write_line(f"{report.part}: {more:,} more, see --json")
        if report.advice:
            write_line(f"to repair it, {report.advice}", indent=2)


def write_evaluation(evaluation: "Evaluation") -> None:
    """Print a row for each system."""
    rows = [
        [
            row["row"],
            row["n"],
            *(_score(row[name]) for name in ("em", "em_prefix", "f1")),
            _recall(row["recall"]),
        ]
        for row in evaluation.to_json()["rows"]
    ]
    write_table(["row", "questions", "EM", "EM prefix", "F1", "recall"], rows)


def write_bank_stats(stats: Mapping[str, int | float]) -> None:
    """Print what `Bank.stats` returns, with units."""
    cosine = stats["mean_pairwise_cosine"]
    rows: list[list[object]] = [
        ["rows", stats["rows"]],
        ["documents", stats["documents"]],
        ["size", f"{stats['bytes'] / 1e6:,.2f} MB"],
        ["size per document", f"{stats['bytes_per_document'] / 1e3:,.1f} kB"],
        ["version", stats["version"]],
        ["rows in the vector index", stats["indexed"]],
        [
            "mean cosine of two keys",
            format_optional(cosine if math.isfinite(cosine) else None, ".2f"),
        ],
    ]
    write_table(["", ""], rows)


def write_plan(plan: "TrainingPlan") -> None:
    """Print the resources of a training, then hours and known F1 by the number of pairs."""
    rows: list[list[object]] = [["device", plan.device]]
    rows += [["processes", plan.processes]] if plan.processes > 1 else []
    rows += [
        [f"peak memory{where}", f"{size / 1e9:,.2f} GB"]
        for where, size in [
            (" of a process", plan.peak_bytes),
            (" of a GPU", plan.device_peak_bytes),
        ]
        if size is not None
    ]
    rows += [
        ["pairs an hour", round(plan.pairs_per_hour)],
        ["compressor", f"{plan.compressor_bytes / 1e6:,.2f} MB"],
    ]
    write_table(["", ""], rows)
    curve = [[pairs, hours, format_optional(f1, ".1f")] for pairs, hours, f1 in plan.curve()]
    write_table(["pairs", "hours", "F1 of a 135M LM"], curve, left=0)
    write_line(
        "F1 of SmolLM2-135M on held-out articles of SQuAD, the last one on SQuAD dev; another "
        "LM has another F1"
    )


def write_table(names: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are text, which is wrapped, and the others are
    numbers, aligned right.

    On a terminal that is too narrow, each row is a list of its cells with their names.
    """
    table = Table(
        box=box.SIMPLE_HEAD if any(names) else None,
        show_header=any(names),
        show_edge=False,
        pad_edge=False,
    )
    for index, name in enumerate(names):
        if index < left:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(_cell, row))
    screen = console()
    unlimited = screen.options.update(max_width=10_000)
    if any(names) and screen.measure(table, options=unlimited).minimum > screen.width:
        for row in rows:
            write_table(["", ""], list(zip(names, row, strict=True)), left=2)
            screen.print()
    else:
        screen.print(table)


def _round_row(round_: "Round") -> list[object]:
    state = f"{round_.state} before" if round_.already else round_.state.replace("_", " ")
    scores = [_score(round_.memory_scores.get(name)) for name in ("em", "f1")]
    scores += [_score(round_.scores.get(system, {}).get("f1")) for system in ("closed", "rag")]
    seconds = [_score(spent or None) for spent in (round_.adapt_seconds, round_.measure_seconds)]
    recall = _recall(round_.memory_scores.get("recall"))
    asked = round_.canaries.get("asked", 0)
    canaries = f"{asked - round_.canaries['wrong']} of {asked}" if asked else MISSING
    gate = round_.judgement or MISSING
    return [
        round_.round_id,
        state,
        gate,
        round_.documents,
        round_.rows,
        *scores,
        recall,
        canaries,
        *seconds,
    ]


def _score(value: float | None) -> str:
    return format_optional(value, ".1f")


def _recall(value: float | None) -> str:
    return format_optional(value, ".3f")


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else plain(value)
