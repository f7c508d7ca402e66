import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cmt.errors import StreamError
from cmt.stream.rows import read, validate_rows
from cmt.stream.schema import Checks
from tests.helpers.rows import NOW, Row, valid_documents, valid_questions, write_csv, write_lines

SORTING_KEY = "20200102000000000000\x00\x01ab12\x00\x01"


def official_question(**changes: Any) -> Row:
    row: Row = {"qa_id": "eval-0", "question": "Who won?", "answers": ["Ann", "Ann Lee"], "answers_additional": ""}
    row |= {"question_ts": 1_577_923_200, "evidence_ts": 1_577_923_200, "evidence_id": SORTING_KEY}
    row |= {"recent_or_past": "recent", "written_or_generated": "written", "toxicity_insult": 0.1}
    return row | changes


def test_official_questions_refer_to_their_wmt_documents(tmp_path: Path) -> None:
    wmt = {"sorting_key": SORTING_KEY, "publication_ts": 1_577_923_200, "text": "Ann Lee won."}
    write_lines(tmp_path / "wmt.jsonl", [wmt])
    lines = write_lines(tmp_path / "qa.txt", [official_question()]).read_bytes()
    (tmp_path / "streaminqa_eval.jsonl.gz").write_bytes(gzip.compress(lines))
    raw = read(tmp_path, file_format="streamingqa")
    document, question = valid_documents(raw)[0], valid_questions(raw)[0]
    assert document["doc_id"] == question["doc_id"] == "20200102000000000000-ab12"
    assert document["published_at"] == question["asked_at"] == datetime(2020, 1, 2, tzinfo=UTC)
    assert (question["question_id"], question["answers"]) == ("eval-0", ["Ann", "Ann Lee"])


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [(None, "no asked_at"), (True, "True is not a date"), (10**30, "not a date"), ("1", "1 is not a date")],
)
def test_a_timestamp_that_is_not_an_instant_is_rejected(tmp_path: Path, timestamp: Any, reason: str) -> None:
    path = write_lines(tmp_path / "qa.jsonl", [official_question(question_ts=timestamp)])
    raw = read(path, file_format="streamingqa")
    rejected = validate_rows(raw, Checks(NOW))[1].rejected
    assert reason in rejected[0].reason


def test_the_csv_files_of_camels_are_read(tmp_path: Path) -> None:
    rows = [('Ann Lee\nwon "twice".', "Who won?", "Ann\\Ann Lee"), ("The bus.", "What?", "bus")]
    path = write_csv(tmp_path / "qa.csv", ("text", "question", "answers"), rows)
    raw = read(path, file_format="streamingqa")
    assert [row["text"] for row in valid_documents(raw)] == ['Ann Lee\nwon "twice".', "The bus."]
    assert [row["answers"] for row in valid_questions(raw)] == [["Ann", "Ann Lee"], ["bus"]]
    assert {row["asked_at"] for row in valid_questions(raw)} == {datetime(2020, 12, 31, tzinfo=UTC)}
    assert [row.row for row in raw.documents] == [2, 4]


ARCHIVAL = ("question", "answer", "para_id", "doc_id", "para_num", "ans_paragraph", "ans_text", "title", "date", "year")


def archival(question: str = "Who won?", date: str = "1987-03-04") -> tuple[str, ...]:
    return (question, "Ann Lee", "1234_2", "1234", "2", "Ann Lee won.", "First.\nAnn Lee won.", "A race", date, "1987")


def test_the_answering_paragraph_is_published_and_asked_about_on_its_day(tmp_path: Path) -> None:
    raw = read(write_csv(tmp_path / "test.csv", ARCHIVAL, [archival(), archival("What?")]), file_format="archivalqa")
    document, question = valid_documents(raw)[0], valid_questions(raw)[1]
    assert (document["doc_id"], document["text"], document["title"]) == ("1234_2", "Ann Lee won.", "A race")
    assert document["published_at"] == datetime(1987, 3, 4, tzinfo=UTC)
    assert question["asked_at"] == datetime(1987, 3, 4, 23, 59, 59, 999_999, tzinfo=UTC)
    assert (question["doc_id"], question["answers"]) == ("1234_2", ["Ann Lee"])


@pytest.mark.parametrize("date", ["", "None-None-None", "1987-13-01"])
def test_a_row_without_a_date_is_rejected(tmp_path: Path, date: str) -> None:
    raw = read(write_csv(tmp_path / "test.csv", ARCHIVAL, [archival(date=date)]), file_format="archivalqa")
    rejected = validate_rows(raw, Checks(NOW))[0].rejected
    assert "published_at" in rejected[0].reason


def test_a_file_without_the_columns_of_the_text_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.csv", ("question", "answer", "para_id"), [("a", "b", "c")])
    with pytest.raises(StreamError, match="lacks the columns ans_paragraph, title, date; its header is 'question, an"):
        read(path, file_format="archivalqa")
