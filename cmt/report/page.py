"""`cmt report`: all that a project measured, in one HTML file that needs nothing else and asks nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from cmt.bank.ledger import Round
from cmt.common.progress import Progress
from cmt.common.provenance import git_commit
from cmt.common.storage import write_bytes
from cmt.errors import StreamError
from cmt.evaluation.evaluate import RECORD_SCHEMA, evaluate, round_questions
from cmt.report import charts
from cmt.report.comparison import SystemSummary, compare
from cmt.report.costs import Costs, costs, row_label
from cmt.report.curves import MeasuredCurve, measured_curves
from cmt.report.failures import Failure, worst_answers
from cmt.report.history import Entry, entries, records

if TYPE_CHECKING:
    from cmt.resources import Resources

_DIGESTS = {"bank": "bank", "compressor": "compressor", "parameters": "params", "commit": "git_commit"}
_SHORT = 12  # digits of a digest in running text; the table of lineage has all of them
_NAMED = 3  # commits, and the like, that are named below a chart


class Tile(NamedTuple):
    """A number at the top of the page."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    made: datetime
    about: Mapping[str, str]
    tiles: Sequence[Tile]
    entries: Sequence[Entry]
    left_out: int
    """Rounds before them."""
    history: Sequence[charts.Chart]
    curves: Sequence[charts.Chart]
    unmeasured: Sequence[str]
    """Curves that nobody measured."""
    ways: Sequence[SystemSummary]
    ways_chart: charts.Chart | None
    costs: Costs
    costs_basis: str
    """What these rest on."""
    failures: Sequence[Failure]
    scored: Entry | None
    """The round whose questions tiles, ways and failures are about; None before the first with questions."""
    basis: str
    """What these rest on."""

    @property
    def marked(self) -> bool:
        """Whether it is known which windows were read."""
        return any(one.passage.windows for failure in self.failures for one in failure.selected)


def write_report(resources: "Resources", path: Path, *, questions: int, progress: Progress) -> dict[str, Any]:
    """Write the page to `path` and tell what it holds. `questions`: the most that a point or a row asks.

    BankError when there is no bank, StreamError when `path` cannot be written.
    """
    page = gather(resources, questions=questions, progress=progress)
    html = render(page).encode("utf-8", "replace")
    try:
        write_bytes(path, html)
    except OSError as error:
        raise StreamError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
    return {
        "path": path,
        "bytes": len(html),
        "rounds": len(page.entries),
        "curves": [chart.name for chart in page.curves],
        "unmeasured": page.unmeasured,
        "ways": [way.name for way in page.ways],
        "rows": [row["row"] for row in page.costs.rows],
        "worst_questions": len(page.failures),
    }


def gather(resources: "Resources", *, questions: int, progress: Progress) -> Page:
    """All that the page shows: from ledger, records and curves where they were kept, else measured now."""
    progress.stage("gather")
    shown, left_out = entries(resources)
    scored = next((entry for entry in reversed(shown) if _is_scored(entry)), None)
    found = _records(resources, scored.round, progress) if scored else RECORD_SCHEMA.empty_table()
    curves, unmeasured = measured_curves(resources, limit=questions, progress=progress) if scored else ([], [])
    spent = costs(resources, limit=questions, progress=progress) if scored else Costs()
    progress.stage("ask the worst questions again")
    ways = compare(found, scores=scored.round.scores, seed=resources.params.seed) if scored else []
    basis = _basis([scored.round]) if scored else ""
    rounds = _basis([entry.round for entry in shown])
    history = (charts.rounds_chart, charts.retention_chart, charts.seconds_chart)
    return Page(
        made=datetime.now(UTC),
        about=_about(resources),
        tiles=_tiles(resources, ways, scored),
        entries=shown,
        left_out=left_out,
        history=[chart for draw in history if (chart := draw(shown, rounds))],
        curves=[chart for one in curves if (chart := _curve_chart(one))],
        unmeasured=unmeasured,
        ways=ways,
        ways_chart=charts.ways_chart(ways, basis),
        costs=spent,
        costs_basis=_measured_basis(spent.lineage) if spent.lineage else "",
        failures=worst_answers(found, resources.answerer) if scored else [],
        scored=scored,
        basis=basis,
    )


