"""The stored and measured curves of the report."""

import json

import pytest

import cmt
from cmt.common.progress import NullProgress
from cmt.evaluation.curves import CURVES
from cmt.report.curves import folder, measured_curves


def names(workspace: cmt.Workspace) -> tuple[list[str], list[str]]:
    """Names of the current curves, and of the missing ones."""
    curves, missing = measured_curves(workspace, limit=3, progress=NullProgress())
    return [measured.curve.name for measured in curves if measured.current], missing


def test_stored_curves_are_current(adapted: cmt.Workspace) -> None:
    files = {file: file.read_bytes() for file in folder(adapted).iterdir()}
    assert names(adapted) == (list(CURVES), [])
    assert {file: file.read_bytes() for file in folder(adapted).iterdir()} == files


def test_a_missing_curve_is_measured_on_a_small_bank_only(
    adapted: cmt.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder(adapted) / "noise.json").unlink()
    monkeypatch.setattr("cmt.report.curves.LARGE", 0)
    assert names(adapted)[1] == ["noise"]
    monkeypatch.setattr("cmt.report.curves.LARGE", 1000)
    assert names(adapted) == (list(CURVES), [])


@pytest.mark.parametrize("key", ["compressor", "lm", "params", "bank"])
def test_a_curve_with_another_lineage_is_not_current(
    adapted: cmt.Workspace, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmt.report.curves.LARGE", 0)
    raw = json.loads((folder(adapted) / "k.json").read_text())
    (folder(adapted) / "k.json").write_text(json.dumps(raw | {"lineage": raw["lineage"] | {key: "0" * 64}}))
    assert names(adapted) == ([name for name in CURVES if name != "k"], [])
