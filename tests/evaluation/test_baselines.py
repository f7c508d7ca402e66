"""Comparisons of systems over the tiny project: a random LM, an untrained compressor, six
articles.
"""

import json
from pathlib import Path

import pytest

import cmt
from cmt.errors import ConfigError
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.baselines import Cost, SystemResult, measure_systems
from cmt.evaluation.evaluate import SystemScores, evaluate
from cmt.evaluation.systems import SYSTEMS
from cmt.lm.model import weights_digest


@pytest.fixture(scope="module")
def results(comparison_data: ComparisonData) -> dict[str, SystemResult]:
    lm = comparison_data.answerer.lm
    before = weights_digest(lm.model)
    results = {result.system: result for result in measure_systems(comparison_data)}
    assert list(results) == list(SYSTEMS)
    assert {result.scores.n for result in results.values()} == {2}
    assert weights_digest(lm.model) == before  # no system changes the LM
    return results


def test_a_system_can_be_measured_alone(
    comparison_data: ComparisonData, results: dict[str, SystemResult]
) -> None:
    (alone,) = measure_systems(comparison_data, ["rag-dense-3", "rag-dense-3"])
    together = results["rag-dense-3"]
    assert (alone.system, alone.scores) == ("rag-dense-3", together.scores)
    assert alone.behind is None


def test_an_unknown_system_is_a_config_error(comparison_data: ComparisonData) -> None:
    with pytest.raises(ConfigError, match="no row 'rag-bm26'; there are: closed, full, rag-bm25-1"):
        measure_systems(comparison_data, ["closed", "rag-bm26"])


def test_scores_are_those_of_evaluate(
    half_adapted: cmt.Workspace, comparison_data: ComparisonData, results: dict[str, SystemResult]
) -> None:
    evaluation = evaluate(comparison_data.answerer, comparison_data.asked, baselines=True)
    for evaluated, name in zip(evaluation.systems, ("cmt", "closed", "rag-bm25-1"), strict=True):
        compared = results[name]
        for score in ("em", "f1", "recall"):
            assert getattr(compared.scores, score) == getattr(evaluated.scores, score)


def test_json_has_the_keys_of_an_evaluation_and_the_costs(results: dict[str, SystemResult]) -> None:
    closed = results["closed"]
    evaluated = SystemScores("closed", closed.scores, closed.seconds).to_json()
    for result in results.values():
        written = result.to_json()
        assert evaluated.keys() < written.keys()
        assert written == json.loads(json.dumps(written))
    assert closed.to_json() | evaluated == closed.to_json()


def test_differences_are_from_the_memory(results: dict[str, SystemResult]) -> None:
    assert results["cmt"].behind is None
    for name in set(SYSTEMS) - {"cmt"}:
        behind = results[name].behind
        assert behind is not None
        assert behind.mean == pytest.approx(results["cmt"].scores.f1 - results[name].scores.f1)
        assert behind.low <= behind.mean <= behind.high


def test_only_what_retrieves_has_recall(results: dict[str, SystemResult]) -> None:
    for name, result in results.items():
        retrieves = name.startswith("rag-") or name == "cmt"
        assert (result.scores.recall is not None) == retrieves
    assert results["rag-bm25-1"].scores.recall == 1.0


def test_costs_are_measured(
    comparison_data: ComparisonData, results: dict[str, SystemResult]
) -> None:
    # 1. tokens, with titles
    tokens = {name: result.cost.tokens_per_question for name, result in results.items()}
    assert 0 < tokens["closed"] < tokens["full"] <= tokens["rag-bm25-1"] < tokens["rag-dense-3"]
    assert tokens["cmt"] > 0
    # 2. bytes
    stored = {name: result.cost.stored_bytes for name, result in results.items()}
    assert stored["closed"] == 0
    assert stored["full"] == sum(
        len(text.encode()) for text in comparison_data.documents["text"].to_pylist()
    )
    assert stored["full"] < stored["rag-bm25-1"] == stored["rag-bm25-3"]  # banked texts have titles
    assert stored["rag-bm25-1"] < stored["rag-dense-1"] == stored["rag-hybrid-1"] < stored["cmt"]
    # 3. time and memory
    for result in results.values():
        assert result.cost.seconds_per_question == result.seconds / 2 > 0
        assert result.cost.peak_bytes is None or result.cost.peak_bytes > 50 * 2**20
    assert (results["closed"].cost.adapt_seconds, results["full"].cost.adapt_seconds) == (0.0, 0.0)
    recorded = [results[name].cost.adapt_seconds for name in ("rag-bm25-1", "rag-dense-1", "cmt")]
    first, second, third = (seconds for seconds in recorded if seconds is not None)
    assert first <= second == third  # seconds are rounded, and two texts take few


def test_a_bank_without_texts_has_no_rag(
    tiny_workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = {"bank.keep_text": False, "evaluation.questions": 0, "gate.canaries": 0}
    textless = cmt.open(params=tiny_workspace / "params.yaml", overrides=overrides)
    textless.ingest()
    textless.update()
    results = measure_systems(
        ComparisonData.of(textless.project, limit=50), ["rag-bm25-1", "full", "cmt"]
    )
    assert [result.system for result in results] == ["full", "cmt"]
    assert "rag-bm25-1 is left out" in caplog.text


def test_costs_are_rounded_in_json_and_unknown_ones_are_null() -> None:
    unknown = dict.fromkeys(("adapt_seconds", "peak_bytes"))
    cost = Cost(**unknown, seconds_per_question=0.123456, stored_bytes=7, tokens_per_question=12.34)
    known = {"seconds_per_question": 0.1235, "stored_bytes": 7, "tokens_per_question": 12.3}
    assert json.loads(json.dumps(cost.to_json())) == unknown | known
