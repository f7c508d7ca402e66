"""`benchmarks/answer_time.py` on the tiny project."""

import json
from pathlib import Path

import pytest

from tests.helpers.projects import open_workspace
from tests.helpers.scripts import load_script


def test_every_part_has_its_seconds(
    adapted_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars, script = load_script("model_bars"), load_script("answer_time")
    opened = open_workspace(adapted_project)
    monkeypatch.setattr(bars, "workspace", lambda: opened)
    monkeypatch.setattr(bars, "NEWSPAPER", adapted_project / "news")
    for name in ("newspaper", "compressed"):
        monkeypatch.setattr(script, name, getattr(bars, name))
    monkeypatch.setattr(script, "WARM", 2)
    script.main(as_json=True)
    seconds = json.loads(capsys.readouterr().out)
    assert set(script.PARTS) <= seconds.keys()
    assert all(value > 0 for value in seconds.values())
    script.main()
    assert "ms a question" in capsys.readouterr().out
