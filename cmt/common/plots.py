"""Plots of scores: a curve over the rounds, and bars of one evaluation. Equal scores give equal bytes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.common.storage import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# system → label, colour, marker; the markers keep the curves apart when printed in grey
_STYLES = {
    "cmt": ("CMT", "#0b5394", "o"),
    "rag": ("RAG top-1", "#b45f06", "s"),
    "closed": ("closed-book", "#666666", "^"),
}
_MAX_TICK_LABELS = 16


def round_curve(*, rounds: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """Plot the F1 of every system (0–100, with its interval) and recall@K (0–1) after each round; write it to `path`.

    `rounds`: (slice_id, result of `Evaluation.to_json`) in order. `path` becomes a PNG.
    """
    figure = _figure(8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    by_system = [{row["row"]: row for row in scores["rows"]} for _, scores in rounds]  # one dict a round
    # 1. F1; a round without the system is a gap in its markers
    for name, (label, colour, marker) in _STYLES.items():
        points = [(place, rows[name]) for place, rows in enumerate(by_system) if name in rows]
        if not points:
            continue
        places, f1 = [place for place, _ in points], [row["f1"] for _, row in points]
        error_bars = _error_bars([row for _, row in points])
        upper.errorbar(places, f1, yerr=error_bars, label=label, color=colour, marker=marker, capsize=3)
    upper.set(ylabel="F1 (0–100, 95 % interval)", title="Questions answered after each round", ylim=(0, None))
    if any(by_system):
        upper.legend()
    # 2. recall@K of the memory
    recall = [rows["cmt"]["recall"] if "cmt" in rows else None for rows in by_system]
    _, colour, marker = _STYLES["cmt"]
    places = [place for place, value in enumerate(recall) if value is not None]
    lower.plot(places, [recall[place] for place in places], color=colour, marker=marker)
    lower.set(ylabel="recall@K of CMT", xlabel="slice", ylim=(0, 1.05))
    step = -(-len(rounds) // _MAX_TICK_LABELS) or 1
    lower.set_xticks(range(0, len(rounds), step), [name for name, _ in rounds[::step]], rotation=30, ha="right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    _save(figure, path)


def score_bars(*, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot the F1 of `rows` (0–100, with its interval; rows as in `Evaluation.to_json`) and write a PNG to `path`."""
    figure = _figure(6, 1 + 0.6 * max(1, len(rows)))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        label, colour, _ = _STYLES[row["row"]]
        axes.barh(place, row["f1"], color=colour, xerr=_error_bars([row]), capsize=4, height=0.6)
        axes.annotate(f"{label}  {row['f1']:.1f}", (0, place), xytext=(0, 20), textcoords="offset points", fontsize=9)
    axes.set(xlabel="F1 (0–100, 95 % interval)", yticks=[], xlim=(0, None), ylim=(len(rows) - 0.4, -0.8))
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of `width` × `height` inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    picture = io.BytesIO()
    # without the Matplotlib version, which would change the bytes
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_bytes(path, picture.getvalue())


def _error_bars(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """How far the interval of each row's F1 reaches below and above it: 2 lists of `len(rows)` values."""
    below = [row["f1"] - row["ci"][0] for row in rows]
    above = [row["ci"][1] - row["f1"] for row in rows]
    # rounding can put the mean outside its percentile interval, and error bars must not be negative
    return [[max(0.0, length) for length in side] for side in (below, above)]
