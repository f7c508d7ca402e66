from cmt.stream.columns import Columns, Record
from cmt.stream.readers._squad import RELEASED_AT
from cmt.stream.rows import collect
from cmt.stream.schema import RAW_LENGTH

RECORDS = [
    Record({"body": "A lamp was lit.", "date": "2031-01-02"}, "a/news.csv row 2"),
    Record({"raw": "x,"}, "a/news.csv row 3", "has 1 field"),
    Record({"body": "one", "content": "two"}, "a/news.csv row 4"),
    Record({}, "a/page.html", "page.html is empty"),
    Record({"question": "Who lit it?", "doc_id": "a", "answers": ["Ann"]}, "a/q.jsonl row 1"),
    Record({"text": "From SQuAD.", "published_at": RELEASED_AT}, "squad.json row 1"),
]


def test_records_become_rows_and_each_bad_one_is_rejected_where_it_is() -> None:
    raw = collect(RECORDS, Columns(), published_at="2031-02-02")
    assert [(row.file, row.row) for row in raw.documents] == [("a/news.csv", 2), ("squad.json", 1)]
    assert [row.values["published_at"] for row in raw.documents] == ["2031-01-02", "2031-02-02"]
    assert raw.questions[0].values["asked_at"] == "2031-02-02"
    assert [(row.file, row.row, row.raw[:2]) for row in raw.rejected] == [
        ("a/news.csv", 3, "x,"),
        ("a/news.csv", 4, '{"'),
        ("a/page.html", 1, ""),
    ]


def test_the_digest_of_rows_depends_on_their_content_alone() -> None:
    moved = [record._replace(where=f"b row {number}") for number, record in enumerate(RECORDS, 1)]
    assert collect(moved, Columns()).digest == collect(RECORDS, Columns()).digest
    assert collect(RECORDS[1:], Columns()).digest != collect(RECORDS, Columns()).digest


def test_the_raw_text_of_a_record_with_an_error_is_cut() -> None:
    records = [
        Record({"raw": "late " * RAW_LENGTH}, "a row 1", "broken"),
        Record({"raw": 5}, "a row 2", "broken"),
    ]
    assert [len(row.raw) for row in collect(records, Columns()).rejected] == [RAW_LENGTH, 1]
