import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmt.stream.rows import read
from cmt.stream.schema import document_id
from tests.helpers.rows import valid_documents, valid_questions


def squad() -> dict[str, Any]:
    qas = [
        {"id": 5, "question": "When?", "answers": [{"text": "noon", "answer_start": 13}] * 2},
        {
            "question": "Where?",
            "answers": {"text": ["here"], "answer_start": [0]},
        },  # as the hub writes it
    ]
    paragraph = {"context": "The ferry sails at noon.", "qas": qas}
    other = {
        "context": "The bus.",
        "qas": [{"id": "7", "question": "Who?", "answers": [{"text": "bus"}]}],
    }
    articles = [
        {"title": "Port_of_Ellery", "paragraphs": [paragraph]},
        {"title": "Bus", "paragraphs": [other]},
    ]
    return {"version": "1.1", "data": articles}


def test_contexts_become_documents_and_qas_questions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(squad()))
    raw = read(tmp_path / "a.json", file_format="squad")
    first, second = valid_documents(raw)
    assert (first["doc_id"], first["title"]) == (
        document_id("The ferry sails at noon."),
        "Port of Ellery",
    )
    assert {first["published_at"], second["published_at"]} == {datetime(2016, 6, 16, tzinfo=UTC)}
    asked = valid_questions(raw)
    assert [row["answers"] for row in asked] == [["noon"], ["here"], ["bus"]]
    assert [row["doc_id"] for row in asked] == [first["doc_id"], first["doc_id"], second["doc_id"]]
    assert (asked[0]["question_id"], len(asked[1]["question_id"])) == ("5", 16)
    assert [row.row for row in raw.questions] == [1, 2, 3]
