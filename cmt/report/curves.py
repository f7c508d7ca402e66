"""The curves of the report: those that `cmt curves` stored, and on small banks the missing ones, measured now."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.common.progress import Progress
from cmt.errors import StreamError
from cmt.evaluation.curve import Curve, read, write

if TYPE_CHECKING:
    from cmt.evaluation.testbed import BankTestbed
    from cmt.resources import Resources

log = logging.getLogger(__name__)

LARGE = 20_000
"""Number of memories from which on a report measures nothing by itself."""
IDENTITY = ("compressor", "lm", "params", "bank")
"""Keys of a lineage: if all four are equal, a measurement still holds."""


@dataclass(frozen=True)
class MeasuredCurve:
    """A curve, and whether it was measured on the bank in its present state."""

    curve: Curve
    current: bool


def folder(resources: "Resources") -> Path:
    """The folder in which curves are stored."""
    return resources.state / "curves"


def measured_curves(resources: "Resources", *, limit: int, progress: Progress) -> tuple[list[MeasuredCurve], list[str]]:
    """The curves of a project, and the names of those that are not measured.

    `limit` is the maximum number of questions of a point of a curve that is measured now.
    """
    from cmt.evaluation.curves import CURVES
    from cmt.evaluation.testbed import BankTestbed

    testbed = BankTestbed.of(resources, progress=progress)
    small = testbed.answerer.bank.count_rows() < LARGE
    curves: list[MeasuredCurve] = []
    for name in CURVES:
        measured = _stored(folder(resources) / f"{name}.json", testbed.lineage)
        if small and not (measured and measured.current):
            measured = _measure(testbed, name, folder(resources), limit) or measured
        curves += [measured] if measured else []
    return curves, [name for name in CURVES if name not in {measured.curve.name for measured in curves}]


def _stored(file: Path, lineage: Mapping[str, object]) -> MeasuredCurve | None:
    """The curve in `file`, compared with the present `lineage`; None if there is no readable one."""
    if not file.is_file():
        return None
    try:
        curve = read(file)
    except StreamError as error:
        log.warning("%s", error)
        return None
    return MeasuredCurve(curve, all(curve.lineage.get(name) == lineage[name] for name in IDENTITY))


def _measure(testbed: "BankTestbed", name: str, target: Path, limit: int) -> MeasuredCurve | None:
    """Measure a curve and store it in the folder `target`; None if the stream has no questions for it."""
    from cmt.evaluation.curves import CURVES

    try:
        curve = CURVES[name](testbed, limit=limit)
    except StreamError as error:
        log.info("the report has no curve %s: %s", name, error)
        return None
    write(curve, target)
    return MeasuredCurve(curve, True)
