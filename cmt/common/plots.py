"""Plots of scores as PNG: F1 after each round, by slice, and of each system. Equal input, equal
bytes.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.common.storage import write_bytes
from cmt.common.systems import SYSTEM_STYLES, ScoresBySystem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWN = ("cmt", "rag", "closed")  # in the order of the legend
_MAX_LABELS = 16  # on the axis of rounds: more would overlap


def round_curve(*, rounds: Sequence[tuple[str, ScoresBySystem]], path: Path) -> None:
    """Draw F1 of each system and recall@K after each of `rounds`, pairs (slice_id, scores), to the
    PNG `path`.
    """
    figure = _new_figure(8, 6)
    f1_axes, recall_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    by_system = [scores for _, scores in rounds]

    # 1. F1, a line a system
    for name in _DRAWN:
        if any(name in scores for scores in by_system):
            style = SYSTEM_STYLES[name]
            draw_f1(f1_axes, by_system, name, label=style.short_label, color=style.colour)
    f1_axes.set(
        ylabel="F1 (0–100, 95 % interval)",
        title="Questions answered after each round",
        ylim=(0, None),
    )
    if any(by_system):
        f1_axes.legend()

    # 2. recall of the memory
    recall = [rows["cmt"]["recall"] if "cmt" in rows else None for rows in by_system]
    places = [place for place, value in enumerate(recall) if value is not None]
    memory = SYSTEM_STYLES["cmt"]
    recall_axes.plot(
        places, [recall[place] for place in places], color=memory.colour, marker=memory.marker
    )
    recall_axes.set(ylabel="recall@K of CMT", xlabel="slice", ylim=(0, 1.05))

    # 3. the shared axis of rounds
    step = -(-len(rounds) // _MAX_LABELS) or 1
    recall_axes.set_xticks(
        range(0, len(rounds), step),
        [slice_id for slice_id, _ in rounds[::step]],
        rotation=30,
        ha="right",
    )
    for axes in (f1_axes, recall_axes):
        axes.grid(alpha=0.3)
    _save(figure, path)


def draw_f1(
    axes: "Axes", rounds: Sequence[ScoresBySystem], name: str, *, label: str, color: str
) -> None:
    """Draw F1 of the system `name`, with its 95 % interval, after each round; rounds without its
    score leave a gap.
    """
    points = {
        index: row
        for index, scores in enumerate(rounds)
        if (row := scores.get(name, {})).get("f1") is not None
    }
    rows: list[Mapping[str, Any]] = [*points.values()]
    f1, marker = [row["f1"] for row in rows], SYSTEM_STYLES[name].marker
    axes.errorbar(
        [*points], f1, yerr=_error_bars(rows), label=label, color=color, marker=marker, capsize=3
    )


def month_curve(*, months: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw F1 by slice with and without retraining to the PNG `path`; `months` as in
    metrics/year.json.
    """
    figure = _new_figure(8, 4)
    axes = figure.subplots()
    places, style = range(len(months)), SYSTEM_STYLES["cmt"]
    axes.plot(
        places,
        [m["f1_shipped"] for m in months],
        label="without",
        color="0.5",
        marker="s",
        linestyle="--",
    )
    axes.plot(
        places,
        [m["f1"] for m in months],
        label="with retraining",
        color=style.colour,
        marker=style.marker,
    )
    axes.set(ylabel="F1 (0–100)", title="Questions of each slice", ylim=(0, None))
    axes.set_xticks(places, [month["slice"] for month in months], rotation=30, ha="right")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def score_bars(*, scores: ScoresBySystem, path: Path) -> None:
    """Draw F1 of each system, with its 95 % interval, as a bar to the PNG `path`."""
    figure = _new_figure(6, 1 + 0.6 * max(1, len(scores)))
    axes = figure.subplots()
    for place, (system, values) in enumerate(scores.items()):
        style = SYSTEM_STYLES[system]
        f1 = values["f1"] or 0.0
        axes.barh(place, f1, color=style.colour, xerr=_error_bars([values]), capsize=4, height=0.6)
        axes.annotate(
            f"{style.short_label}  {f1:.1f}",
            (0, place),
            xytext=(0, 20),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set(
        xlabel="F1 (0–100, 95 % interval)",
        yticks=[],
        xlim=(0, None),
        ylim=(len(scores) - 0.4, -0.8),
    )
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


def _new_figure(width: float, height: float) -> "Figure":
    """An empty figure, `width` × `height` inches, drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    picture = io.BytesIO()
    # without the version of matplotlib, which would change bytes
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_bytes(path, picture.getvalue())


def _error_bars(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Lengths of each interval below and above its F1: (2, n)."""
    below = [row["f1"] - row["f1_low"] for row in rows]
    above = [row["f1_high"] - row["f1"] for row in rows]
    # rounding may put the mean outside its percentile interval
    return [[max(0.0, length) for length in side] for side in (below, above)]
