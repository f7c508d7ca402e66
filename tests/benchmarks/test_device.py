"""`benchmarks/device.py` on the tiny project."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.projects import open_workspace
from tests.helpers.scripts import load_script


def test_every_device_has_its_figures(
    adapted_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars, device = load_script("model_bars"), load_script("device")
    opened = open_workspace(adapted_project, train__questions=24, train__paragraphs=2, train__questions_per_paragraph=1)
    monkeypatch.setattr(bars, "workspace", lambda: opened)
    monkeypatch.setattr(bars, "NEWSPAPER", adapted_project / "news")
    for name in ("workspace", "newspaper", "systems", "compress"):
        monkeypatch.setattr(device, name, getattr(bars, name))
    monkeypatch.setattr(device, "PAIRS", 24)
    device.main(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["device"] for row in rows] == ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    figures = ("matmul_tflops", "compressed_tokens_per_second", "questions_per_second_stored", "training_matmul_share")
    assert all(row[name] > 0 for row in rows for name in figures)
    device.main()
    assert "training matmul share" in capsys.readouterr().out
