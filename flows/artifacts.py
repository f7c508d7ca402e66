"""Rounds and evaluations as Markdown for Prefect's artifacts, and the name of the file of
scores.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmt.common.systems import SYSTEM_STYLES
from cmt.text.display import format_optional

if TYPE_CHECKING:
    from cmt.bank.rounds import Round
    from cmt.evaluation.drift import Drift
    from cmt.rounds.promotion import Promotion
    from cmt.stream.admission.report import IngestReport

EVALUATION_FILE = "evaluation.json"
"""In the state folder: the scores of the last `cmt/evaluate`, the digest of its bank and the size
of its sample.
"""
_CANARIES = {
    "asked": "canaries asked",
    "wrong": "canaries no longer right",
    "harmed": "canaries harmed by this slice",
    "changed": "canaries that follow an update",
}


def artifact_key(name: str) -> str:
    """`name` as a key of Prefect: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def round_report(round_: "Round") -> str:
    """One round: the scores of all systems, its counts, and the seconds to adapt and to measure."""
    lines = [f"## Round {round_.number} · {round_.slice_id} · {round_.state.replace('_', ' ')}", ""]
    if round_.reason:
        lines += [f"**{round_.reason}**", ""]
    lines += [f"{note}\n" for note in round_.notes]
    scores = [
        [
            SYSTEM_STYLES[system].short_label,
            *map(values.get, ("em", "f1", "f1_low", "f1_high", "recall")),
        ]
        for system, values in round_.scores.items()
    ]
    counts: list[list[object]] = [
        ["documents", round_.documents],
        ["documents set aside", len(round_.set_aside)],
        ["bank rows", round_.rows],
        ["questions asked", round_.questions],
        ["gate", round_.judgement or None],
        *([_CANARIES[name], count] for name, count in round_.canaries.items()),
        ["adapt, seconds", round_.adapt_seconds],
        ["measure, seconds", round_.measure_seconds],
    ]
    score_table = table(["", "EM", "F1", "95 % from", "to", "recall@K"], scores)
    return "\n".join([*lines, score_table, "", table(["", ""], counts)])


def rejected_report(report: "IngestReport") -> str:
    """A table of why an ingest rejected rows: each kind of reason without values, its rows, and its
    first place.
    """
    rows = [
        [kind.replace("|", "/"), f"{count:,}", f"{row.file}:{row.row}"]
        for kind, count, row in report.reasons()
    ]
    return "\n".join([report.summary(), "", table(["reason", "rows", "first"], rows)])


def rounds_report(history: "Sequence[Round]") -> str:
    """A row for each committed round."""
    rows = [
        [
            r.slice_id,
            r.judgement or None,
            r.documents,
            r.rows,
            *map(r.memory_scores.get, ("em", "f1", "recall")),
        ]
        + [r.adapt_seconds, r.measure_seconds]
        for r in history
        if r.state == "committed"
    ]
    names = [
        "slice",
        "gate",
        "documents",
        "bank rows",
        "EM",
        "F1",
        "recall@K",
        "adapt, s",
        "measure, s",
    ]
    return table(names, rows)


def drift_report(drift: "Drift") -> str:
    """The figures of the newest slice compared with those of earlier slices."""
    rows = [
        [name, change.newest, change.reference, *change.difference]
        for name, change in drift.changes.items()
    ]
    result = "**drift**" if drift.drifted else "no drift"
    line = f"{drift.slice_id} compared with {', '.join(drift.reference)}: {result}"
    return f"{line}\n\n{table(['', 'newest', 'before', 'difference', 'from', 'to'], rows)}"


def promotion_report(promotion: "Promotion") -> str:
    """The decision, and the figures of both compressors if they were compared."""
    outcome = "promoted" if promotion.promoted else "not promoted"
    lines = [f"**Version {promotion.version} is {outcome}**: {promotion.reason}"]
    if figures := promotion.figures:
        lines += ["", table(["", "challenger", "in use"], figures.rows())]
    return "\n".join(lines)


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: the first column is text, the others are numbers."""
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return (
        f"{value:,.3f}".rstrip("0").rstrip(".")
        if isinstance(value, float)
        else format_optional(value)
    )
