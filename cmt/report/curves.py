"""The curves of the report: what `cmt curves` left in the state folder; on all but large banks the others too."""

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
"""Memories from which a report measures nothing by itself."""
SAME = ("compressor", "lm", "params", "bank")


@dataclass(frozen=True)
class MeasuredCurve:
    """A curve, and whether it belongs to the bank as it is now."""

    curve: Curve
    current: bool


def folder(resources: "Resources") -> Path:
    """Where curves are kept."""
    return resources.state / "curves"


def measured_curves(resources: "Resources", *, limit: int, progress: Progress) -> tuple[list[MeasuredCurve], list[str]]:
    """The curves there are, and the names of those that nobody measured. `limit`: most questions of a point."""
    from cmt.evaluation.curves import CURVES
    from cmt.evaluation.testbed import BankTestbed

    testbed = BankTestbed.of(resources, progress=progress)
    small = testbed.answerer.bank.count_rows() < LARGE
    found: list[MeasuredCurve] = []
    for name in CURVES:
        stored = _stored(folder(resources) / f"{name}.json", testbed.lineage)
        if small and not (stored and stored.current):
            stored = _measure(testbed, name, folder(resources), limit) or stored
        found += [stored] if stored else []
    return found, [name for name in CURVES if name not in {one.curve.name for one in found}]


def _stored(file: Path, now: Mapping[str, object]) -> MeasuredCurve | None:
    if not file.is_file():
        return None
    try:
        curve = read(file)
    except StreamError as error:
        log.warning("%s", error)
        return None
    return MeasuredCurve(curve, all(curve.lineage.get(name) == now[name] for name in SAME))


def _measure(testbed: "BankTestbed", name: str, into: Path, limit: int) -> MeasuredCurve | None:
    """None where the stream has no questions for it."""
    from cmt.evaluation.curves import CURVES

    try:
        curve = CURVES[name](testbed, limit=limit)
    except StreamError as error:
        log.info("the curve %s is left out: %s", name, error)
        return None
    write(curve, into)
    return MeasuredCurve(curve, True)
