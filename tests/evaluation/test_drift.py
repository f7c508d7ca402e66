"""Drift: seen when it is there, and rarely when it is not."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmt.config import DriftParams
from cmt.evaluation.drift import FIGURES, Drift, compare, find_drift
from cmt.evaluation.metrics import Floats
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, open_workspace


def figures(f1: float, *, n: int, unknown: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Figures of `n` questions, right or wrong, with these means (0–1)."""
    random = np.random.default_rng(seed)
    right = 100.0 * (random.random(n) < f1)
    return {"f1": right, "recall": right, "unknown": 100.0 * (random.random(n) < unknown)}


def drifted(newest: Mapping[str, Floats], reference: Mapping[str, Floats]) -> set[str]:
    documents = [str(row) for row in range(len(newest["f1"]))]
    earlier = [str(row) for row in range(len(reference["f1"]))]
    changes = compare(newest, reference, (documents, earlier), DriftParams(), seed=0)
    return {name for name, change in changes.items() if change.drifted}


def test_a_fall_of_f1_and_a_rise_of_the_unknown_are_drift() -> None:
    assert drifted(figures(0.4, n=80), figures(0.7, n=240, seed=1)) == {"f1", "recall"}
    assert drifted(figures(0.7, n=80, unknown=0.5), figures(0.7, n=240, seed=1)) == {"unknown"}
    # for the better is none
    assert (
        drifted(figures(0.9, n=80, unknown=0.0), figures(0.5, n=240, unknown=0.4, seed=1)) == set()
    )


def test_a_stream_that_does_not_change_seldom_raises_an_alarm() -> None:
    pairs = [(figures(0.7, n=80, seed=n), figures(0.7, n=240, seed=1000 + n)) for n in range(200)]
    alarms = sum(bool(drifted(*pair)) for pair in pairs)
    assert alarms <= 20  # 10 are expected at most; more than 20 have a chance of 1 in 1,000


def test_the_newest_round_is_compared_with_those_before_it(adapted_project: Path) -> None:
    workspace = open_workspace(adapted_project, drift__reference_rounds=1)
    found = find_drift(workspace.project)
    assert isinstance(found, Drift)
    assert (found.slice_id, found.reference) == (FEBRUARY, (JANUARY,))
    assert found.changes.keys() == FIGURES.keys()
    assert 0 < found.questions <= workspace.project.store.slice(FEBRUARY).n_questions
    assert re.search(r"f1 \d+\.\d against \d+\.\d, [+-]\d+\.\d \([+-]", str(found))
    assert found.to_json()["drifted"] is found.drifted


def test_too_few_rounds_say_nothing(adapted_project: Path) -> None:
    assert find_drift(open_workspace(adapted_project, drift__reference_rounds=2).project) is None


def test_rounds_without_questions_of_their_own_slice_do_not_count(
    adapted_project: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapted_project, tmp_path / "project"))
    before = open_workspace(folder).rounds()
    ingest_more(folder, month=3, doc_ids=["march"])
    workspace = open_workspace(folder, drift__reference_rounds=1)
    assert workspace.update().questions  # of the earlier slices
    assert find_drift(workspace.project) is None
    # the round of a later slice is compared with the last one that has questions
    february, march = replace(before[1], number=3), replace(workspace.rounds()[2], number=2)
    workspace.project.ledger.write(february, march)
    found = find_drift(workspace.project)
    assert found and (found.slice_id, found.reference) == (FEBRUARY, (JANUARY,))
