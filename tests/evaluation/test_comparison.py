"""The rows over a project in miniature: a random LM, an untrained compressor, six articles."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cmt
from cmt.config import AggregatorParams, AlignmentParams
from cmt.errors import ConfigError
from cmt.evaluation import evaluate
from cmt.evaluation.comparison import Comparison, SystemResult
from cmt.evaluation.cost import peak_memory
from cmt.evaluation.finetuning import TOKEN_WEIGHTS
from cmt.evaluation.systems import SYSTEMS
from cmt.evaluation.testbed import ComparisonData
from cmt.modeling.model import MemoryModel
from cmt.workspace import Workspace

MB = 2**20
MAC: dict[str, Any] = {
    "aggregator": AggregatorParams(kind="attention", blocks=1, heads=2),
    "alignment": AlignmentParams(kind="prefix"),
}


@pytest.fixture(scope="module")
def folder(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the first of its two rounds: half of the questions have no document in the bank."""
    copy = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("rows") / "project"))
    workspace = cmt.open(params=copy / "params.yaml")
    workspace.ingest()
    workspace.update()
    MemoryModel(workspace.lm, replace(workspace.model.config, **MAC)).save(copy / "data/mac")
    return copy


@pytest.fixture(scope="module")
def workspace(folder: Path) -> Workspace:
    return cmt.open(params=folder / "params.yaml")


@pytest.fixture(scope="module")
def data(workspace: Workspace) -> ComparisonData:
    return ComparisonData.of(workspace, limit=50)


@pytest.fixture(scope="module")
def rows(data: ComparisonData) -> dict[str, SystemResult]:
    return {row.system: row for row in Comparison(data).measure()}


def test_every_row_can_be_switched_on(rows: dict[str, SystemResult]) -> None:
    assert list(rows) == list(SYSTEMS)
    assert {row.scores.n for row in rows.values()} == {2}


def test_one_row_alone_is_one_row(data: ComparisonData, rows: dict[str, SystemResult]) -> None:
    (alone,) = Comparison(data).measure(["rag-dense-3", "rag-dense-3"])
    assert (alone.system, alone.scores, alone.mrr) == (
        "rag-dense-3",
        rows["rag-dense-3"].scores,
        rows["rag-dense-3"].mrr,
    )
    assert alone.behind is None


def test_mac_is_left_out_until_it_is_trained(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    one = cmt.open(params=workspace.root / "params.yaml", overrides={"baselines.mac": "nowhere"})
    assert Comparison(ComparisonData.of(one, limit=50)).measure(["mac"]) == []
    assert "system mac is left out: no compressor in" in caplog.text


def test_mac_of_another_lm_is_left_out_too(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    folder = workspace.root / "other-mac"
    shutil.copytree(workspace.params.baselines.mac, folder)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | {"lm_digest": "0" * 64}))
    one = cmt.open(params=workspace.root / "params.yaml", overrides={"baselines.mac": "other-mac"})
    assert Comparison(ComparisonData.of(one, limit=50)).measure(["mac"]) == []
    assert "was trained for another LM" in caplog.text


def test_an_unknown_row_is_named(data: ComparisonData) -> None:
    with pytest.raises(ConfigError, match="no row 'rag-bm26'; there are: closed, full, rag-bm25-1"):
        Comparison(data).measure(["closed", "rag-bm26"])


def test_the_memory_s_row_is_that_of_evaluate(
    workspace: Workspace, data: ComparisonData, rows: dict[str, SystemResult]
) -> None:
    plain = evaluate.evaluate(
        answerer=data.testbed.answerer,
        lm=workspace.lm,
        bank=workspace.bank,
        questions=data.asked,
        params=workspace.params,
        baselines=True,
    )
    for old, new in {"cmt": "cmt", "closed": "closed", "rag": "rag-bm25-1"}.items():
        there, here = plain.system(old), rows[new]
        assert there is not None
        assert (here.scores.em, here.scores.f1, here.scores.recall) == (
            there.scores.em,
            there.scores.f1,
            there.scores.recall,
        )


def test_json_keeps_the_protocol_s_keys_and_adds_the_costs(rows: dict[str, SystemResult]) -> None:
    plain = evaluate.SystemScores("closed", rows["closed"].scores, rows["closed"].seconds).to_json()
    for row in rows.values():
        found = row.to_json()
        assert plain.keys() < found.keys()
        assert found == json.loads(json.dumps(found))
    assert rows["closed"].to_json() | plain == rows["closed"].to_json()


def test_rows_are_set_against_the_memory(rows: dict[str, SystemResult]) -> None:
    assert rows["cmt"].behind is None
    for name in set(SYSTEMS) - {"cmt"}:
        behind = rows[name].behind
        assert behind is not None
        assert behind.mean == pytest.approx(rows["cmt"].scores.f1 - rows[name].scores.f1)
        assert behind.low <= behind.mean <= behind.high


def test_only_what_retrieves_has_recall_and_rank(rows: dict[str, SystemResult]) -> None:
    for name, row in rows.items():
        retrieves = name.startswith("rag-") or name in {"mac", "cmt"}
        assert (row.scores.recall is not None, row.mrr is not None) == (retrieves, retrieves)
        if row.mrr is not None and row.scores.recall is not None:
            assert row.scores.recall / 4 <= row.mrr <= row.scores.recall
    assert rows["rag-bm25-1"].mrr == 1.0


def test_more_text_is_more_tokens(rows: dict[str, SystemResult]) -> None:
    read = {name: row.cost.tokens_per_question for name, row in rows.items()}
    assert 0 < read["closed"] < read["full"] <= read["rag-bm25-1"] < read["rag-dense-3"]  # banked texts have titles
    assert read["uniform"] == read["salient"] == read["camels"] == read["closed"]
    assert read["cmt"] > 0


def test_what_is_stored_is_counted(data: ComparisonData, rows: dict[str, SystemResult]) -> None:
    stored = {name: row.cost.stored_bytes for name, row in rows.items()}
    model = data.testbed.answerer.lm.model
    assert stored["closed"] == 0
    assert stored["full"] == sum(len(text.encode()) for text in data.texts.values())
    assert stored["full"] < stored["rag-bm25-1"] == stored["rag-bm25-3"]  # banked texts have titles
    assert stored["rag-dense-1"] == stored["rag-hybrid-1"] > stored["rag-bm25-1"]
    assert {stored[name] for name in TOKEN_WEIGHTS} == {4 * sum(weight.numel() for weight in model.parameters())}
    assert stored["cmt"] > stored["rag-dense-1"]


def test_costs_of_time_and_memory_are_there(rows: dict[str, SystemResult]) -> None:
    for row in rows.values():
        assert row.cost.seconds_per_question == row.seconds / 2 > 0
        assert row.cost.peak_bytes is None or row.cost.peak_bytes > 50 * MB
    assert (rows["closed"].cost.adapt_seconds, rows["full"].cost.adapt_seconds) == (0.0, 0.0)
    assert all((rows[name].cost.adapt_seconds or 0) > 0 for name in TOKEN_WEIGHTS)
    noted = [rows[name].cost.adapt_seconds for name in ("rag-bm25-1", "rag-dense-1", "cmt")]
    assert None not in noted
    assert noted[0] <= noted[1] == noted[2]  # seconds are rounded, and compressing two texts takes next to none


def test_questions_without_a_document_are_asked_for_abstention_alone(
    data: ComparisonData, rows: dict[str, SystemResult]
) -> None:
    assert (data.asked.num_rows, data.absent.num_rows) == (2, 2)
    assert set(data.asked["doc_id"].to_pylist()) == {"mayor-1", "ferry"}
    told = rows["cmt"].abstention
    assert told is not None
    assert told.recall in (0.0, 0.5, 1.0)
    assert told.false_alarm in (0.0, 0.5, 1.0)
    assert 0 <= (rows["cmt"].calibration or 0) <= 1
    assert rows["closed"].abstention is None


def test_a_reader_that_refuses_everything_finds_all_the_absent(folder: Path) -> None:
    strict = cmt.open(params=folder / "params.yaml", overrides={"selection.threshold": 1.0})
    (row,) = Comparison(ComparisonData.of(strict, limit=50)).measure(["cmt"])
    assert row.abstention is not None
    assert (row.abstention.precision, row.abstention.recall, row.abstention.false_alarm) == (0.5, 1.0, 1.0)
    assert row.scores.f1 == 0.0


def test_the_lm_is_frozen_whatever_is_measured(workspace: Workspace, rows: dict[str, SystemResult]) -> None:
    assert set(TOKEN_WEIGHTS) <= rows.keys()
    untouched = cmt.open(params=workspace.root / "params.yaml").lm
    assert workspace.lm.weights_digest() == untouched.weights_digest()


def test_texts_are_those_of_the_bank(data: ComparisonData) -> None:
    assert list(data.texts) == ["mayor-1", "ferry", "raft"]


def test_a_bank_without_texts_has_no_rag(tiny_workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    mute = cmt.open(params=tiny_workspace / "params.yaml", overrides={"bank.keep_text": False})
    mute.ingest()
    mute.update()
    found = Comparison(ComparisonData.of(mute, limit=50)).measure(["rag-bm25-1", "full", "cmt"])
    assert [row.system for row in found] == ["full", "cmt"]
    assert "rag-bm25-1 is left out" in caplog.text


@pytest.mark.parametrize("block", [50_000, 200 * MB])
def test_peak_memory_falls_back_between_two_looks(block: int) -> None:
    with peak_memory() as large:
        blocks = [np.ones(block, dtype=np.uint8) for _ in range(200 * MB // block)]
        above = np.ones(50_000, dtype=np.uint8)  # lies behind them: without trimming, all small ones stay resident
        del blocks
    with peak_memory() as small:
        np.ones(MB, dtype=np.uint8)
    del above
    if large.resident is None or small.resident is None:
        assert large.resident is small.resident is None
    else:
        assert large.resident - small.resident > 150 * MB
