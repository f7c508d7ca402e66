"""Drift: seen when it is there, and rarely when it is not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmt.config import DriftParams
from cmt.evaluation.drift import FIGURES, Drift, compare, find_drift
from cmt.evaluation.metrics import Floats
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace


def figures(f1: float, *, n: int, unknown: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Figures of `n` questions, right or wrong, with these means (0–1)."""
    random = np.random.default_rng(seed)
    right = 100.0 * (random.random(n) < f1)
    return {"f1": right, "recall": right, "unknown": 100.0 * (random.random(n) < unknown)}


def drifted(newest: Mapping[str, Floats], reference: Mapping[str, Floats]) -> set[str]:
    changes = compare(newest, reference, DriftParams(), seed=0)
    return {name for name, change in changes.items() if change.drifted}


def test_a_fall_of_f1_and_a_rise_of_the_unknown_are_drift() -> None:
    assert drifted(figures(0.4, n=80), figures(0.7, n=240, seed=1)) == {"f1", "recall"}
    assert drifted(figures(0.7, n=80, unknown=0.5), figures(0.7, n=240, seed=1)) == {"unknown"}
    # for the better is none
    assert drifted(figures(0.9, n=80, unknown=0.0), figures(0.5, n=240, unknown=0.4, seed=1)) == set()


def test_a_stream_that_does_not_change_seldom_raises_an_alarm() -> None:
    pairs = [(figures(0.7, n=80, seed=n), figures(0.7, n=240, seed=1000 + n)) for n in range(200)]
    alarms = sum(bool(drifted(*pair)) for pair in pairs)
    assert alarms <= 20  # 10 are expected at most; more than 20 have a chance of 1 in 1,000


def test_the_newest_round_is_compared_with_those_before_it(adapted_project: Path) -> None:
    workspace = open_workspace(adapted_project, drift__reference_rounds=1)
    found = find_drift(workspace)
    assert isinstance(found, Drift)
    assert (found.slice_id, found.reference) == (FEBRUARY, (JANUARY,))
    assert found.changes.keys() == FIGURES.keys()
    assert 0 < found.questions <= workspace.store.slice(FEBRUARY).n_questions
    assert re.search(r"f1 \d+\.\d against \d+\.\d, [+-]\d+\.\d \([+-]", str(found))
    assert found.to_json()["drifted"] is found.drifted


def test_too_few_rounds_say_nothing(adapted_project: Path) -> None:
    assert find_drift(open_workspace(adapted_project, drift__reference_rounds=2)) is None
