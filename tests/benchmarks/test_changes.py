"""The stories whose facts change without a label, as data/stories stores them."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripts import load_script

SCRIPT = load_script("changes")
ROWS: dict[str, list[dict[str, Any]]] = {
    "documents": [
        {"doc_id": "x1", "published_at": "2030-01-01", "text": "The toll is two crowns."},
        {"doc_id": "x2", "published_at": "2030-02-01", "text": "The toll is three crowns."},
        {"doc_id": "y1", "published_at": "2030-01-01", "text": "A trip costs one crown."},
    ],
    "questions": [
        {"question": "What is the toll?", "doc_id": "x1", "answers": ["two crowns"]},
        {"question": "What is the toll?", "doc_id": "x2", "answers": ["three crowns"]},
        {"question": "What is a trip?", "doc_id": "y1", "answers": ["one crown"]},
    ],
    "links": [
        {"story": "x", "kind": "change/plain", "documents": ["x1", "x2"]},
        {"story": "y", "kind": "trap/plan", "documents": ["y1"]},
    ],
}


@pytest.mark.parametrize("packed", [False, True])
def test_stories_are_read_by_writer(packed: bool, tmp_path: Path) -> None:
    for name, rows in ROWS.items():
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = tmp_path / f"{name}.jsonl"
        if packed:
            file.with_suffix(".jsonl.xz").write_bytes(lzma.compress(content))
        else:
            file.write_bytes(content)

    first, second = SCRIPT.Stories.read(tmp_path)

    assert (first.writer, second.writer) == ("x", "y")
    assert first.documents["doc_id"].to_pylist() == ["x1", "x2"]
    assert [first.group(question) for question in first.questions] == ["between", "end"]
    assert [second.group(question) for question in second.questions] == ["trap"]
