from datetime import UTC, datetime
from pathlib import Path

from cmt.stream.readers import read
from tests.helpers.rows import make_document, make_question, valid_documents, valid_questions, write_lines


def test_an_object_with_a_question_is_a_question(tmp_path: Path) -> None:
    raw = read(write_lines(tmp_path / "rows.jsonl", [make_document(), "", make_question()]), "jsonl")
    assert [(row.row, row.values["doc_id"]) for row in raw.documents] == [(1, "ferry")]
    assert [(row.row, row.values["question_id"]) for row in raw.questions] == [(3, "q1")]


def test_plain_dates_mean_the_start_of_the_day_for_documents_and_its_end_for_questions(tmp_path: Path) -> None:
    rows = [make_document(published_at="2026-03-02"), make_question(asked_at="2026-03-02")]
    raw = read(write_lines(tmp_path / "rows.jsonl", rows), "jsonl")
    assert valid_documents(raw)[0]["published_at"] == datetime(2026, 3, 2, tzinfo=UTC)
    assert valid_questions(raw)[0]["asked_at"] == datetime(2026, 3, 2, 23, 59, 59, 999_999, tzinfo=UTC)


def test_rejected_lines_are_passed_on(tmp_path: Path) -> None:
    raw = read(write_lines(tmp_path / "rows.jsonl", [make_document(), "{"]), "jsonl")
    assert [(row.file, row.row) for row in raw.rejected] == [("rows.jsonl", 2)]
