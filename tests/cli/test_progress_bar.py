"""Progress on a terminal and elsewhere."""

import io
import re

import pytest
from rich.console import Console

from cmt.cli.output import console
from cmt.cli.progress_bar import ProgressBar


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr, with durations as S."""
    return re.sub(r"\d+\.\d s\b", "S", capsys.readouterr().err).splitlines()


def test_each_stage_is_one_line_outside_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(console(stderr=True)) as progress:
        progress.stage("load")
        progress.title = "2031-01/0001"
        progress.stage("compress", 3)
        progress.advance(2, "1,000 tokens/s")
        progress.advance(1, "1,200 tokens/s")
        progress.stage("bank", 0)
    assert printed(capsys) == [
        "load: S",
        "2031-01/0001 compress: 3 of 3, 1,200 tokens/s, S",
        "2031-01/0001 bank: S",
    ]


def test_a_finished_stage_is_complete_and_a_download_counts_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBar(console(stderr=True)) as progress:
        progress.stage("evaluate", 12)
        progress.advance(9)
        progress.at("download", 1_000_000, None)
        progress.at("download", 98_400_000, None)
        progress.at("convert", 272, 272)
    assert printed(capsys) == [
        "evaluate: 12 of 12, S",
        "download: 98.4 MB, S",
        "convert: 272 of 272, S",
    ]


def test_an_interrupted_stage_shows_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressBar(console(stderr=True))
    with pytest.raises(RuntimeError), progress:
        progress.stage("load")
        progress.stage("compress", 40)
        progress.advance(12)
        raise RuntimeError
    assert printed(capsys) == ["load: S", "compress: 12 of 40, S, not finished"]
    assert progress.current == "compress"


def test_a_terminal_shows_a_bar_and_then_the_line() -> None:
    screen = io.StringIO()
    with ProgressBar(
        Console(file=screen, force_terminal=True, width=100, color_system=None)
    ) as progress:
        progress.stage("[red]compress", 40)
        progress.advance(10, "900 tokens/s")
        progress._bars.refresh()
        bars = screen.getvalue()
    assert re.search(r"\[red\]compress ━+.* 10 of 40, 900 tokens/s", bars)
    assert re.search(r"\n?\[red\]compress: 40 of 40, 900 tokens/s, \d\.\d s\n", screen.getvalue())
