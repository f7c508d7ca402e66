"""Thirty-two invented documents with one question each, as tables of documents and questions."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cmt.common.digests import sha256_hex
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA, normalise

FACTS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "data/facts.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]


def documents(rows: list[dict[str, Any]]) -> pa.Table:
    """A table in DOCUMENT_SCHEMA. Rows need doc_id and text; published_at, title and supersedes are
    optional.
    """
    complete = [
        {"supersedes": None, "title": None}
        | row
        | {
            "published_at": datetime.fromisoformat(row.get("published_at", "2030-03-01T08:00:00Z")),
            "sha256": sha256_hex(normalise(row["text"])),
        }
        for row in rows
    ]
    return pa.Table.from_pylist(complete, schema=DOCUMENT_SCHEMA)


def questions(rows: list[dict[str, Any]]) -> pa.Table:
    """A table in QUESTION_SCHEMA from rows with doc_id, question and answer; asked at the date of
    publication.
    """
    complete = [
        {
            "question_id": f"{row['doc_id']}-{number}",
            "doc_id": row["doc_id"],
            "question": row["question"],
            "answers": [row["answer"]],
            "asked_at": datetime.fromisoformat(row.get("published_at", "2030-03-01T08:00:00Z")),
        }
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(complete, schema=QUESTION_SCHEMA)
