"""Metrics against values computed by hand, and their properties over arbitrary text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmt.errors import ConfigError
from cmt.evaluation import metrics
from cmt.evaluation.metrics import (
    Floats,
    bootstrap_interval,
    exact_match,
    f1,
    mark,
    paired_bootstrap,
    prefix_match,
    summarise,
    unpaired_bootstrap,
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
        ("in the year 1874", ["in the year 1874", "1874"], 0.0),  # only the shortest gold counts
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
    scores = summarise(marks, list("abcd"), recalled=[True, True, False, True], seed=1)
    assert (scores.em, scores.em_prefix, scores.recall, scores.n) == (50.0, 50.0, 0.75, 4)
    assert scores.f1 == pytest.approx(100 * (1 + 2 / 3 + 0 + 1) / 4)
    assert 0.0 <= scores.ci[0] <= scores.f1 <= scores.ci[1] <= 100.0
    assert summarise(marks, list("abcd"), recalled=None, seed=0).recall is None  # without retrieval
    none = summarise(mark([], []), [], recalled=[], seed=0)
    assert (none.em, none.em_prefix, none.f1, none.ci, none.recall, none.n) == (
        0,
        0,
        0,
        (0, 0),
        0,
        0,
    )


def each_its_own(values: Floats) -> list[str]:
    """A document for each value."""
    return [f"doc-{row}" for row in range(len(values))]


def test_the_interval_depends_on_the_seed_and_narrows_with_more_questions() -> None:
    few, many = np.tile([0.0, 1.0], 20), np.tile([0.0, 1.0], 2000)
    of_few = bootstrap_interval(few, each_its_own(few), seed=3)
    assert of_few == bootstrap_interval(few, each_its_own(few), seed=3)
    uneven = np.random.default_rng(0).random(40)
    by_seed = {bootstrap_interval(uneven, each_its_own(uneven), seed=seed) for seed in (3, 4)}
    assert len(by_seed) == 2
    low, high = bootstrap_interval(many, each_its_own(many), seed=3)
    assert high - low < (of_few[1] - of_few[0]) / 5


def test_one_question_a_document_gives_the_bootstrap_of_the_questions() -> None:
    values = np.random.default_rng(0).random(50)
    random = np.random.default_rng(7)
    means = values[random.integers(50, size=(metrics.RESAMPLES, 50))].mean(axis=1)
    expected = np.percentile(means, [2.5, 97.5])
    assert bootstrap_interval(values, each_its_own(values), seed=7) == tuple(expected)


def test_equal_questions_of_a_document_count_as_one() -> None:
    values = np.random.default_rng(0).random(60)
    one_each = bootstrap_interval(values, each_its_own(values), seed=2)
    repeated, documents = np.repeat(values, 4), list(np.repeat(each_its_own(values), 4))
    assert bootstrap_interval(repeated, documents, seed=2) == pytest.approx(one_each)
    # resampled one by one, four times as many questions would halve the interval
    low, high = bootstrap_interval(repeated, each_its_own(repeated), seed=2)
    assert high - low == pytest.approx((one_each[1] - one_each[0]) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("tail", "interval"),
    [(0.2, (0.0, 1.0)), (0.3, (1 / 3, 1 / 3))],
)
def test_two_documents_worked_out_by_hand(tail: float, interval: tuple[float, float]) -> None:
    # two of the documents a (0, 0) and b (1) are drawn: aa has mean 0, ab and ba 1/3, bb 1; each
    # pair has a chance of 1/4. Minus the 0 of the other sample:
    values, documents = np.array([0.0, 0.0, 1.0]), ["a", "a", "b"]
    found = unpaired_bootstrap(values, np.zeros(1), (documents, ["c"]), tail=tail, seed=0)
    assert found == pytest.approx((1 / 3, *interval))
    paired = paired_bootstrap(values, np.zeros(3), documents, seed=0)
    assert paired == pytest.approx((1 / 3, 0.0, 1.0))  # 95 %


def test_the_interval_agrees_with_the_cluster_robust_standard_error() -> None:
    random = np.random.default_rng(0)
    cluster = np.sort(random.integers(800, size=2000))
    values = random.random(800)[cluster] + 0.5 * random.random(2000)
    mean = values.mean()
    # the sum of all products of residuals of one document (Miller 2024, equation 4)
    residuals = np.bincount(cluster, weights=values - mean)
    half = 1.96 * np.sqrt((residuals**2).sum()) / len(values)
    documents = [f"doc-{number}" for number in cluster]
    clustered = bootstrap_interval(values, documents, seed=0)
    assert clustered == pytest.approx((mean - half, mean + half), abs=0.1 * half)
    assert half > 1.3 * 1.96 * values.std() / np.sqrt(len(values))  # of the questions


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdefgh")), min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_bounds_of_every_interval(questions: list[tuple[float, str]], seed: int) -> None:
    values = np.array([value for value, _ in questions])
    documents = [document for _, document in questions]
    low, high = bootstrap_interval(values, documents, seed=seed)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    renamed = [document.upper() for document in documents]
    assert bootstrap_interval(values, renamed, seed=seed) == (low, high)
    if len(set(documents)) == 1:
        assert low == high == pytest.approx(values.mean())
    difference = paired_bootstrap(values, np.zeros(len(values)), documents, seed=seed)
    assert difference == pytest.approx((values.mean(), low, high))


def test_the_interval_of_many_questions_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 2)
    values = np.ones(1_000_000)
    assert bootstrap_interval(values, each_its_own(values), seed=0) == (1.0, 1.0)


def test_paired_differences_are_significant_where_single_intervals_overlap() -> None:
    hard = np.random.default_rng(0).random(300) * 0.8
    better, documents = hard + 0.05, each_its_own(hard)
    apart = paired_bootstrap(better, hard, documents, seed=0)
    assert apart == pytest.approx((0.05, 0.05, 0.05))
    of_hard = bootstrap_interval(hard, documents, seed=0)
    assert of_hard[1] > bootstrap_interval(better, documents, seed=0)[0]


def test_the_reversed_difference_has_the_opposite_sign() -> None:
    ours, theirs = np.random.default_rng(1).random((2, 50))
    documents = [f"doc-{row // 2}" for row in range(50)]
    forward = paired_bootstrap(ours, theirs, documents, seed=5)
    reversed_ = paired_bootstrap(theirs, ours, documents, seed=5)
    assert (forward.mean, forward.low, forward.high) == pytest.approx(
        (-reversed_.mean, -reversed_.high, -reversed_.low)
    )
    assert forward == paired_bootstrap(ours, theirs, documents, seed=5)
    assert forward.low < forward.mean < forward.high


def test_each_question_needs_a_partner_and_a_document() -> None:
    with pytest.raises(ConfigError, match="3 values cannot be paired with 2"):
        paired_bootstrap(np.ones(3), np.ones(2), list("abc"), seed=0)
    with pytest.raises(ConfigError, match="3 values have 2 documents"):
        bootstrap_interval(np.ones(3), list("ab"), seed=0)
