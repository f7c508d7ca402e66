"""`cmt report`: the measurements of a project in one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cmt.bank.rounds import Round
from cmt.common.progress import Progress
from cmt.common.provenance import git_commit
from cmt.common.storage import relative, write_bytes
from cmt.common.systems import system_label
from cmt.errors import StreamError
from cmt.evaluation.baseline_data import bank_lineage
from cmt.evaluation.calibration import answer_reliability
from cmt.evaluation.evaluate import RECORD_SCHEMA
from cmt.evaluation.round_records import read_records
from cmt.evaluation.systems import SYSTEMS
from cmt.project import Project
from cmt.report import _charts
from cmt.report._failures import worst_answers
from cmt.report._history import Entry, SystemSummary, compare, entries
from cmt.report._protocol import read_protocol
from cmt.report.baselines import stored_baselines
from cmt.text.display import format_optional

_DIGESTS = {
    "bank": "bank",
    "compressor": "compressor",
    "parameters": "params",
    "commit": "git_commit",
}
_SHORT = 12  # digits of a digest that are shown; the tables have all of them as a title
_MAX_NAMED = 3  # values of one kind, such as commits, below a chart


def write_report(project: Project, path: Path, *, progress: Progress) -> dict[str, Any]:
    """Write the page to `path`; returns a summary. Raises BankError without a bank, StreamError if
    writing fails.
    """
    page = gather(project, progress=progress)
    html = render(page).encode("utf-8", "replace")
    try:
        write_bytes(path, html)
    except OSError as error:
        raise StreamError(
            f"cannot write {error.filename or path}: {error.strerror or error}"
        ) from error
    return {
        "path": path,
        "bytes": len(html),
        "rounds": len(page["entries"]),
        "systems": [system.name for system in page["systems"]],
        "baselines": [row["row"] for row in page["baselines"]],
        "worst_questions": len(page["failures"]),
    }


def gather(project: Project, *, progress: Progress) -> dict[str, Any]:
    """The input of the template: the stored measurements of the project, and the worst questions
    asked again.
    """
    progress.stage("gather")
    # 1. the rounds, and the last one that has a score
    shown, left_out = entries(project)
    scored = [entry for entry in shown if entry.asked and entry.round.state == "committed"]
    basis = _rounds_basis([entry.round for entry in shown])
    history = [_charts.rounds_chart(shown, basis), _charts.seconds_chart(shown, basis)]
    # 2. its answers, and its worst questions asked again
    measured = _measured(project, scored[-1], progress) if scored else _NOTHING_MEASURED
    return measured | {
        "made": datetime.now(UTC),
        "about": _about(project),
        "tiles": _tiles(project, measured["systems"], scored[-1] if scored else None),
        "entries": shown,
        "left_out": left_out,
        "history": [chart for chart in history if chart],
        "protocol": read_protocol(project.root),
    }


_NOTHING_MEASURED: dict[str, Any] = {
    "systems": [],
    "reliability": None,
    "baselines": [],
    "unmeasured": list(SYSTEMS),
    "baselines_basis": "",
    "failures": [],
    "marked": False,
    "scored": None,
    "basis": "",
}
"""The keys of `_measured` before a round has a score."""


def _measured(project: Project, scored: Entry, progress: Progress) -> dict[str, Any]:
    """What the answers of the round `scored` show, and the rows of `cmt baselines`."""
    answered = read_records(project, scored.round)
    answered = RECORD_SCHEMA.empty_table() if answered is None else answered
    basis = _rounds_basis([scored.round])
    # 1. the rows of `cmt baselines` on the bank in its present state
    answerer, lineage = project.active.answerer(), bank_lineage(project)
    baselines = stored_baselines(project, lineage)
    rows = {row["row"] for row in baselines}
    # 2. F1 against confidence, unless the confidence is a cosine
    reliability = None
    if answerer.confidence_is_probability:
        reliability = _charts.reliability_chart(answer_reliability(answered), basis)
    # 3. the worst questions
    progress.stage("ask the worst questions again")
    failures = worst_answers(answered, answerer)
    marked = False
    for failure in failures:
        marked = marked or any(source.passage.windows for source in failure.selected)
    return {
        "systems": compare(answered, scores=scored.round.scores, seed=project.params.seed),
        "reliability": reliability,
        "baselines": baselines,
        "unmeasured": [name for name in SYSTEMS if name not in rows],
        "baselines_basis": _bank_basis(lineage),
        "failures": failures,
        "marked": marked,
        "scored": scored,
        "basis": basis,
    }


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML. Text of documents, questions and answers is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _charts.score,
        "interval": _charts.interval,
        "optional": format_optional,
    }
    environment.filters |= {"label": system_label, "short": _short}
    return environment.get_template("template.html.jinja").render(page=page)


def _about(project: Project) -> dict[str, str]:
    """Facts about the project, by label."""
    bank, params = project.active.stored(), project.params
    stats = bank.stats()
    scheme, _, source = params.lm.source.partition(":")
    return {
        "Stream": relative(params.stream.path, project.root),
        "Base LM": f"{scheme}:{relative(source, project.root)}",
        "Compressor": bank.schema.metadata[b"compressor"].decode(),
        "Bank": f"{stats['documents']:,} documents, {stats['rows']:,} memories, "
        f"{stats['bytes'] / 1e6:,.1f} MB",
        "Bank digest": bank.digest(),
        "Commit": git_commit(project.root) or "not in git",
    }


def _tiles(
    project: Project, systems: Sequence[SystemSummary], scored: Entry | None
) -> list[tuple[str, str, str]]:
    tiles = [
        (
            f"F1, {system_label(system.name)}",
            _charts.score(system.scores["f1"]),
            "of 100; 95 % interval "
            f"{_charts.interval(system.scores['f1_low'], system.scores['f1_high'])}",
        )
        for system in systems
    ]
    recall = scored.round.memory_scores.get("recall") if scored else None
    if recall is not None:
        tiles.append(("Right document selected", f"{100 * recall:.1f} %", "of the questions"))
    per_document = float(project.active.stored().stats()["bytes_per_document"])
    return [
        *tiles,
        ("Stored per document", f"{per_document / 1e3:,.1f} kB", "memory, key and text"),
    ]


def _bank_basis(lineage: Mapping[str, Any]) -> str:
    """The slices and digests behind a measurement on a bank, in words."""
    slices = list(lineage["slices"])
    parts = [
        f"{len(slices)} slices, {slices[0]} to {slices[-1]}" if slices else "no slices",
        *(f"{name} {_short(lineage[key])}" for name, key in _DIGESTS.items() if lineage.get(key)),
    ]
    return "; ".join(parts)


def _rounds_basis(rounds: Sequence[Round]) -> str:
    """The rounds behind a number with their slices, compressors, parameters and commits, in
    words.
    """
    if not rounds:
        return ""
    first, last = rounds[0], rounds[-1]
    if len(rounds) == 1:
        parts = [f"round {last.round_id}, slice {_short(last.slice_digest)}"]
    else:
        parts = [f"rounds {first.round_id} to {last.round_id}"]
    for label, key in (
        ("compressor", "compressor"),
        ("parameters", "params_digest"),
        ("commit", "git_commit"),
    ):
        values = list(
            dict.fromkeys(_short(getattr(round_, key)) for round_ in rounds if getattr(round_, key))
        )
        more = f" and {len(values) - _MAX_NAMED} more" if len(values) > _MAX_NAMED else ""
        parts += [f"{label} {', '.join(values[:_MAX_NAMED])}{more}"] if values else []
    return "; ".join(parts)


def _short(digest: str) -> str:
    """The first digits of a digest. A commit keeps its +, the mark of uncommitted changes."""
    return digest[:_SHORT] + ("+" if digest.endswith("+") else "")
