"""Drift: whether answers to questions of the newest slice are worse than answers of earlier slices.

Three figures are compared by the difference of two means, with a bootstrap interval that is
clustered by document (`cmt.evaluation.metrics`). A figure drifted if its interval lies wholly on
the bad side of 0. The level is `drift.false_alarm_rate` divided by the number of figures
(Bonferroni), so a stream that does not change raises an alarm in at most that share of the rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.rounds import Round
from cmt.common.difference import Difference
from cmt.config import DriftParams
from cmt.evaluation.metrics import Floats, unpaired_bootstrap
from cmt.evaluation.round_records import is_own, read_records
from cmt.project import Project

FIGURES = {"f1": -1, "recall": -1, "unknown": 1}
"""Compared figure → sign of a change for the worse. `recall`: share of questions whose document is
found; `unknown`: share of questions answered "not in memory"."""


@dataclass(frozen=True)
class FigureDrift:
    """One figure, in the newest slice and before, in per cent."""

    newest: float
    reference: float
    difference: Difference  # newest minus reference, with its interval
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """The newest round compared with the rounds before it."""

    slice_id: str
    reference: tuple[str, ...]  # the slices that it is compared with
    questions: int
    reference_questions: int
    changes: Mapping[str, FigureDrift]  # by the names of FIGURES

    @property
    def drifted(self) -> bool:
        """Whether one of the figures changed for the worse."""
        return any(change.drifted for change in self.changes.values())

    def to_json(self) -> dict[str, Any]:
        """All values, nested."""
        changes = {
            name: asdict(change) | {"difference": [round(value, 2) for value in change.difference]}
            for name, change in self.changes.items()
        }
        return asdict(self) | {"changes": changes, "drifted": self.drifted}

    def __str__(self) -> str:
        parts = [
            f"{name} {change.newest:.1f} against {change.reference:.1f}, {change.difference}"
            + (": drift" if change.drifted else "")
            for name, change in self.changes.items()
        ]
        return f"{self.slice_id} compared with {', '.join(self.reference)}: {'; '.join(parts)}"


def find_drift(project: Project) -> Drift | None:
    """Compare the newest committed round of the compressor in use with the `drift.reference_rounds`
    rounds before it.

    Only the questions of each slice itself count, and rounds without any do not. None if the newest
    round has none, or with fewer rounds before it.
    """
    params = project.params.drift
    # 1. the records of each round's own slice
    rounds: list[Round] = []
    records: list[pa.Table] = []
    for round_ in reversed(
        [round_ for round_ in project.history.rounds() if round_.state == "committed"]
    ):
        answers = read_records(project, round_)
        own_answers = answers and answers.filter(is_own(project, round_, answers))
        if own_answers:
            rounds.insert(0, round_)
            records.insert(0, own_answers)
        if not rounds or len(rounds) > params.reference_rounds:
            break
    if len(rounds) <= params.reference_rounds:
        return None
    # 2. the figures of the newest slice and of those before it
    *before, newest = map(figures_of, records)
    reference = {name: np.concatenate([figures[name] for figures in before]) for name in FIGURES}
    *earlier, latest = [table["doc_id"].to_pylist() for table in records]
    return Drift(
        slice_id=rounds[-1].slice_id,
        reference=tuple(round_.slice_id for round_ in rounds[:-1]),
        questions=len(newest["f1"]),
        reference_questions=len(reference["f1"]),
        changes=compare(
            newest,
            reference,
            (latest, list(chain.from_iterable(earlier))),
            params,
            seed=project.params.seed,
        ),
    )


def compare(
    newest: Mapping[str, Floats],
    reference: Mapping[str, Floats],
    documents: tuple[Sequence[str], Sequence[str]],
    params: DriftParams,
    *,
    seed: int,
) -> dict[str, FigureDrift]:
    """The changes of all FIGURES, each given for n questions (n,) in per cent.

    `documents`: id of the document of each question, of the newest slice and of the reference.
    """
    changes = {}
    for name, worse in FIGURES.items():
        tail = params.false_alarm_rate / len(
            FIGURES
        )  # one-sided: only a change for the worse is drift
        difference = unpaired_bootstrap(
            newest[name], reference[name], documents, tail=tail, seed=seed
        )
        drifted = difference.high < 0 if worse < 0 else difference.low > 0
        changes[name] = FigureDrift(
            float(newest[name].mean()), float(reference[name].mean()), difference, drifted
        )
    return changes


def figures_of(records: pa.Table) -> dict[str, Floats]:
    """The FIGURES of each question of `records` (RECORD_SCHEMA): (n,) in per cent."""
    return {
        "f1": 100 * records["cmt_f1"].to_numpy(),
        "recall": 100 * records["recalled"].to_numpy().astype(np.float64),
        "unknown": 100 * pc.equal(records["cmt"], "").to_numpy().astype(np.float64),
    }
