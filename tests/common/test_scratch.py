"""Temporary folders that outlive a kill until the next command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmt.common.scratch import remove_dead, scratch_folder


def test_a_folder_is_deleted_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        (first / "text").write_text("words")
        assert (first.parent, first != second) == (tmp_path / "scratch", True)
    with pytest.raises(ValueError, match="why"), scratch_folder(tmp_path) as third:
        raise ValueError("why")
    assert [path.name for path in third.parent.iterdir()] == ["guard"]


def test_what_a_killed_process_left_is_removed_and_live_folders_stay(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cmt.common.scratch import "
        "scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'text').write_text('words'); print(folder, flush=True); time.sleep(60)\n"
    )
    with scratch_folder(tmp_path) as live:
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            dead = Path(process.stdout.readline().strip())
            assert sorted(remove_dead(tmp_path)) == sorted([live, dead])
            os.kill(process.pid, signal.SIGKILL)
        assert (dead / "text").exists()
        assert remove_dead(tmp_path) == [live]
        assert (dead.exists(), live.exists()) == (False, True)


def test_without_any_nothing_is_made(tmp_path: Path) -> None:
    assert remove_dead(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
