"""A tiny LM of each architecture of docs/models.md, from `cmt model pull` to `cmt ask` (`make test-scale`)."""

import json
from pathlib import Path

import pytest
import yaml

import cmt
from cmt.stream.limits import Limits
from cmt.training.sources import pull_sources
from tests.helpers.architectures import RUN, write
from tests.helpers.training import FARES, SMALL, write_squad

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.mark.parametrize("kind", RUN)
def test_an_architecture_goes_the_whole_way(kind: str, tmp_path: Path) -> None:
    texts = {fare["doc_id"]: fare["text"] for fare in FARES[:4]}
    data = write_squad(tmp_path / "squad.json", texts)
    news = [{"doc_id": name, "published_at": "2026-01-02", "text": text} for name, text in texts.items()]
    (tmp_path / "news.jsonl").write_text("\n".join(map(json.dumps, news)))
    params = SMALL | {
        "lm": {"source": f"path:{write(kind, tmp_path / 'original')}", "path": "lm"},
        "stream": {"source": "news.jsonl"},
        "train": SMALL["train"] | {"source": f"path:{data}", "questions": 4, "validation_articles": 1},
        "tracking": {"enabled": False},
        "answering": {"max_new_tokens": 4},
    }
    params["compressor"] = SMALL["compressor"] | {"path": "data/trained"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = cmt.open(params=tmp_path / "params.yaml")
    workspace.pull()
    pull_sources(workspace.params.train, limits=Limits(workspace.params.stream))
    workspace.train()
    workspace.ingest()
    for slice_id in workspace.pending():
        assert workspace.update(slice_id=slice_id).state == "committed"
    answer = workspace.ask("What does the ferry to Saltby cost?")
    assert answer.sources or answer.verdict == "not_in_memory"
