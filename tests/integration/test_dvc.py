"""`dvc repro` in a git repository with a tiny LM: which stages run, reproducibility, metrics and
plots.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from dvc.repo import Repo

from cmt.cli import dvc_stages
from cmt.cli.output import console
from cmt.cli.progress_bar import ProgressBar
from cmt.config import set_dotted

ROOT = Path(__file__).parents[2]
STAGES = ["prepare", "train", "replay", "evaluate"]
# Modules that need not be dependencies of every stage that imports them: they change no result, or
# only that of the stages that name them.
SILENT = {f"cmt.{name}" for name in (
    "active_bank", "bank", "bank.changes", "bank.ledger", "bank.location", "bank.memory_ids",
    "bank.rounds", "compressor_in_use", "config", "errors", "history", "project", "workspace",
    "cli", "cli.context", "cli.output",
    "cli.progress_bar", "common", "common.dates", "common.digests", "common.imports",
    "common.progress",
    "common.provenance", "common.scratch", "common.secrets", "common.storage", "common.strict_yaml",
    "common.systems", "common.text", "common.version",
)}  # fmt: skip

# Python imports this at its start. A stage writes what it has imported when it ends.
SITE = """
import atexit, pathlib, sys

def write():
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    if specification and specification.name == "cmt.cli.dvc_stages":
        pathlib.Path(__file__).with_name(sys.argv[1]).write_text("\\n".join(sys.modules))

atexit.register(write)
"""

pytestmark = pytest.mark.timeout(900)  # a pipeline is four processes, two of which import torch


def call(folder: Path, *command: str) -> str:
    """Run a command in `folder`; returns stdout and stderr."""
    result = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return call(folder, "git", *identity, *arguments)


def repro(folder: Path, *stages: str) -> list[str]:
    """The stages that `dvc repro` runs; DVC is called in this process, because its start takes
    seconds.
    """
    with contextlib.chdir(folder), Repo() as repo:
        return [stage.name for stage in repo.reproduce(stages or None)]


def pending(folder: Path) -> list[str]:
    """The stages that `dvc repro` would run."""
    with contextlib.chdir(folder), Repo() as repo:
        return [stage.name for stage in repo.reproduce(dry=True)]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`, nested sections included."""
    return {
        key: (
            merged(value, changes.get(key, {}))
            if isinstance(value, dict)
            else changes.get(key, value)
        )
        for key, value in base.items()
    }


def results(folder: Path) -> dict[str, bytes]:
    """The content of all outputs of all stages by path, without what .dvcignore leaves out."""
    places = [
        folder / name
        for name in ("data/replay/slices", "data/replay/compressor", "metrics", "plots")
    ]
    files = [file for place in places for file in place.rglob("[!.]*") if file.is_file()]
    files.append(folder / "data/replay/bank.json")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module", autouse=True)
