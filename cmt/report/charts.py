"""The report's charts: each a picture, the same as a table, and what it rests on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cmt.evaluation import curve
from cmt.evaluation.curve import Curve
from cmt.report.comparison import LABELS, SystemSummary
from cmt.report.history import Entry
from cmt.report.svg import INK, SERIES, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[float | None]

_MARKERS = "os^Dv*"
_LABELS = 5
_STAGES = ("compress", "bank", "evaluate")
_F1 = ("f1", "f1_low", "f1_high")


@dataclass(frozen=True)
class Chart:
    """A picture with its words."""

    name: str
    title: str
    note: str
    """What it shows, a sentence."""
    svg: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    basis: str
    """Slices, compressor, parameters and commit behind its numbers."""


def rounds_chart(entries: Sequence[Entry], basis: str) -> Chart | None:
    """F1 of every way of answering after each round; None without a scored round."""
    scored = [entry for entry in entries if entry.round.scores.get("f1") is not None]
    ways = [way for way in LABELS if any(f"{_prefix(way)}f1" in entry.round.scores for entry in scored)]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for place, way in enumerate(ways):
            _line(axes, place, LABELS[way], *(_values(scored, f"{_prefix(way)}{name}") for name in _F1))
        _finish(figure, axes, scored, "F1 (0–100, 95 % interval)")

    rows = [[entry.round.round_id, *(_scored(entry, way) for way in ways)] for entry in scored]
    lines = [LABELS[way] for way in ways]
    note = "On the questions of the round's slice and a sample of earlier ones, each as of its own date."
    return _chart("rounds", "F1 after each round", note, draw, ["round", *lines], rows, basis)


def retention_chart(entries: Sequence[Entry], basis: str) -> Chart | None:
    """The memory's F1 on a slice's own questions beside that on earlier ones; None where no round kept its records."""
    kept = [entry for entry in entries if "cmt" in entry.own]
    lines: dict[str, Values] = {
        "new slice": [entry.own.get("cmt") for entry in kept],
        "earlier slices": [entry.earlier.get("cmt") for entry in kept],
    }

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for place, (label, values) in enumerate(lines.items()):
            _line(axes, place, label, values)
        _finish(figure, axes, kept, "F1 (0–100)")

    rows = [[entry.round.round_id, *(score(values[i]) for values in lines.values())] for i, entry in enumerate(kept)]
    note = "What is kept along the stream: the memory's answers to the newest slice's questions and to older ones."
    return _chart("kept", "New and earlier questions", note, draw, ["round", *lines], rows, basis)


def seconds_chart(entries: Sequence[Entry], basis: str) -> Chart | None:
    """Where the time of each round went; None without a timed round."""
    timed = [entry for entry in entries if entry.round.seconds]
    spent = {stage: [entry.round.seconds.get(stage, 0.0) for entry in timed] for stage in _STAGES}

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        floor = [0.0] * len(timed)
        for colour, (stage, seconds) in zip(SERIES, spent.items(), strict=False):
            axes.bar(range(len(timed)), seconds, bottom=floor, label=stage, color=colour, width=0.7)
            floor = [below + more for below, more in zip(floor, seconds, strict=True)]
        _finish(figure, axes, timed, "seconds")

    rows = [[entry.round.round_id, *(score(seconds[i]) for seconds in spent.values())] for i, entry in enumerate(timed)]
    note = "Wall-clock seconds of a round; its evaluation asks every question of every way of answering."
    return _chart("seconds", "Where the time goes", note, draw, ["round", *spent], rows, basis)


def ways_chart(ways: Sequence[SystemSummary], basis: str) -> Chart | None:
    """F1 of each way of answering with its interval; None without one."""

    def draw(figure: "Figure") -> None:
        curve.bars(figure.subplots(), [(way.label, way.scores.f1, *way.scores.ci) for way in ways], SERIES, INK)

    rows = [[way.label, score(way.scores.f1), interval(*way.scores.ci)] for way in ways]
    note = "The same frozen LM speaks in every row."
    return _chart("ways", "Ways of answering", note, draw, ["way", "F1", "95 % interval"], rows, basis)


def curve_chart(measured: Curve, *, note: str, basis: str) -> Chart | None:
    """A measured curve; None without points."""
    shown = measured.axes or {"series": "asked"}
    head = [*shown.values(), "F1", "95 % interval", "kept, %", "known, %", "recall", "questions", "s a question"]
    rows = [[*(_number(row[column]) for column in shown), *_measured(row)] for row in measured.points.to_pylist()]

    def draw(figure: "Figure") -> None:
        curve.draw(measured, figure, colour=SERIES[0], ink=INK)

    return _chart(measured.name, measured.title, note, draw, head, rows, basis)


def score(value: float | None) -> str:
    """A score or a number of seconds for people."""
    return "–" if value is None else f"{value:.1f}"


def interval(low: float | None, high: float | None) -> str:
    """Its two bounds for people."""
    return "" if low is None or high is None else f"{low:.1f} – {high:.1f}"


def _chart(
    name: str,
    title: str,
    note: str,
    draw: "Callable[[Figure], None]",
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    basis: str,
) -> Chart | None:
    if not rows:
        return None
    return Chart(name, title, note, svg(draw, name=f"chart-{name}", title=f"{title}. {note}"), head, rows, basis)


def _line(axes: "Axes", place: int, label: str, values: Values, low: Values = (), high: Values = ()) -> None:
    """One line with its intervals, where they are given; a missing value is a gap in its markers."""
    there = [spot for spot, value in enumerate(values) if value is not None]
    middle = [value for value in values if value is not None]
    reach = None
    if low and high:
        reach = [[abs((values[spot] or 0) - (bound[spot] or 0)) for spot in there] for bound in (low, high)]
    colour, marker = SERIES[place % len(SERIES)], _MARKERS[place % len(_MARKERS)]
    axes.errorbar(there, middle, yerr=reach, label=label, color=colour, marker=marker, capsize=3)


def _finish(figure: "Figure", axes: "Axes", entries: Sequence[Entry], label: str) -> None:
    """Rounds below, a legend above."""
    step = -(-len(entries) // _LABELS) or 1
    names = [entry.round.round_id for entry in entries]
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.set(ylabel=label, ylim=(0, 1.05 * axes.get_ylim()[1]))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside upper left", ncols=3)


def _values(entries: Sequence[Entry], name: str) -> Values:
    return [entry.round.scores.get(name) for entry in entries]


def _prefix(way: str) -> str:
    return "" if way == "cmt" else f"{way}_"


def _scored(entry: Entry, way: str) -> str:
    f1, *bounds = (entry.round.scores.get(f"{_prefix(way)}{name}") for name in _F1)
    return f"{score(f1)} ({interval(*bounds)})"


def _measured(row: Mapping[str, Any]) -> list[str]:
    recall, seconds = f"{row['recall']:.3f}", f"{row['seconds']:.2f}"
    return [
        score(row["f1"]),
        interval(row["f1_low"], row["f1_high"]),
        score(row["kept"]),
        score(row["known"]),
        recall,
        str(row["n"]),
        seconds,
    ]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