def render(page: Page) -> str:
    """The page as HTML; whatever came from documents, questions or answers is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"score": charts.score, "interval": charts.interval, "signed": "{:+.1f}".format}
    environment.filters["label"] = row_label
    return environment.get_template("template.html.jinja").render(page=page)


def _is_scored(entry: Entry) -> bool:
    return entry.round.state == "committed" and entry.round.scores.get("f1") is not None and entry.questions is not None


def _records(resources: "Resources", round_: Round, progress: Progress) -> pa.Table:
    """The answers of a round's evaluation; where they were not kept, its questions are asked of the bank as it is."""
    kept = records(resources, round_)
    if kept is not None:
        return kept
    how, store = resources.params, resources.store
    questions = round_questions(
        store=store, slice_=store.slice(round_.slice_id), earlier=how.evaluation.earlier_questions, seed=how.seed
    )
    progress.stage("evaluate", (3 if how.evaluation.baselines else 1) * questions.num_rows)
    return evaluate(
        answerer=resources.answerer,
        lm=resources.lm,
        bank=resources.bank,
        questions=questions,
        params=how,
        baselines=how.evaluation.baselines,
        complete=resources.prompt_cache.complete,
        on_progress=progress.advance,
    ).records


def _about(resources: "Resources") -> dict[str, str]:
    bank, how = resources.stored_bank, resources.params
    stats = bank.stats()
    scheme, _, source = how.lm.source.partition(":")
    return {
        "Stream": _relative(str(how.stream.path), resources.root),
        "Base LM": f"{scheme}:{_relative(source, resources.root)}",
        "Compressor": bank.schema.metadata[b"compressor"].decode(),
        "Bank": f"{stats['documents']:,} documents, {stats['rows']:,} memories, {stats['bytes'] / 1e6:,.1f} MB",
        "Bank digest": bank.digest(),
        "Commit": git_commit(resources.root) or "not in git",
    }


def _tiles(resources: "Resources", ways: Sequence[SystemSummary], scored: Entry | None) -> list[Tile]:
    tiles = [
        Tile(f"F1, {way.label}", charts.score(way.scores.f1), f"95 % {charts.interval(*way.scores.ci)}") for way in ways
    ]
    recall = scored.round.scores.get("recall") if scored else None
    if recall is not None:
        tiles.append(Tile("Right document selected", f"{100 * recall:.1f} %", "of the questions"))
    per_document = float(resources.stored_bank.stats()["bytes_per_document"])
    return [*tiles, Tile("Stored a document", f"{per_document / 1e3:,.1f} kB", "memory, key and text")]


def _curve_chart(one: MeasuredCurve) -> charts.Chart | None:
    asked = max(one.curve.points["n"].to_pylist(), default=0)
    note = f"On {asked} questions that the seed has drawn."
    note += "" if one.current else " MeasuredCurve on an earlier state of the bank."
    return charts.curve_chart(one.curve, note=note, basis=_measured_basis(one.curve.lineage))


def _measured_basis(lineage: Mapping[str, Any]) -> str:
    """Slices and digests behind what was measured on a bank."""
    slices = list(lineage["slices"])
    parts = [
        f"{len(slices)} slices, {slices[0]} to {slices[-1]}" if slices else "no slices",
        *(f"{name} {_short(lineage[key])}" for name, key in _DIGESTS.items() if lineage.get(key)),
    ]
    return "; ".join(parts)


def _basis(rounds: Sequence[Round]) -> str:
    """Rounds with their slices, compressor, parameters and commits behind a number."""
    if not rounds:
        return ""
    first, last = rounds[0].round_id, rounds[-1]
    name = f"round {last.round_id}" if len(rounds) == 1 else f"rounds {first} to {last.round_id}"
    parts = [f"{name}, slice {_short(last.slice_digest)}" if len(rounds) == 1 else name]
    for label, key in (("compressor", "compressor"), ("parameters", "params_digest"), ("commit", "git_commit")):
        values = list(dict.fromkeys(_short(getattr(round_, key)) for round_ in rounds if getattr(round_, key)))
        more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
        parts += [f"{label} {', '.join(values[:_NAMED])}{more}"] if values else []
    return "; ".join(parts)


def _short(digest: str) -> str:
    """Its first digits; a commit keeps the + that says that files were changed."""
    return digest[:_SHORT] + ("+" if digest.endswith("+") else "")


def _relative(place: str, root: Path) -> str:
    path = Path(place)
    return str(path.relative_to(root)) if path.is_relative_to(root) else place
