"""The charts of the report, each with its numbers as a table and their inputs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmt.common.plots import draw_f1
from cmt.common.systems import ROUND_SYSTEMS, SYSTEM_STYLES, system_label
from cmt.evaluation.calibration import Reliability
from cmt.report._history import Entry
from cmt.report._picture import FAINT, SERIES, picture
from cmt.text.display import format_optional

FEW_QUESTIONS = 30  # below this number of questions a chart carries a warning
_MAX_LABELS = 5  # on the axis of rounds: more would overlap
_STAGES = ("compress", "bank", "evaluate", "canaries")


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, its table and its basis."""

    name: str
    title: str
    note: str  # a sentence below the title
    draw: Callable[[Figure], None]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    basis: str  # the slices, compressor, parameters and commit behind its numbers

    @property
    def picture(self) -> Markup:
        """The drawing, as HTML."""
        return picture(self.draw, title=f"{self.title}. {self.note}")


def rounds_chart(entries: Sequence[Entry], basis: str) -> Chart | None:
    """F1 of every system after each round, with its interval; None if no round has a score."""
    scored = [entry for entry in entries if entry.round.memory_scores.get("f1") is not None]
    systems = [
        name for name in ROUND_SYSTEMS if any(name in entry.round.scores for entry in scored)
    ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name in systems:
            style = SYSTEM_STYLES[name]
            rounds = [entry.round.scores for entry in scored]
            draw_f1(axes, rounds, name, label=style.label, color=SERIES[style.series])
        _finish(figure, axes, scored, "F1 (0–100, 95 % interval)")

    def cell(entry: Entry, system: str) -> str:
        scores = entry.round.scores.get(system, {})
        return (
            f"{score(scores.get('f1'))} ({interval(scores.get('f1_low'), scores.get('f1_high'))})"
        )

    rows = [[entry.round.round_id, *(cell(entry, name) for name in systems)] for entry in scored]
    head = ["round", *(f"{system_label(name)}, F1" for name in systems)]
    note = (
        "On the questions of the round’s slice and a sample of earlier ones, each as of its "
        "own date."
    )
    note += few_questions(entry.asked for entry in scored)
    return Chart("rounds", "F1 after each round", note, draw, head, rows, basis) if rows else None


def seconds_chart(entries: Sequence[Entry], basis: str) -> Chart | None:
    """Seconds of each stage of each round; None if no round has them."""
    timed = [entry for entry in entries if entry.round.seconds]
    seconds = {stage: [entry.round.seconds.get(stage, 0.0) for entry in timed] for stage in _STAGES}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        bottom = [0.0] * len(timed)
        for colour, (stage, heights) in zip(SERIES, seconds.items(), strict=False):
            axes.bar(
                range(len(timed)), heights, bottom=bottom, label=stage, color=colour, width=0.7
            )
            bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
        _finish(figure, axes, timed, "seconds")

    rows = [
        [entry.round.round_id, *(score(values[index]) for values in seconds.values())]
        for index, entry in enumerate(timed)
    ]
    head = ["round", *(f"{stage}, seconds" for stage in seconds)]
    note = "Wall-clock seconds of each round. Its evaluation asks every question of every system."
    return Chart("seconds", "Where the time goes", note, draw, head, rows, basis) if rows else None


def reliability_chart(reliability: Reliability, basis: str) -> Chart | None:
    """Mean F1 against mean confidence of the answers in each bin, with the diagonal; None without
    answers.
    """
    if reliability.error is None:
        return None
    filled = [bin_ for bin_ in reliability.bins if bin_.count]
    points = [(bin_.confidence or 0.0, 100 * (bin_.outcome or 0.0)) for bin_ in filled]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot((0, 1), (0, 100), color=FAINT, linestyle="--", label="perfectly calibrated")
        axes.plot(*zip(*points, strict=True), color=SERIES[0], marker="o", label="answers")
        axes.set(xlabel="confidence", ylabel="F1 (0–100)", xlim=(0, 1.02), ylim=(0, 105))
        axes.grid(alpha=0.3)
        figure.legend(loc="outside upper left", ncols=2)

    rows = [
        [f"{bin_.low:.1f} – {bin_.high:.1f}", str(bin_.count), f"{confidence:.2f}", score(f1)]
        for bin_, (confidence, f1) in zip(filled, points, strict=True)
    ]
    note = f"Expected calibration error {reliability.error:.3f} of {reliability.count} answers. "
    note += "Refused questions are left out: they have no F1."
    note += few_questions([reliability.count])
    head = ["confidence", "answers", "mean confidence", "mean F1"]
    return Chart("reliability", "F1 against confidence", note, draw, head, rows, basis)


def score(value: float | None) -> str:
    """A score or a number of seconds with one decimal; "–" for None."""
    return format_optional(value, ".1f")


def interval(low: float | None, high: float | None) -> str:
    """An interval with one decimal; empty if a bound is None."""
    return "" if low is None or high is None else f"{low:.1f} – {high:.1f}"


def few_questions(counts: Iterable[int]) -> str:
    """A warning for a note if a number of `counts` is below FEW_QUESTIONS, else ""; a count of 0
    means unknown.
    """
    fewest = min(filter(None, counts), default=FEW_QUESTIONS)
    if fewest >= FEW_QUESTIONS:
        return ""
    return (
        f" From {fewest} question{'s' if fewest > 1 else ''} only: small differences are "
        "not significant."
    )


def _finish(figure: Figure, axes: Axes, entries: Sequence[Entry], label: str) -> None:
    """Add the axis of rounds, the label of the other axis, the grid and the legend."""
    step = -(-len(entries) // _MAX_LABELS) or 1
    names = [entry.round.round_id for entry in entries]
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.set(ylabel=label, ylim=(0, 1.05 * axes.get_ylim()[1]))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside upper left", ncols=3)
