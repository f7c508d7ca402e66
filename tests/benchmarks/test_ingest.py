"""The seconds of an ingest, on tiny streams."""

from pathlib import Path

import pytest

from tests.helpers.scripts import load_script


@pytest.mark.parametrize("period", ["day", "month"])
def test_each_stream_is_measured(tmp_path: Path, period: str) -> None:
    seconds = load_script("ingest").measure(tmp_path, [2, 5], period, repeats=2)
    assert list(seconds) == [2, 5] and all(0 < least < 60 for least in seconds.values())


def test_the_status_says_whether_the_bar_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--slices", "1", "2", "--repeats", "1"]
    main = load_script("ingest").main
    assert [main([*sizes, "--bar", bar]) for bar in ("1000", "0")] == [0, 1]
    assert "2 slices" in capsys.readouterr().out
