"""`cmt try` on the tiny project: one month, in a folder of its own, served until Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


@contextmanager
def tried(project: Path) -> Iterator[tuple[str, list[str]]]:
    """`cmt try` while it serves: its address, and what it printed. Ends it with Ctrl-C."""
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "try"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith("answering on"):
                    break
            address = lines[-1].removeprefix("answering on ").removesuffix(" until Ctrl-C")
            assert httpx.get(f"{address}/health", timeout=60).status_code == 200  # it serves by now
            yield address, lines
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_one_month_is_adapted_and_served_beside_the_project(tiny_workspace: Path) -> None:
    with tried(tiny_workspace) as (address, lines):
        assert lines[0].startswith("3 articles adapted in ")
        assert "Who is the mayor of Port Ellery?" in lines
        question = {"question": "Who is the mayor of Port Ellery?"}
        answered = httpx.post(f"{address}/ask", json=question, timeout=60).json()
        assert {source["doc_id"] for source in answered["sources"]} <= {"mayor-1", "ferry", "raft"}
    assert (tiny_workspace / "data/try/bank").is_dir()
    assert not (tiny_workspace / "data/bank").exists() and not (tiny_workspace / "data/stream").exists()
    # a second time nothing is adapted again
    with tried(tiny_workspace) as (_, lines):
        assert lines[0] == "the articles of the first month are adapted already"
