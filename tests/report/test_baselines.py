"""The stored rows of `cmt baselines`."""

import json
from dataclasses import replace

import pytest

import cmt
from cmt.evaluation.baseline_data import bank_lineage
from cmt.evaluation.baselines import Cost, SystemResult
from cmt.evaluation.metrics import Scores
from cmt.report.baselines import IDENTITY, store_baselines, stored_baselines

COST = Cost(1.0, 0.5, None, 10, 20.0)
RESULT = SystemResult("closed", Scores(1.0, 2.0, 3.0, (2.0, 4.0), None, 5), 0.1, cost=COST)


def test_a_system_that_is_measured_alone_joins_the_stored_ones(adapted: cmt.Workspace) -> None:
    lineage = bank_lineage(adapted.project)
    stored = ["full", "rag-bm25-3", "cmt"]
    assert [row["row"] for row in stored_baselines(adapted.project, lineage)] == stored
    store_baselines(adapted.project, [RESULT], lineage)
    store_baselines(adapted.project, [replace(RESULT, seconds=0.2)], lineage)
    found = stored_baselines(adapted.project, lineage)
    assert [row["row"] for row in found] == ["closed", *stored]
    assert found[0] == replace(RESULT, seconds=0.2).to_json()


def test_rows_of_another_bank_are_not_shown(adapted: cmt.Workspace) -> None:
    lineage = bank_lineage(adapted.project)
    for key in IDENTITY:
        assert stored_baselines(adapted.project, lineage | {key: "0" * 64}) == []


def test_a_file_that_cannot_be_read_is_ignored(
    adapted: cmt.Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    lineage = bank_lineage(adapted.project)
    for text in ("", "[]", '{"rows": 3}', '{"lineage": 3}'):
        caplog.clear()
        (adapted.project.state / "baselines.json").write_text(text)
        assert stored_baselines(adapted.project, lineage) == []
        assert "baselines.json cannot be read and is ignored" in caplog.text
        store_baselines(adapted.project, [RESULT], lineage)
        assert len(json.loads((adapted.project.state / "baselines.json").read_text())["rows"]) == 1
