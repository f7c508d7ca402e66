import pytest

from cmt.stream.columns import Columns, Record
from cmt.stream.readers._squad import RELEASED_AT
from cmt.stream.rows import collect
from cmt.stream.schema import RAW_LENGTH, Notes

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


def table(*rows: dict[str, str], file: str = "tickets.csv") -> list[Record]:
    return [Record(dict(row), f"{file} row {number}") for number, row in enumerate(rows, 2)]


def ids_of(records: list[Record], columns: Columns | None = None) -> list[str | None]:
    return [row.values.get("doc_id") for row in collect(records, columns or Columns()).documents]


@pytest.mark.parametrize("key", ["Ticket ID", "issueKey", "CASE_NUMBER", "Ref", "No.", "Ticket #"])
def test_a_column_of_unique_short_values_names_the_rows(key: str) -> None:
    one, other = ({"Body": "It jams.", "Customer ID": "7", key: name} for name in ("A-1", "A-2"))
    columns = Columns()
    assert ids_of(table(one, other, one), columns) == ["A-1", "A-2", "A-1"]
    assert columns.chosen()["doc_id"] == key
    first = collect(table(one, other), Columns()).documents[0].values["text"]
    assert first.splitlines()[:3] == ["It jams.", "", "Customer ID: 7"]
    assert first.endswith(": A-1")


def test_values_that_repeat_number_the_rows_or_are_long_are_no_ids() -> None:
    thread = [{"body": text, "ticket_id": "A-1"} for text in ("It jams.", "Solved.")]
    numbered = [{"body": text, "No.": number} for number, text in enumerate(("One.", "Two."), 1)]
    long = [
        {"body": "It jams.", "Key": f"{n} in a long sentence about the second jam"} for n in "ab"
    ]
    one = [{"body": "It jams.", "Ticket ID": "A-1"}]
    for rows in (thread, numbered, long, one):
        assert set(ids_of(table(*rows))) == {None}
    chosen = [{"body": "It jams.", "Ticket ID": name} for name in ("A-1", "A-2")]
    assert ids_of(table(*chosen), Columns({"doc_id": ""})) == [None, None]
    assert ids_of(table(*chosen[:1]) + table(*thread, file="b.csv")) == [None] * 3


def test_equal_texts_of_different_titles_are_documents_of_their_own() -> None:
    rows = [{"subject": name, "body": "It is broken."} for name in ("Mouse", "Lamp", "Lamp")]
    columns = Columns()
    documents = collect(table(*rows), columns).documents
    assert [row.values["text"].splitlines()[-1] for row in documents] == ["Mouse", "Lamp", "Lamp"]
    assert any(line.startswith("3 × ") for line in columns.notices(Notes()))
    assert collect(table(*rows[1:]), Columns()).documents[0].values["text"] == "It is broken."


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
