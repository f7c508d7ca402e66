"""A measured curve: its points, its files and its plot."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import pyarrow as pa

from cmt.common.storage import read_json, write_bytes, write_json, write_table
from cmt.errors import StreamError
from cmt.evaluation.metrics import mark, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmt.bank.bank import Bank


class Point(TypedDict):
    """A point of a curve: the scores of one set of questions on one state of a bank."""

    series: str
    """Name of the line or bar."""
    x: float
    """Position on the first axis."""
    n: int
    """Number of questions."""
    em: float
    """0–100, like `em_prefix`, `f1` and its 95 % bootstrap interval."""
    em_prefix: float
    f1: float
    f1_low: float
    f1_high: float
    recall: float
    """Share of questions whose gold document is among the K selected ones, 0–1."""
    kept: NotRequired[float | None]
    """F1 in % of the first point's; None if it does not apply."""
    known: NotRequired[float | None]
    """Share of answers with an F1 of at least 50, in %; None if it does not apply."""
    documents: int
    """In the bank."""
    memories: int
    """In the bank."""
    bytes: int
    """Of the bank."""
    seconds: float
    """Wall-clock seconds a question, asked in batches."""
    first_token: NotRequired[float | None]
    """Median seconds to the first token of a question that is asked alone."""


POINT_SCHEMA = pa.schema(
    [
        pa.field("series", pa.string(), nullable=False),
        pa.field("x", pa.float64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("em", pa.float64(), nullable=False),
        pa.field("em_prefix", pa.float64(), nullable=False),
        pa.field("f1", pa.float64(), nullable=False),
        pa.field("f1_low", pa.float64(), nullable=False),
        pa.field("f1_high", pa.float64(), nullable=False),
        pa.field("recall", pa.float64(), nullable=False),
        pa.field("kept", pa.float64()),
        pa.field("known", pa.float64()),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("memories", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("first_token", pa.float64()),
    ]
)
"""A row a `Point`."""
_COLOUR = "#0b5394"
_LOG_FACTOR = 10  # positions that span more than this factor are drawn on a logarithmic axis, or the first would crowd


@dataclass(frozen=True)
class Curve:
    """A curve, with the inputs of its measurement."""

    name: str
    title: str
    axes: Mapping[str, str]
    """Column of `points` → label, for each axis over which F1 is drawn; if empty, each point is a bar."""
    points: pa.Table
    """POINT_SCHEMA, in the order of measurement."""
    lineage: Mapping[str, Any]
    """Digests of slices, compressor, LM, params and bank, and the git commit."""

    def to_json(self) -> dict[str, Any]:
        """The inverse of `read`."""
        return {
            "curve": self.name,
            "title": self.title,
            "axes": dict(self.axes),
            "lineage": dict(self.lineage),
            "points": self.points.to_pylist(),
        }


def point(records: pa.Table, *, bank: "Bank", series: str, x: float | None = None, seconds: float, seed: int) -> Point:
    """Score `records` (RECORD_SCHEMA), answered from `bank` in `seconds`. `x` is by default the number of documents."""
    marks = mark(records["cmt"].to_pylist(), records["golds"].to_pylist())
    scores, stats = summarise(marks, recalled=records["recalled"].to_pylist(), seed=seed), bank.stats()
    return {
        "series": series,
        "x": float(stats["documents"] if x is None else x),
        "n": scores.n,
        "em": scores.em,
        "em_prefix": scores.em_prefix,
        "f1": scores.f1,
        "f1_low": scores.ci[0],
        "f1_high": scores.ci[1],
        "recall": cast(float, scores.recall),
        "documents": int(stats["documents"]),
        "memories": int(stats["rows"]),
        "bytes": int(stats["bytes"]),
        "seconds": seconds / max(scores.n, 1),
    }


def points_table(points: Sequence[Mapping[str, Any]]) -> pa.Table:
    """`points` as a table in POINT_SCHEMA."""
    return pa.Table.from_pylist(list(points), schema=POINT_SCHEMA)


def write(curve: Curve, folder: Path) -> list[Path]:
    """Write `<name>.json`, `<name>.parquet` and `<name>.png` into `folder`; raises StreamError if that fails."""
    files = [folder / f"{curve.name}.{suffix}" for suffix in ("json", "parquet", "png")]
    try:
        write_json(files[0], curve.to_json())
        write_table(files[1], curve.points)
        write_bytes(files[2], _png(curve))
    except OSError as error:
        raise StreamError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error
    return files


def read(file: Path) -> Curve:
    """The curve in a JSON file of `write`; raises StreamError if it is not one."""
    try:
        raw = read_json(file, dict[str, Any])
        return Curve(raw["curve"], raw["title"], dict(raw["axes"]), points_table(raw["points"]), dict(raw["lineage"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StreamError(f"{file} is not a curve ({error}): delete it, or run `cmt curves` again") from None


def draw(curve: Curve, figure: "Figure", *, colour: str = _COLOUR, ink: str = "black") -> None:
    """Draw F1 with its interval over each axis of the curve, side by side, or as bars, into an empty figure."""
    rows = curve.points.to_pylist()
    panels = figure.subplots(1, max(1, len(curve.axes)), squeeze=False, sharey=True)[0]
    if not curve.axes:
        bars(panels[0], [(row["series"], row["f1"], row["f1_low"], row["f1_high"]) for row in rows], [colour], ink)
    for axes, (column, label) in zip(panels, curve.axes.items(), strict=False):
        _draw_line(axes, rows, column, colour, max_ticks=8 // len(curve.axes))
        axes.set(xlabel=label, ylim=(0, None))
    if curve.axes:
        panels[0].set_ylabel("F1 (0–100, 95 % interval)")


def _draw_line(axes: "Axes", rows: Sequence[Mapping[str, Any]], column: str, colour: str, *, max_ticks: int) -> None:
    from matplotlib.ticker import EngFormatter

    positions = [row[column] for row in rows]
    # rounding may put the mean outside its percentile interval
    below = [max(0.0, row["f1"] - row["f1_low"]) for row in rows]
    above = [max(0.0, row["f1_high"] - row["f1"]) for row in rows]
    axes.errorbar(positions, [row["f1"] for row in rows], yerr=[below, above], color=colour, marker="o", capsize=3)
    if 0 < _LOG_FACTOR * min(positions) < max(positions):
        axes.set_xscale("log", base=2)
    else:
        axes.locator_params(axis="x", nbins=max_ticks)
    axes.xaxis.set_major_formatter(EngFormatter("B") if column == "bytes" else "{x:,g}")
    axes.grid(alpha=0.3)


def bars(axes: "Axes", rows: Sequence[tuple[str, float, float, float]], colours: Sequence[str], ink: str) -> None:
    """Draw a bar for each (label, F1, lower bound, upper bound), with its label above and its interval in `ink`."""
    for place, (label, f1, low, high) in enumerate(rows):
        lengths = [[max(0.0, f1 - low)], [max(0.0, high - f1)]]
        axes.barh(place, f1, xerr=lengths, color=colours[place % len(colours)], ecolor=ink, height=0.4, capsize=3)
        axes.annotate(f"{label}  {f1:.1f}", (0, place - 0.3), va="bottom")
    axes.set(xlabel="F1 (0–100, 95 % interval)", yticks=[], xlim=(0, None), ylim=(len(rows) - 0.6, -0.75))
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def _png(curve: Curve) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * max(1, len(curve.axes)) + 2, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    draw(curve, figure)
    figure.suptitle(curve.title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
