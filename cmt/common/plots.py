"""Scores as pictures: the curve of the rounds, and the bars of one evaluation. The same scores give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.common.storage import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# name, colour and marker differ, so that the curves can be told apart in grey as well
_STYLES = {
    "cmt": ("CMT", "#0b5394", "o"),
    "rag": ("RAG top-1", "#b45f06", "s"),
    "closed": ("closed-book", "#666666", "^"),
}
_LABELS = 16


def round_curve(*, rounds: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """Write F1 of every row (with its interval) and recall@K after each round to `path`, a PNG.

    `rounds`: (slice_id, what `Evaluation.to_json` gave), in order. The same rounds give the same bytes.
    """
    figure = _figure(8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    rows = [{row["row"]: row for row in scores["rows"]} for _, scores in rounds]
    for name in _STYLES:
        _draw_f1(upper, name, [found.get(name) for found in rows])
    upper.set(ylabel="F1 (0–100, 95 % interval)", title="Questions answered after each round", ylim=(0, None))
    if any(rows):
        upper.legend()
    recall = [found["cmt"]["recall"] if "cmt" in found else None for found in rows]
    _, colour, marker = _STYLES["cmt"]
    seen = [place for place, value in enumerate(recall) if value is not None]
    lower.plot(seen, [recall[place] for place in seen], color=colour, marker=marker)
    lower.set(ylabel="recall@K of CMT", xlabel="slice", ylim=(0, 1.05))
    step = -(-len(rounds) // _LABELS) or 1
    lower.set_xticks(range(0, len(rounds), step), [name for name, _ in rounds[::step]], rotation=30, ha="right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    _save(figure, path)


def score_bars(*, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write F1 (with its interval) of each of `rows`, as in `Evaluation.to_json`, to `path`, a PNG."""
    figure = _figure(6, 1 + 0.6 * max(1, len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        label, colour, _ = _STYLES[row["row"]]
        axes.barh(place, row["f1"], color=colour, xerr=_bars([row]), capsize=4, height=0.6)
        axes.annotate(f"{label}  {row['f1']:.1f}", (0, place), xytext=(0, 20), textcoords="offset points", fontsize=9)
    axes.set(xlabel="F1 (0–100, 95 % interval)", yticks=[], xlim=(0, None), ylim=(len(rows) - 0.4, -0.8))
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_bytes(path, picture.getvalue())


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """How far the interval of each row's F1 reaches below and above it."""
    below = [row["f1"] - row["ci"][0] for row in rows]
    above = [row["ci"][1] - row["f1"] for row in rows]
    # the mean may leave its percentile interval by rounding
    return [[max(0.0, width) for width in side] for side in (below, above)]


def _draw_f1(axes: "Axes", name: str, rows: Sequence[Mapping[str, Any] | None]) -> None:
    """One curve; a round without that row is a gap in its markers."""
    there = [(place, row) for place, row in enumerate(rows) if row is not None]
    if not there:
        return
    label, colour, marker = _STYLES[name]
    places, f1 = [place for place, _ in there], [row["f1"] for _, row in there]
    bars = _bars([row for _, row in there])
    axes.errorbar(places, f1, yerr=bars, label=label, color=colour, marker=marker, capsize=3)
