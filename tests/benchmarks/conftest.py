"""Fixtures of the tests of the benchmarks."""

import shutil
from pathlib import Path

import pytest

from cmt.config import TrainParams
from cmt.training.sources import pull_sources
from tests.helpers.projects import change_params
from tests.helpers.training import FARES, squad


@pytest.fixture(scope="session")
def training_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project whose training data, eight paragraphs of four articles, are installed."""
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("training") / "project"))
    rows = [
        {"id": row["doc_id"], "title": f"Fares {number // 2}", "context": row["text"]}
        | {"question": row["question"], "answers": [row["answer"]]}
        for number, row in enumerate(FARES)
    ]
    source = folder / "pairs.json"
    source.write_bytes(squad(rows))
    pull_sources(TrainParams(source=f"path:{source}", path=folder / "train"))
    train = {"source": "path:pairs.json", "path": "train", "validation_articles": 1}
    train |= {"paragraphs": 2, "save_steps": 1000, "answer_fraction": 0.5}
    change_params(folder, train=train)
    return folder
