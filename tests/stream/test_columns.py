"""Columns are matched by their names, and nothing is guessed or left out without a word."""

from typing import Any

import pytest

from cmt.stream.columns import Columns
from cmt.stream.schema import Notes
from cmt.text.date_formats import WITHOUT_ZONE


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"content": None, "description": "It is long."}, {"text": "It is long."}),
        ({"comment": "Checked.", "description": "It is long."}, {"text": "It is long."}),
        ({"comment": "It is long.", "author": "a"}, {"text": "It is long."}),
        (
            {"source": {"id": None, "name": "Post"}, "body": "It is long."},
            {"source": "Post", "text": "It is long."},
        ),
        (  # WordPress
            {
                "id": 7,
                "title": {"rendered": "Mole"},
                "content": {"rendered": "It is long."},
                "date": "d",
            },
            {"doc_id": 7, "title": "Mole", "text": "It is long.", "published_at": "d"},
        ),
        (
            {"Dc:Date": "d", "Article Body": "It is long."},
            {"published_at": "d", "text": "It is long."},
        ),
        (
            {"Veröffentlicht am": "d", "UEBERSCHRIFT": "Mole", "Text": "x"},
            {"published_at": "d", "title": "Mole", "text": "x"},
        ),
        ({"body": "same", "content": "same"}, {"text": "same"}),
        (
            {"published": True, "date": "d", "text": "x"},
            {"published_at": "d", "text": "x"},
        ),  # Jekyll
        ({"published": "1", "date": "d", "text": "x"}, {"published_at": "d", "text": "x"}),
        (  # JSON-LD
            {
                "@context": "https://schema.org",
                "@id": "a",
                "description": "It is long.",
                "datePublished": "d",
            },
            {"doc_id": "a", "text": "It is long.", "published_at": "d"},
        ),
        ({"Summary": "s", "Description": "d", "Comment": "c"}, {"title": "s", "text": "d"}),  # Jira
        ({"Summary": "s", "Comment": "c"}, {"text": "s"}),
        (
            {"article": {"body": "x", "date": "d"}, "id": 3},
            {"doc_id": 3, "text": "x", "published_at": "d"},
        ),
        (
            {"_id": 1, "_source": {"body": "x", "date": "d"}},
            {"doc_id": 1, "text": "x", "published_at": "d"},
        ),
        (
            {"Date Modified": "m", "Date Created": "d", "text": "x"},
            {"published_at": "d", "text": "x", "modified_at": "m"},
        ),
        (
            {"created": {"$date": "d"}, "published": False, "text": "x"},
            {"published_at": "d", "text": "x"},
        ),  # MongoDB
    ],
)
def test_the_columns_of_a_document_are_matched(
    fields: dict[str, Any], values: dict[str, Any]
) -> None:
    assert Columns().match(fields)[:2] == ("document", values)


def test_the_id_of_a_question_is_no_document() -> None:
    row = {"id": 3, "document_id": "a", "question": "When?", "answer": "noon", "date": "d"}
    expected = {
        "question_id": 3,
        "doc_id": "a",
        "question": "When?",
        "answers": "noon",
        "asked_at": "d",
    }
    assert Columns().match(row)[:2] == ("question", expected)


def test_a_row_without_a_text_names_its_columns() -> None:
    with pytest.raises(
        ValueError, match="no text in its columns, 'x', 'y': name one with --map text=COLUMN"
    ):
        Columns().match({"x": "a", "y": ""})


def test_a_chosen_column_serves_one_purpose_and_a_blank_one_is_not_read() -> None:
    columns = Columns({"text": "summary", "doc_id": "", "title": "meta.name"})
    values = columns.match({"summary": "s", "body": "b", "id": 1, "meta": {"name": "N"}})[1]
    assert values == {"text": "s", "title": "N"}
    missing = Columns({"text": "boddy"})
    missing.match({"body": "b"})
    assert "no row has the column boddy, which --map or stream.columns names" in missing.notices(
        Notes()
    )


def test_what_was_matched_and_what_is_not_read_is_told_once() -> None:
    columns, notes = Columns(), Notes()
    for number in range(3):
        columns.match(
            {
                "body": f"text {number}",
                "timestamp": 1,
                "supersede": "a",
                "author": "b",
                "Answers": "c",
            }
        )
    notes.forms["published_at", "epoch seconds"] = 2
    notes.forms["published_at", "ISO 8601" + WITHOUT_ZONE] = 1
    notes.add("title is left out, because it is no string", {"a": 1})
    assert columns.matched(notes) == (
        f"published_at ← timestamp (epoch seconds, ISO 8601{WITHOUT_ZONE}), text ← body"
    )
    assert columns.notices(notes) == [
        "not read: supersede (did you mean supersedes?)",
        "read as lines of the text: author, Answers",
        "1 × title is left out, because it is no string, such as {'a': 1}",
        "1 × a date has no time zone and is read in stream.timezone",
    ]


def test_short_values_of_columns_without_a_role_are_lines_of_the_text() -> None:
    fields = {
        "Ticket ID": "HD-7",
        "Description": "It jams.",
        "Resolution": "Cleaned.\nTested.",
        "labels": ["tray", "jam"],
        "Notes": "x" * 400,
        "avatarUrl": "https://a.example/1.png",
        "lang": "en",
        "is_hidden": True,
        "fields": {"sectionName": "Office"},
        "author": {"name": "Ada"},
        "updated_at": "2031-01-02",
    }
    lines = {
        "Ticket ID": "HD-7",
        "Resolution": "Cleaned. Tested.",
        "labels": "tray, jam",
        "fields.sectionName": "Office",
        "author": "Ada",
    }
    columns = Columns()
    match = columns.match(fields)
    assert (match.others.lines, match.others.ids) == (lines, {"Ticket ID": "HD-7"})
    assert columns.match(fields, is_row=False).others.lines == {}
    assert Columns(columns.chosen()).match(fields).others.lines == lines


def test_several_columns_may_be_the_text() -> None:
    columns = Columns({"text": "Problem, Resolution,Missing"})
    rows = [
        {"Problem": "It jams.", "Resolution": "Cleaned.", "Queue": "IT"},
        {"Resolution": "None.", "Queue": "IT"},
        {"Resolution": "None.", "body": "It smokes."},
    ]
    matches = [columns.match(row) for row in rows]
    assert [match.values["text"] for match in matches] == ["It jams.", "None.", "It smokes."]
    lines = [match.others.lines for match in matches]
    assert lines == [{"Resolution": "Cleaned."}, {}, {"Resolution": "None."}]
    notices = columns.notices(Notes())
    assert any("Missing" in line and "Problem" not in line for line in notices)


def test_rows_with_ever_other_columns_are_counted_in_bounded_memory() -> None:
    columns = Columns()
    for number in range(2_500):
        columns.match({"body": "x", f"column {number}": 1})
    assert columns.matched(Notes()) == "text ← body"
    assert columns.notices(Notes())[0].endswith("and 2,492 more")
