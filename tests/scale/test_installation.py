"""The package as a user installs it: from a wheel, by name, into an empty environment, without the
clone.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest

from cmt.config import SHIPPED

pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).parents[2]
QUESTION = "What is the toll on the Alder Bridge?"


class Environment:
    """A virtual environment in `folder`, and a user's home in which no cmt ran before."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.bin, self.work = folder / "venv/bin", folder
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.variables["XDG_CACHE_HOME"] = str(folder / "cache")

    def run(self, *arguments: str, folder: Path | None = None, status: int = 0) -> str:
        """The output of a program of the environment, run in `folder`."""
        done = subprocess.run(
            [self.bin / arguments[0], *arguments[1:]], cwd=folder or self.work, env=self.variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def install(self, *requirements: str) -> None:
        """Install by pip, in the versions of constraints.txt."""
        self.run("pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), *requirements)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[str]:
        """The address of a running `cmt serve`."""
        with subprocess.Popen(
            [self.bin / "cmt", "serve", "--port", "0", "--json"], cwd=folder,
            env=self.variables, text=True,
            stdout=subprocess.PIPE,
        ) as server:  # fmt: skip
            assert server.stdout
            try:
                yield next(line for line in server.stdout if '"url"' in line).split('"')[3]
            finally:
                server.terminate()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    builder = Environment(tmp_path_factory.mktemp("builder"))
    builder.install("hatchling")
    builder.run(
        "hatchling",
        "build",
        "-t",
        "sdist",
        "-t",
        "wheel",
        "-d",
        str(builder.work / "packages"),
        folder=ROOT,
    )
    return builder.work / "packages"


def test_the_sdist_makes_the_same_wheel_with_the_shipped_compressor(
    packages: Path, tmp_path: Path
) -> None:
    (wheel,), (sdist,) = packages.glob("*.whl"), packages.glob("*.tar.gz")
    Environment(tmp_path).run(
        "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "again"), str(sdist)
    )
    with ZipFile(wheel) as built, ZipFile(tmp_path / "again" / wheel.name) as again:
        assert sorted(built.namelist()) == sorted(again.namelist())
        for file in SHIPPED.iterdir():
            assert built.read(f"cmt/shipped/{file.name}") == file.read_bytes()
    assert wheel.stat().st_size < 40e6 and sdist.stat().st_size < 40e6


def test_an_installation_without_a_clone_adapts_and_serves(packages: Path, tmp_path: Path) -> None:
    user = Environment(tmp_path)
    # 1. the core, by name
    started = time.monotonic()
    user.install("--find-links", str(packages), "cmt-memory")
    print(f"core: {_megabytes(user.bin.parent)} MB, {time.monotonic() - started:.0f} s")
    # 2. a project: the LM goes to the cache of the user
    user.run("cmt", "init", "news")
    project = tmp_path / "news"
    for command in (["model", "pull"], ["ingest"], ["update", "--all"]):
        user.run("cmt", *command, folder=project)
    assert "three euros" in user.run("cmt", "ask", QUESTION, folder=project)
    assert list((tmp_path / "cache/cmt/lm").glob("smollm2*/model.safetensors"))
    with user.serve(project) as url:
        request = urllib.request.Request(  # noqa: S310 - a local address
            f"{url}/ask",
            json.dumps({"question": QUESTION}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            assert json.load(response)["answer"] == "three euros"
    # 3. a command that needs the pipeline names it, and works with it
    assert "pip install 'cmt-memory[pipeline]'" in user.run(
        "cmt", "report", folder=project, status=1
    )
    started = time.monotonic()
    user.install("--find-links", str(packages), "cmt-memory[pipeline]")
    print(
        f"pipeline: {_megabytes(user.bin.parent)} MB in all, {time.monotonic() - started:.0f} s"
        " more"
    )
    user.run("cmt", "report", folder=project)


def _megabytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*")) // 1_000_000
