"""A measured curve: its points as a table, its files, its picture."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cmt.common.storage import write_bytes, write_json, write_table
from cmt.errors import StreamError
from cmt.evaluation.metrics import mark, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmt.bank.bank import Bank

POINT_SCHEMA = pa.schema(
    [
        pa.field("series", pa.string(), nullable=False),  # what a line or a bar stands for
        pa.field("x", pa.float64(), nullable=False),  # the place on the first axis
        pa.field("n", pa.int64(), nullable=False),  # questions
        pa.field("em", pa.float64(), nullable=False),  # 0–100, as the next four
        pa.field("em_prefix", pa.float64(), nullable=False),
        pa.field("f1", pa.float64(), nullable=False),
        pa.field("f1_low", pa.float64(), nullable=False),  # its 95 % bootstrap interval
        pa.field("f1_high", pa.float64(), nullable=False),
        pa.field("recall", pa.float64(), nullable=False),  # 0–1: the right document among the K selected
        pa.field("kept", pa.float64()),  # F1 in % of the first point's; null where that says nothing
        pa.field("known", pa.float64()),  # answers known (F1 of at least 50) in %; null where that is not asked
        pa.field("documents", pa.int64(), nullable=False),  # in the bank
        pa.field("memories", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),  # wall-clock a question, asked in batches
        pa.field("first_token", pa.float64()),  # median seconds to the first token of a question asked alone
    ]
)
_COLOUR = "#0b5394"
# over an axis that spans more than this factor the points would crowd at its beginning
_WIDE = 10


@dataclass(frozen=True)
class Curve:
    """The points of one curve and what they rest on."""

    name: str
    title: str
    axes: Mapping[str, str]
    """Column of `points` → what it counts, for each axis over which F1 is drawn; none: a bar a series."""
    points: pa.Table
    """POINT_SCHEMA, in the order of measuring."""
    lineage: Mapping[str, Any]
    """Digests of slices, compressor, LM, params and bank, and the git commit."""

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for json."""
        about = {"curve": self.name, "title": self.title, "axes": dict(self.axes), "lineage": dict(self.lineage)}
        return about | {"points": self.points.to_pylist()}


def point(
    records: pa.Table, *, bank: "Bank", series: str, x: float | None = None, seconds: float, seed: int
) -> dict[str, Any]:
    """A row of POINT_SCHEMA from answers (protocol.RECORD_SCHEMA) given in `seconds`; `x` is else the documents."""
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
        "recall": scores.recall,
        "documents": stats["documents"],
        "memories": stats["rows"],
        "bytes": stats["bytes"],
        "seconds": seconds / max(scores.n, 1),
    }


def table(points: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Points as a table in POINT_SCHEMA."""
    return pa.Table.from_pylist(list(points), schema=POINT_SCHEMA)


def write(curve: Curve, folder: Path) -> list[Path]:
    """Write `<name>.json`, `<name>.parquet` and `<name>.png` into `folder`. StreamError when it cannot be written."""
    files = [folder / f"{curve.name}.{end}" for end in ("json", "parquet", "png")]
    try:
        write_json(files[0], curve.to_json())
        write_table(files[1], curve.points)
        write_bytes(files[2], _png(curve))
    except OSError as error:
        raise StreamError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error
    return files


def read(file: Path) -> Curve:
    """The curve that `write` left in `<name>.json`. StreamError when it is no such file."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return Curve(raw["curve"], raw["title"], dict(raw["axes"]), table(raw["points"]), dict(raw["lineage"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StreamError(f"{file} is not a curve ({error}): delete it, or run `cmt curves` again") from None


def draw(curve: Curve, figure: "Figure", *, colour: str = _COLOUR, ink: str = "black") -> None:
    """F1 with its interval over each of the curve's axes, side by side, or as bars, into an empty figure."""
    rows = curve.points.to_pylist()
    panels = figure.subplots(1, max(1, len(curve.axes)), squeeze=False, sharey=True)[0]
    if not curve.axes:
        bars(panels[0], [(row["series"], row["f1"], row["f1_low"], row["f1_high"]) for row in rows], [colour], ink)
    for axes, (column, label) in zip(panels, curve.axes.items(), strict=False):
        _draw_line(axes, rows, column, colour, ticks=8 // len(curve.axes))
        axes.set(xlabel=label, ylim=(0, None))
    if curve.axes:
        panels[0].set_ylabel("F1 (0–100, 95 % interval)")


def _draw_line(axes: "Axes", rows: Sequence[Mapping[str, Any]], column: str, colour: str, *, ticks: int) -> None:
    from matplotlib.ticker import EngFormatter

    places = [row[column] for row in rows]
    axes.errorbar(places, [row["f1"] for row in rows], yerr=_reach(rows), color=colour, marker="o", capsize=3)
    if 0 < _WIDE * min(places) < max(places):
        axes.set_xscale("log", base=2)
    else:
        axes.locator_params(axis="x", nbins=ticks)
    axes.xaxis.set_major_formatter(EngFormatter("B") if column == "bytes" else "{x:,g}")
    axes.grid(alpha=0.3)


def bars(axes: "Axes", rows: Sequence[tuple[str, float, float, float]], colours: Sequence[str], ink: str) -> None:
    """A bar for each (label, F1, its lower and upper bound), its label above it, the interval in `ink`."""
    for place, (label, f1, low, high) in enumerate(rows):
        reach = [[max(0.0, f1 - low)], [max(0.0, high - f1)]]
        axes.barh(place, f1, xerr=reach, color=colours[place % len(colours)], ecolor=ink, height=0.4, capsize=3)
        axes.annotate(f"{label}  {f1:.1f}", (0, place - 0.3), va="bottom")
    axes.set(xlabel="F1 (0–100, 95 % interval)", yticks=[], xlim=(0, None), ylim=(len(rows) - 0.6, -0.75))
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def _reach(rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """How far each interval reaches below and above; the mean may leave its percentile interval by rounding."""
    below = [max(0.0, row["f1"] - row["f1_low"]) for row in rows]
    return [below, [max(0.0, row["f1_high"] - row["f1"]) for row in rows]]


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
