import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cmt.errors import StreamError
from cmt.stream.rows import read
from tests.helpers.rows import Row, valid_documents, valid_questions, write_csv, write_lines

SORTING_KEY = "20200102000000000000\x00\x01ab12\x00\x01"


def test_official_questions_refer_to_their_wmt_documents(tmp_path: Path) -> None:
    wmt = {"sorting_key": SORTING_KEY, "publication_ts": 1_577_923_200, "text": "Ann Lee won."}
    write_lines(tmp_path / "wmt.jsonl", [wmt])
    row: Row = {
        "qa_id": "eval-0",
        "question": "Who won?",
        "answers": ["Ann", "Ann Lee"],
        "answers_additional": "",
    }
    row |= {"question_ts": 1_577_923_200, "evidence_ts": 1_577_923_200, "evidence_id": SORTING_KEY}
    lines = write_lines(tmp_path / "qa.txt", [row]).read_bytes()
    (tmp_path / "streaminqa_eval.jsonl.gz").write_bytes(gzip.compress(lines))
    raw = read(tmp_path, file_format="streamingqa")
    document, question = valid_documents(raw)[0], valid_questions(raw)[0]
    assert document["doc_id"] == question["doc_id"] == "20200102000000000000-ab12"
    assert document["published_at"] == question["asked_at"] == datetime(2020, 1, 2, tzinfo=UTC)
    assert (question["question_id"], question["answers"]) == ("eval-0", ["Ann", "Ann Lee"])


def test_the_csv_files_of_camels_are_read(tmp_path: Path) -> None:
    rows = [('Ann Lee\nwon "twice".', "Who won?", "Ann\\Ann Lee"), ("The bus.", "What?", "bus")]
    path = write_csv(tmp_path / "qa.csv", ("text", "question", "answers"), rows)
    raw = read(path, file_format="streamingqa")
    assert [row["text"] for row in valid_documents(raw)] == ['Ann Lee\nwon "twice".', "The bus."]
    assert [row["answers"] for row in valid_questions(raw)] == [["Ann", "Ann Lee"], ["bus"]]
    assert {row["asked_at"] for row in valid_questions(raw)} == {datetime(2020, 12, 31, tzinfo=UTC)}
    assert [row.row for row in raw.documents] == [2, 4]


ARCHIVAL = (
    "question",
    "answer",
    "para_id",
    "doc_id",
    "para_num",
    "ans_paragraph",
    "ans_text",
    "title",
    "date",
    "year",
)


def test_the_answering_paragraph_is_published_and_asked_about_on_its_day(tmp_path: Path) -> None:
    texts = ("Ann Lee won.", "First.\nAnn Lee won.", "A race")
    rows = [
        (asked, "Ann Lee", "1234_2", "1234", "2", *texts, "1987-03-04", "1987")
        for asked in ("Who won?", "What?")
    ]
    raw = read(write_csv(tmp_path / "test.csv", ARCHIVAL, rows), file_format="archivalqa")
    document, question = valid_documents(raw)[0], valid_questions(raw)[1]
    assert (document["doc_id"], document["text"], document["title"]) == (
        "1234_2",
        "Ann Lee won.",
        "A race",
    )
    assert document["published_at"] == datetime(1987, 3, 4, tzinfo=UTC)
    assert question["asked_at"] == datetime(1987, 3, 4, 23, 59, 59, 999_999, tzinfo=UTC)
    assert (question["doc_id"], question["answers"]) == ("1234_2", ["Ann Lee"])


def test_a_file_without_the_columns_of_the_text_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.csv", ("question", "answer", "para_id"), [("a", "b", "c")])
    with pytest.raises(
        StreamError,
        match="lacks the columns ans_paragraph, title, date; its header is 'question, an",
    ):
        read(path, file_format="archivalqa")
