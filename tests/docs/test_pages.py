"""README, quick start and loop, run as written: every command of their console blocks (`make
test-docs`).

The pages follow each other in one clone, so `make demo` of the second finds its months adapted.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

import pytest

from tests.helpers.console_blocks import Command, commands, difference
from tests.helpers.training import FARES, write_squad

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md", "docs/loop.md")
SECONDS = 1500
"""Longest run of one command."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files of the checkout in a folder of their own, with its environment and its
    language model.
    """
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    if (ROOT / "data/lm").is_dir():
        shutil.copytree(ROOT / "data/lm", folder / "data/lm", copy_function=os.link)
    (
        folder / "data/train"
    ).mkdir()  # what `cmt data pull` fetches; a few sentences of our own stand for SQuAD
    write_squad(
        folder / "data/train/rajpurkar--squad.json",
        {fare["doc_id"]: fare["text"] for fare in FARES},
    )
    return folder


class Shell:
    """A bash session: runs one command after the other, and servers in the background.

    Prefect's home is in the folder: in the user's own, a file of a killed server forbids `prefect
    server start`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "MLFLOW_"))
        }
        environment |= {
            "PYTHONPATH": str(folder), "COLUMNS": "200",
            "MPLCONFIGDIR": str(folder / ".matplotlib"),
            "PREFECT_HOME": str(folder / ".prefect"),
        }  # fmt: skip
        self._bash = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._environment, self._servers = environment, list[subprocess.Popen[bytes]]()

    def run(self, command: Command) -> tuple[int, list[str]]:
        """Exit status and output lines (stdout and stderr) of a command that ends."""
        assert self._bash.stdin and self._bash.stdout
        mark = uuid4().hex
        self._bash.stdin.write(f"{command.text}\nstatus=$?\necho\necho {mark} $status\n")
        self._bash.stdin.flush()
        limit = threading.Timer(SECONDS, os.killpg, (self._bash.pid, signal.SIGKILL))
        limit.start()
        lines: list[str] = []
        try:
            for line in self._bash.stdout:
                if line.startswith(mark):
                    return int(line.split()[1]), [text for text in lines if text.strip()]
                lines.append(line.rstrip("\n"))
        finally:
            limit.cancel()
        shown = "\n    ".join(lines[-40:])
        raise AssertionError(
            f"the shell ended, or {SECONDS} s were over, in {command.text!r}; it printed\n   "
            f" {shown}"
        )

    def start(self, command: Command) -> list[str]:
        """Start a command that runs until it is interrupted; its output once it has printed what is
        promised.
        """
        with TemporaryFile() as output:
            process = subprocess.Popen(
                ["bash", "-c", command.text], cwd=self.folder, env=self._environment, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._servers.append(process)
            deadline = time.monotonic() + SECONDS
            while True:
                ended = process.poll() is not None
                output.seek(0)
                lines = [line for line in output.read().decode().splitlines() if line.strip()]
                if (
                    difference(command.expected, lines) is None
                    or ended
                    or time.monotonic() > deadline
                ):
                    return lines
                time.sleep(0.5)

    def close(self) -> None:
        """Interrupt what still runs: servers, and the jobs of the shell, such as a Prefect
        server.
        """
        for process in self._servers:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
        with suppress(ProcessLookupError):  # the session may have ended by itself
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


@pytest.fixture
def shell(clone: Path) -> Iterator[Shell]:
    opened = Shell(clone)
    yield opened
    opened.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_the_page_says(page: str, clone: Path, shell: Shell) -> None:
    found = commands(clone / page)
    assert found
    problems = []
    for command in found:
        if command.keeps_running:
            status, output = 0, shell.start(command)
        else:
            status, output = shell.run(command)
        missing = difference(command.expected, output)
        if status or missing:
            shown = "\n    ".join(output[-40:])
            reason = f"exit status {status}" if status else f"no line {missing!r}"
            problems.append(
                f"{page}:{command.line}: $ {command.text}\n  {reason}; it printed\n    {shown}"
            )
    assert not problems, "\n".join(problems)
