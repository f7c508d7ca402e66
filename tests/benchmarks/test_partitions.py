"""`benchmarks/partitions.py` on few rows."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.scripts import load_script


@pytest.fixture
def partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("partitions")
    monkeypatch.setattr(module.bench, "LARGE", 60)
    monkeypatch.setattr(module.bench, "FOLDER", tmp_path)
    module.bench.main(build_only=True)
    return module


def test_partitions_find_what_one_bank_finds(partitions: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    partitions.main(partitions=3, searches=4)
    printed = capsys.readouterr().out
    assert "60 rows, 4 searches" in printed
    assert "3 partitions" in printed
    assert "1.000 by similarity" in printed  # small banks are searched exactly
