"""The bars of the bank, on few rows: what is measured and what is written."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import typer

from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.errors import BankError
from tests.helpers.banks import problems
from tests.helpers.scripts import load_script


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("bench")
    small = {
        "LARGE": 60,
        "SMALL": 40,
        "ROUNDS": 2,
        "SEARCHES": 4,
        "THOUSAND": 4,
        "MAINTENANCE_EVERY": 2,
        "CANARIES": 2,
    }
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    for name, path in {"FOLDER": "bench", "RESULTS": "RESULTS.md", "METRICS": "bench.json"}.items():
        monkeypatch.setattr(module, name, tmp_path / path)
    return module


def test_without_its_bank_nothing_is_measured(bench: ModuleType) -> None:
    with pytest.raises(BankError, match="run `make bench-bank` first"):
        bench.main([1])
    with pytest.raises(typer.BadParameter, match="bar 13 is none of 1, 2, 3, 5, 6, 7, 8, 9, 12"):
        bench.main([13])


def test_every_bar_is_measured_and_kept_and_the_bank_is_as_before(bench: ModuleType) -> None:
    bench.main(build_only=True)
    bank = open_bank(BankLocation(str(bench.FOLDER / "large")))
    digest = bank.digest()
    assert (bank.count_rows(), problems(bank)) == (60, [])
    for numbers in ([1], [12, 2]):
        try:
            bench.main(numbers)
        except typer.Exit as stopped:
            assert stopped.exit_code == 1
    bars = json.loads(bench.METRICS.read_text())
    assert [bar["limit"] for bar in bars] == [1.5, 2.5, 0.97, 1.3, 1.3]
    assert all(bar["value"] > 0 and isinstance(bar["ok"], bool) for bar in bars)
    assert bars[2]["value"] == 1  # a small bank is searched exactly
    assert (bank.digest(), problems(bank)) == (digest, [])
    lines = [line for line in bench.RESULTS.read_text().splitlines() if line.startswith("| 1")]
    assert len(lines) == 3


def test_ingest_is_measured_while_the_stream_grows(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "INGESTED", 60)
    monkeypatch.setattr(bench, "INGESTED_AT_ONCE", 20)
    time, memory = bench.bar_8()
    assert time.value > 0
    assert memory.ok
    assert "60 documents in files of 20" in time.detail


def test_a_bar_that_fails_is_the_exit_status(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.main(build_only=True)
    for value, held in ((1.0, True), (9.0, False)):
        bar = bench.Bar(1, "a figure", value, 1.5, False, "as measured")
        monkeypatch.setitem(bench.BARS, 1, lambda bar=bar: [bar])
        if held:
            bench.main([1])
        else:
            with pytest.raises(typer.Exit):
                bench.main([1])
        assert json.loads(bench.METRICS.read_text()) == [
            {"bar": "a figure", "value": value, "limit": 1.5, "ok": held}
        ]
        assert ("**fails**" in bench.RESULTS.read_text()) is not held
