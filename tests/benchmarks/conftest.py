"""Fixtures of the tests of the benchmarks."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cmt.config import TrainParams
from cmt.training.sources import pull_sources
from tests.helpers.training import FARES


@pytest.fixture(scope="session")
def training_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project whose training data, eight paragraphs of four articles, are installed."""
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("training") / "project"))
    articles = [
        {
            "title": f"Fares {number}",
            "paragraphs": [
                {
                    "context": row["text"],
                    "qas": [{"id": row["doc_id"], "question": row["question"], "answers": [{"text": row["answer"]}]}],
                }
                for row in FARES[2 * number : 2 * number + 2]
            ],
        }
        for number in range(4)
    ]
    source = folder / "pairs.json"
    source.write_text(json.dumps({"version": "1.1", "data": articles}))
    pull_sources(TrainParams(source=f"path:{source}", path=folder / "train"))
    params = yaml.safe_load((folder / "params.yaml").read_text()) | {
        "train": {
            "source": "path:pairs.json",
            "path": "train",
            "validation_articles": 1,
            "paragraphs": 2,
            "save_steps": 1000,
            "answer_fraction": 0.5,
        }
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder
