"""A whole project in miniature: a random LM of some kilobytes, an untrained compressor, two months
of news.
"""

import gc
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cmt.config import load_params, written_sections
from cmt.modeling.loading import new_memory_model

if TYPE_CHECKING:
    from cmt.lm.model import FrozenLM

for name in (
    "CMT_PARAMS",
    "MLFLOW_TRACKING_URI",
):  # the user's own project and server stay as they are
    os.environ.pop(name, None)

ROOT = Path(__file__).parents[1]

ARTICLES = [
    ("mayor-1", "2031-01-06T07:00:00Z", "Moss elected", "Moss is the mayor of Port Ellery.", None),
    (
        "ferry",
        "2031-01-09T07:00:00Z",
        "Saltby crossing",
        "The ferry to Saltby costs six crowns.",
        None,
    ),
    (
        "raft",
        "2031-01-12T07:00:00Z",
        "[red]The raft[/] :fire:",
        "Greta was first to the yellow raft.",
        None,
    ),
    (
        "mayor-2",
        "2031-02-20T07:00:00Z",
        "Vell succeeds Moss",
        "Vell is the mayor of Port Ellery now.",
        "mayor-1",
    ),
    (
        "crane's 100%; --",
        "2031-02-03T07:00:00Z",
        "A crane",
        "The crane in the harbour is blue.",
        None,
    ),
    ("hitch", "2031-02-05T07:00:00Z", "A knot", "A hangman thought up the Dunmarrow hitch.", None),
]
QUESTIONS = [
    ("mayor-1", "2031-01-20T07:00:00Z", "Who is the mayor of Port Ellery?", "Moss"),
    ("ferry", "2031-01-20T07:00:00Z", "What does the ferry to Saltby cost?", "six crowns"),
    ("mayor-2", "2031-02-25T07:00:00Z", "Who is the mayor of Port Ellery?", "Vell"),
    ("hitch", "2031-02-25T07:00:00Z", "Who thought up the Dunmarrow hitch?", "a hangman"),
]


LONGEST = [
    "flows/",
    "integration/",
    "benchmarks/",
    "rounds/test_attacks.py",
    "report/",
    "evaluation/test_answer_record.py",
    "evaluation/",
    "cli/",
    "rounds/",
    "tracking/",
    "training/",
]
"""The slowest tests come first: at the end of the run no worker waits long for another."""
TOGETHER = ("flows/", "report/")
"""Folders whose files share a slow fixture, such as a Prefect server; each folder runs on one
worker.
"""


def _position(nodeid: str) -> int:
    path = nodeid.removeprefix("tests/")
    return next(
        (position for position, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST)
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by LONGEST; `--no-loadscope-reorder` keeps this order."""
    items.sort(key=lambda item: _position(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, with TOGETHER."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            position = _position(nodeid)
            together = position < len(LONGEST) and LONGEST[position] in TOGETHER
            return LONGEST[position] if together else str(super()._split_scope(nodeid))

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection: collecting them takes longer than most
    tests.
    """
    import hypothesis  # noqa: F401 - at its import it asks for the referrers of objects, of which freezing hides some

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Sections of params.yaml for an LM and a compressor that all projects share and no test
    changes.
    """
    from cmt.lm.model import FrozenLM
    from cmt.lm.weights import pull
    from cmt.modeling.checkpoint import CompressorConfig
    from tests.helpers.tiny import (
        write_folder,
    )  # imports torch, which xdist's own process does not need

    folder = tmp_path_factory.mktemp("tiny")
    sections: dict[str, object] = {
        "lm": {"source": f"path:{write_folder(folder / 'lm')}", "path": str(folder / "pulled")},
        "compressor": {
            "path": str(folder / "compressor"),
            "layers": 1,
            "lora_rank": 2,
            "chunk_tokens": 64,
        },
        "aggregator": {"blocks": 1, "lora_rank": 2},
        "alignment": {"slots": 2},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(written_sections(sections)))
    params = load_params(folder / "params.yaml")
    lm = FrozenLM.load(pull(source=params.lm.source, path=params.lm.path))
    new_memory_model(lm, CompressorConfig.of(params)).save(params.compressor.path)
    return sections


@pytest.fixture(scope="session")
def tiny_project(tiny_parts: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its first command; copied for each test."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "news").mkdir()
    _write_lines(
        folder / "news/documents.jsonl",
        ["doc_id", "published_at", "title", "text", "supersedes"],
        ARTICLES,
    )
    questions = [(*row[:3], [row[3]]) for row in QUESTIONS]
    _write_lines(
        folder / "news/questions.jsonl", ["doc_id", "asked_at", "question", "answers"], questions
    )
    params = tiny_parts | {
        "stream": {"source": "news", "clock": "2031-12-31T23:59:59Z"},
        "answering": {"max_new_tokens": 4},
        "evaluation": {"round_baselines": True},
        "tracking": {"enabled": False},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(written_sections(params)))
    return folder


@pytest.fixture
def tiny_workspace(tiny_project: Path, tmp_path: Path) -> Path:
    """A new project folder; its articles are in `news/`, not ingested yet."""
    return Path(shutil.copytree(tiny_project, tmp_path / "project"))


@pytest.fixture(scope="session")
def adapted_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after its two rounds, read-only: tests that change it use `adapted_workspace`."""
    from tests.helpers.projects import adapt

    return adapt(
        Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("adapted") / "project"))
    )


@pytest.fixture
def adapted_workspace(adapted_project: Path, tmp_path: Path) -> Path:
    """A copy of the project after its two rounds."""
    return Path(shutil.copytree(adapted_project, tmp_path / "adapted"))


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database to copy; creating one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture(scope="session")
def registered(
    adapted_project: Path, mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project with a filled bank whose compressor is the registered champion; read-only."""
    from cmt.rounds.promotion import promote_version
    from tests.helpers.projects import open_workspace
    from tests.helpers.registry import add

    folder = Path(
        shutil.copytree(adapted_project, tmp_path_factory.mktemp("registered") / "project")
    )
    shutil.copy(mlflow_database, folder / "mlflow.db")
    assert add(folder, load_params(folder / "params.yaml").compressor.path, f1=40.0) == "1"
    assert promote_version(open_workspace(folder).project).promoted
    return folder


def _write_lines(path: Path, names: list[str], rows: Sequence[tuple[object, ...]]) -> None:
    lines = (json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_lm() -> "Callable[[str], FrozenLM]":
    """`tiny_lm("llama" | "gpt2" | "qwen2")`: one random, read-only LM of each kind for the whole
    test run.
    """
    from tests.helpers.lms import build

    return cache(build)


@pytest.fixture(scope="session")
def real_lm() -> "FrozenLM":
    """The base LM of params.yaml, as `cmt model pull` left it."""
    from cmt.lm.installed import installed
    from cmt.lm.model import FrozenLM

    params = load_params(ROOT / "params.yaml")
    return FrozenLM.load(
        installed(source=params.lm.source, path=params.lm.path), dtype=params.lm.dtype
    )
