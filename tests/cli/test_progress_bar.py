"""Progress on a terminal and elsewhere."""

import io
import re

import pytest
from rich.console import Console

from cmt.cli.output import console
from cmt.cli.progress_bar import ProgressBar


def shown(display: ProgressBar, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on stderr, with seconds as S."""
    return re.sub(r"\d+\.\d s\b", "S", capsys.readouterr().err).splitlines()


def test_off_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(console(stderr=True)) as display:
        display.stage("load")
        display.title = "2031-01/0001"
        display.stage("compress", 3)
        display.advance(2, "1,000 tokens/s")
        display.advance(1, "1,200 tokens/s")
        display.stage("bank", 0)
    assert shown(display, capsys) == [
        "load: S",
        "2031-01/0001 compress: 3 of 3, 1,200 tokens/s, S",
        "2031-01/0001 bank: S",
    ]


def test_a_download_counts_bytes_until_the_next_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(console(stderr=True)) as display:
        display.at("download", 1_000_000, None)
        display.at("download", 98_400_000, None)
        display.at("convert", 7, 272)
        display.at("convert", 272, 272)
    assert shown(display, capsys) == ["download: 98.4 MB, S", "convert: 272 of 272, S"]


def test_what_is_cut_short_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressBar(console(stderr=True))
    with pytest.raises(RuntimeError), display:
        display.stage("load")
        display.stage("compress", 40)
        display.advance(12)
        raise RuntimeError
    assert shown(display, capsys) == ["load: S", "compress: 12 of 40, S, not finished"]
    assert display.current == "compress"


def test_what_never_began_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressBar(console(stderr=True))
    with pytest.raises(RuntimeError), display:
        display.stage("load")
        raise RuntimeError
    assert shown(display, capsys) == []


def test_on_a_terminal_there_is_a_bar_and_then_the_line() -> None:
    screen = io.StringIO()
    with ProgressBar(Console(file=screen, force_terminal=True, width=100, color_system=None)) as display:
        display.stage("[red]compress", 40)
        display.advance(10, "900 tokens/s")
        display._bars.refresh()
        bars = screen.getvalue()
    assert re.search(r"\[red\]compress ━+.* 10 of 40, 900 tokens/s", bars)
    assert re.search(r"\n?\[red\]compress: 10 of 40, 900 tokens/s, \d\.\d s\n", screen.getvalue())