def environment(imports: Path) -> Iterator[None]:
    """The environment of the stages: this Python is first on PATH, and their modules are compiled
    once a clone.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {
        "PATH": path,
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    with mock.patch.dict(os.environ, variables | {"PYTHONPATH": str(imports)}):
        yield


@pytest.fixture(scope="module")
def committed(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the pipeline, code and parameters of the project and the tiny LM; no
    stage has run.
    """
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("dvc") / "project"))
    shutil.copytree(ROOT / "cmt", folder / "cmt", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    tiny = yaml.safe_load((folder / "params.yaml").read_text())
    tiny["lm"]["sha256"] = None
    params = merged(yaml.safe_load((ROOT / "params.yaml").read_text()), tiny)
    shutil.copytree(params["compressor"]["path"], folder / "data/compressor")
    params["compressor"]["path"] = "data/compressor"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the modules which each stage of `reproduced` imported, in a file named
    after the stage.
    """
    folder = tmp_path_factory.mktemp("imports")
    (folder / "sitecustomize.py").write_text(SITE)
    return folder


@pytest.fixture(scope="module")
def reproduced(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` ran once."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    git(committed, "clone", "-q", ".", str(folder))
    assert repro(folder) == STAGES
    return folder


@pytest.fixture
def copied(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of that clone, for tests that change it."""
    return Path(shutil.copytree(reproduced, tmp_path / "copied"))


def change(folder: Path, key: str, value: object) -> None:
    """Change the value of a dotted key in params.yaml."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    before = yaml.safe_dump(params)
    set_dotted(params, key, value)
    assert yaml.safe_dump(params) != before
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def test_a_second_run_skips_all_stages(reproduced: Path) -> None:
    before = results(reproduced)
    assert repro(reproduced) == []
    assert results(reproduced) == before


def test_another_clone_gives_the_same_outputs(
    committed: Path, reproduced: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(committed, "clone", "-q", ".", str(other))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as OMP_NUM_THREADS in the clone whose stages DVC ran
    with contextlib.chdir(other), ProgressBar(console(stderr=True)) as progress:
        for stage in STAGES:  # in this process: two of them would import torch for seconds
            dvc_stages.STAGES[stage](Path("params.yaml"), progress)
        with Repo() as repo:
            repo.commit(force=True)
    torch.set_num_threads(threads)
    assert results(other) == results(reproduced)
    locks = [(folder / "dvc.lock").read_bytes() for folder in (other, reproduced)]
    assert locks[0] == locks[1]


def test_only_lock_metrics_and_plots_are_new_to_git(reproduced: Path) -> None:
    new = git(reproduced, "status", "--porcelain", "--untracked-files=all").split()[1::2]
    assert new == [
        "dvc.lock",
        "metrics/replay.json",
        "metrics/scores.json",
        "plots/rounds.png",
        "plots/scores.png",
    ]


def test_a_changed_parameter_reruns_the_stages_that_read_it(copied: Path) -> None:
    before = (copied / "params.yaml").read_text()
    for key, value, stages in (
        ("selection.top_k", 2, ["replay", "evaluate"]),
        ("research.selection.best_windows", 5, ["train", "replay", "evaluate"]),
        ("research.selection.max_logprob_gap", 5.0, ["replay", "evaluate"]),
        ("research.objective.alpha", 0.5, ["train"]),
        ("answering.max_new_tokens", 3, ["replay", "evaluate"]),
        ("evaluation.earlier_questions", 1, ["replay"]),
        ("gate.min_f1", 1.0, ["replay"]),
        ("bank.codes", "fp16", ["replay"]),
        ("train.learning_rate", 0.01, ["train"]),
        ("stream.period", "week", ["prepare"]),
        ("tracking.experiment", "other", []),
        ("stream.quarantine", "data/elsewhere", []),
    ):
        change(copied, key, value)
        assert pending(copied) == stages, key
        (copied / "params.yaml").write_text(before)


def test_new_articles_are_replayed_and_evaluated(copied: Path) -> None:
    with (copied / "news/documents.jsonl").open("a") as file:
        file.write('{"doc_id": "new", "published_at": "2031-03-01T00:00:00Z", "text": "New."}\n')
    assert repro(copied, "prepare") == ["prepare"]
    assert pending(copied) == ["replay", "evaluate"]


def test_every_module_that_a_stage_imports_is_a_dependency(reproduced: Path, imports: Path) -> None:
    stages = yaml.safe_load((reproduced / "dvc.yaml").read_text())["stages"]
    # dependencies of an earlier stage reach a later one through its outputs
    known: set[str] = set()
    for stage in STAGES:
        imported = (imports / stage).read_text().split()
        used = {name for name in imported if name.startswith("cmt.")} - SILENT
        assert used, f"{stage} imports nothing"
        known |= {dep.removesuffix(".py").replace("/", ".") for dep in stages[stage]["deps"]}
        missing = {
            name for name in used if not any(f"{name}.".startswith(f"{place}.") for place in known)
        }
        assert missing == set(), f"{stage} imports modules that dvc.yaml does not name"


def test_the_virtual_environment_of_the_project_comes_first(tmp_path: Path) -> None:
    """`.venv/bin/dvc repro` runs the Python beside it, also if the environment is not activated."""
    commands = [
        stage["cmd"] for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    ]
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    assert [call(tmp_path, "sh", "-c", command) for command in commands] == [
        f"-m cmt.cli.dvc_stages {stage}\n" for stage in STAGES
    ]
