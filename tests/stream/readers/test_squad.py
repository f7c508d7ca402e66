import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cmt.stream.rows import read, validate_rows
from cmt.stream.schema import Checks, document_id
from tests.helpers.rows import NOW, valid_documents, valid_questions


def squad(**changes: Any) -> dict[str, Any]:
    qas = [
        {"id": "5", "question": "When?", "answers": [{"text": "noon", "answer_start": 13}] * 2},
        {"question": "Where?", "answers": [{"text": "here", "answer_start": 0}]},
    ]
    paragraph = {"context": "The ferry sails at noon.", "qas": qas} | changes
    other = {"context": "The bus.", "qas": [{"id": "7", "question": "Who?", "answers": [{"text": "bus"}]}]}
    articles = [{"title": "Port_of_Ellery", "paragraphs": [paragraph]}, {"title": "Bus", "paragraphs": [other]}]
    return {"version": "1.1", "data": articles}


def test_contexts_become_documents_and_qas_questions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(squad()))
    raw = read(tmp_path / "a.json", file_format="squad")
    first, second = valid_documents(raw)
    assert (first["doc_id"], first["title"]) == (document_id("The ferry sails at noon."), "Port of Ellery")
    assert {first["published_at"], second["published_at"]} == {datetime(2016, 6, 16, tzinfo=UTC)}
    asked = valid_questions(raw)
    assert [row["answers"] for row in asked] == [["noon"], ["here"], ["bus"]]
    assert [row["doc_id"] for row in asked] == [first["doc_id"], first["doc_id"], second["doc_id"]]
    assert (asked[0]["question_id"], len(asked[1]["question_id"])) == ("5", 16)
    assert [row.row for row in raw.questions] == [1, 2, 3]


@pytest.mark.parametrize(
    ("qas", "good", "bad"),
    [
        (None, 0, 0),
        (["When?"], 0, 1),
        ([{"question": "When?"}, {"question": "When?", "answers": [{"text": "noon"}]}], 1, 1),
        ([{"id": 7211011040021040393, "question": "When?", "answers": {"text": ["noon"], "answer_start": [0]}}], 1, 0),
    ],
)
def test_a_question_in_another_layout_costs_neither_its_paragraph_nor_the_others(
    tmp_path: Path, qas: Any, good: int, bad: int
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(squad(qas=qas)))
    raw = read(tmp_path / "a.json", file_format="squad")
    _, questions = validate_rows(raw, Checks(NOW))
    assert len(valid_documents(raw)) == 2
    assert questions.table["answers"].to_pylist() == [["noon"]] * good + [["bus"]]
    assert len(raw.rejected) + len(questions.rejected) == bad
