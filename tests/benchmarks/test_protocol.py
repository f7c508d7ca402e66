"""What the benchmarks share."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.scripts import load_script


@pytest.fixture(scope="module")
def protocol() -> ModuleType:
    return load_script("protocol")


def test_the_bundled_stories_are_read_from_packed_files(protocol: ModuleType) -> None:
    documents, questions, links = protocol.read_stories(protocol.ROOT / "data/stories")
    assert (len(documents), len(questions), len(links)) == (23_870, 19_341, 11_517)
    doc_ids = {row["doc_id"] for row in documents}
    assert {row["doc_id"] for row in questions} <= doc_ids
    assert {doc_id for row in links for doc_id in row["documents"]} <= doc_ids


def test_stories_of_ones_own_may_be_plain(protocol: ModuleType, tmp_path: Path) -> None:
    rows = {"documents": [{"doc_id": "é"}], "questions": [], "links": [{"story": "P1"}]}
    for name, lines in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    assert protocol.read_stories(tmp_path) == tuple(rows.values())
