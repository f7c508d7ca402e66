"""A tiny LM of each architecture of docs/models.md, from `cmt model pull` to `cmt ask` (`make
test-scale`).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import cmt
from cmt.config import written_sections
from cmt.stream.limits import Limits
from cmt.training.sources import pull_sources
from tests.helpers.architectures import RUN, write
from tests.helpers.training import FARES, SMALL, write_squad

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.mark.parametrize("kind", RUN)
def test_an_architecture_goes_the_whole_way(kind: str, tmp_path: Path) -> None:
    _go_the_whole_way(write(kind, tmp_path / "original"), tmp_path)


@pytest.mark.parametrize(("tied", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_large_vocabulary_and_an_odd_width_go_the_whole_way(
    tied: bool, dtype: str, tmp_path: Path
) -> None:
    """Weights in bfloat16, sharded, of width 40, which is no multiple of 64, and 262,144 tokens."""
    sizes = {"vocab_size": 262_144, "hidden_size": 40, "head_dim": 10, "tie_word_embeddings": tied}
    original = write("llama", tmp_path / "original", dtype=torch.bfloat16, shard="10MB", **sizes)
    shards = json.loads((original / "model.safetensors.index.json").read_text())["weight_map"]
    assert ("lm_head.weight" in shards) != tied
    assert len(set(shards.values())) > 1
    _go_the_whole_way(
        original, tmp_path, lm={"dtype": dtype}, bank={"keep_text": False, "codes": "int4"}
    )


def _go_the_whole_way(original: Path, tmp_path: Path, **sections: dict[str, Any]) -> None:
    """Pull, train, ingest, update and ask, with `sections` over SMALL."""
    texts = {fare["doc_id"]: fare["text"] for fare in FARES[:4]}
    data = write_squad(tmp_path / "squad.json", texts)
    news = [
        {"doc_id": name, "published_at": "2026-01-02", "text": text} for name, text in texts.items()
    ]
    (tmp_path / "news.jsonl").write_text("\n".join(map(json.dumps, news)))
    params = SMALL | {
        "lm": {"source": f"path:{original}", "path": "lm"} | sections.pop("lm", {}),
        "stream": {"source": "news.jsonl"},
        "train": SMALL["train"]
        | {"source": f"path:{data}", "questions": 4, "validation_articles": 1},
        "tracking": {"enabled": False},
        "answering": {"max_new_tokens": 4},
    }
    params |= sections | {"compressor": SMALL["compressor"] | {"path": "data/trained"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(written_sections(params)))
    workspace = cmt.open(params=tmp_path / "params.yaml")
    workspace.pull()
    pull_sources(workspace.params.train, limits=Limits(workspace.params.stream))
    workspace.train()
    workspace.ingest()
    for slice_id in workspace.pending():
        assert workspace.update(slice_id=slice_id).state == "committed"
    answer = workspace.ask("What does the ferry to Saltby cost?")
    assert answer.sources or answer.verdict == "not_in_memory"
