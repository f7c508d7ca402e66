import pytest

from cmt.common.progress import NullProgress, OnProgress, Progress


def test_null_progress_is_a_progress_that_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress: Progress = NullProgress()
    progress.stage("ingest", 3)
    progress.advance(1)
    progress.advance(2, "done")
    progress.stage("unknown")
    assert tuple(capsys.readouterr()) == ("", "")


def test_advance_can_be_passed_as_a_callback() -> None:
    callback: OnProgress = NullProgress().advance
    callback(1)
