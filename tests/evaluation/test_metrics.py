"""Metrics against values computed by hand, and their properties over arbitrary text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmt.errors import ConfigError
from cmt.evaluation import metrics
from cmt.evaluation.metrics import (
    bootstrap_interval,
    exact_match,
    f1,
    mark,
    paired_bootstrap,
    prefix_match,
    summarise,
)

# words that cover all cases of the normalisation, and arbitrary text
phrases = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(["the", "a", "An", "Port", "port", "Ellery", "12,5", "!", "…", "żuk"])
    ).map(" ".join),
)
golds = st.lists(phrases, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("the Eiffel Tower!", ["Eiffel tower"], 1.0),
        ("Eiffel", ["Eiffel tower"], 0.0),
        ("1969", ["in 1969", "1969"], 1.0),
        ("", ["Ellery"], 0.0),
        ("the", ["a"], 1.0),
        ("مرحبا", ["مرحبا"], 1.0),
        ("naive", ["naïve"], 0.0),
        ("October 19, 1512", ["19 October 1512"], 0.0),
        ("ABC Sports", ["the ABC Sports"], 1.0),
        (
            "$37.6 million",
            ["37.6 million"],
            1.0,
        ),  # the official script drops the sign with the punctuation
        ("2-to-1", ["2 to 1"], 0.0),  # and hyphens without leaving a space
    ],
)
def test_exact_match_accepts_any_gold_answer(
    prediction: str, answers: list[str], expected: float
) -> None:
    assert exact_match(prediction, answers) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Tomas Vell, an engineer of the town", ["Tomas Vell"], 1.0),
        (
            "Tomas Vellinger",
            ["Tomas Vell"],
            1.0,
        ),  # the cut is made at a letter, as the published numbers do
        ("Tomas", ["Tomas Vell"], 0.0),
        ("engineer Tomas Vell", ["Tomas Vell"], 0.0),
        ("the 1874 lighthouse", ["in the year 1874", "1874"], 1.0),
        ("in the year 1874", ["in the year 1874", "1874"], 0.0),  # the shortest gold alone counts
        ("anything", ["the"], 0.0),
        ("", ["Tomas"], 0.0),
    ],
)
def test_prefix_match_cuts_to_the_shortest_gold(
    prediction: str, answers: list[str], expected: float
) -> None:
    assert prefix_match(prediction, answers) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("the cat sat", ["cat sat down"], 0.8),  # 2 common of 2 and 3
        ("forty eggs", ["about forty eggs in spring"], 4 / 7),
        ("ha ha ha", ["ha"], 0.5),  # a repeated word counts as often as in both
        ("ha ha", ["ha ha ha"], 0.8),
        ("sat cat", ["cat sat"], 1.0),  # order does not count
        ("blue", ["red", "dark blue"], 2 / 3),
        ("blue", ["red"], 0.0),
        ("", ["red"], 0.0),
        ("The.", ["red"], 0.0),
        ("", ["the"], 1.0),
        ("Łódź, Poland", ["łódź"], 2 / 3),
    ],
)
def test_f1_is_that_of_the_best_gold_answer(
    prediction: str, answers: list[str], expected: float
) -> None:
    assert f1(prediction, answers) == pytest.approx(expected)


@given(phrases, golds, phrases)
def test_properties_of_exact_match_and_f1(prediction: str, answers: list[str], extra: str) -> None:
    em, overlap = exact_match(prediction, answers), f1(prediction, answers)
    assert em in (0.0, 1.0)
    assert em <= overlap <= 1.0
    assert f1(prediction, [extra]) == pytest.approx(f1(extra, [prediction]))
    # another reference never lowers a score, and every reference has a perfect one
    assert exact_match(prediction, [*answers, extra]) >= em
    assert f1(prediction, [*answers, extra]) >= overlap
    assert all(exact_match(gold, answers) == f1(gold, answers) == 1.0 for gold in answers)
    assert prefix_match(min(answers, key=len), answers) == 1.0


def test_summary_is_in_per_cent_with_recall_as_a_share() -> None:
    marks = mark(
        ["Vell", "forty", "x", "the fungus"],
        [["Vell"], ["forty eggs"], ["y"], ["fungus", "grey mould"]],
    )
    scores = summarise(marks, recalled=[True, True, False, True], seed=1)
    assert (scores.em, scores.em_prefix, scores.recall, scores.n) == (50.0, 50.0, 0.75, 4)
    assert scores.f1 == pytest.approx(100 * (1 + 2 / 3 + 0 + 1) / 4)
    assert 0.0 <= scores.ci[0] <= scores.f1 <= scores.ci[1] <= 100.0
    assert summarise(marks, recalled=None, seed=0).recall is None  # without retrieval
    none = summarise(mark([], []), recalled=[], seed=0)
    assert (none.em, none.em_prefix, none.f1, none.ci, none.recall, none.n) == (
        0,
        0,
        0,
        (0, 0),
        0,
        0,
    )


def test_the_interval_depends_on_the_seed_and_narrows_with_more_questions() -> None:
    few, many = np.tile([0.0, 1.0], 20), np.tile([0.0, 1.0], 2000)
    assert bootstrap_interval(few, seed=3) == bootstrap_interval(few, seed=3)
    uneven = np.random.default_rng(0).random(40)
    assert bootstrap_interval(uneven, seed=3) != bootstrap_interval(uneven, seed=4)
    widths = [
        high - low for low, high in (bootstrap_interval(values, seed=3) for values in (few, many))
    ]
    assert widths[1] < widths[0] / 5


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(0).random(4000)
    low, high = bootstrap_interval(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.1 * half
    )


def test_the_interval_of_many_questions_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 2)
    values = np.ones(5_000_000)
    assert bootstrap_interval(values, seed=0) == (1.0, 1.0)


def test_paired_differences_are_significant_where_single_intervals_overlap() -> None:
    hard = np.random.default_rng(0).random(300) * 0.8
    better = hard + 0.05
    apart = paired_bootstrap(better, hard, seed=0)
    assert apart == pytest.approx((0.05, 0.05, 0.05))
    assert bootstrap_interval(hard, seed=0)[1] > bootstrap_interval(better, seed=0)[0]


def test_the_reversed_difference_has_the_opposite_sign() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 50))
    forward = paired_bootstrap(ours, theirs, seed=5)
    reversed_ = paired_bootstrap(theirs, ours, seed=5)
    assert (forward.mean, forward.low, forward.high) == pytest.approx(
        (-reversed_.mean, -reversed_.high, -reversed_.low)
    )
    assert forward == paired_bootstrap(ours, theirs, seed=5)
    assert forward.low < forward.mean < forward.high
    with pytest.raises(ConfigError, match="same questions"):
        paired_bootstrap(np.ones(3), np.ones(2), seed=0)
