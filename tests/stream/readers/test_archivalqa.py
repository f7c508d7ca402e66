from datetime import UTC, datetime
from pathlib import Path

import pytest

from cmt.errors import StreamError
from cmt.stream.rows import read, validate_rows
from cmt.stream.schema import Checks
from tests.helpers.rows import NOW, valid_documents, valid_questions, write_csv

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
