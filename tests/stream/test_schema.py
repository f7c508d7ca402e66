from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cmt.common.digests import sha256_hex
from cmt.stream.schema import (
    DOCUMENT_SCHEMA,
    QUESTION_SCHEMA,
    Checks,
    document_id,
    normalise,
    validate_document,
    validate_question,
)
from tests.helpers.rows import NOW, make_document, make_question, validated

DROP = object()
BOTH_FORMS = "2031-02-15T06:00:00Z, or a plain date such as 2031-02-15"


def document(**changes: Any) -> dict[str, Any]:
    """The document as validated."""
    rows, _ = validated(make_document(**changes))
    assert not rows.rejected
    assert rows.table.schema.equals(DOCUMENT_SCHEMA)
    return dict(rows.table.to_pylist()[0])


def question(**changes: Any) -> dict[str, Any]:
    """The question as validated."""
    _, rows = validated(make_question(**changes))
    assert not rows.rejected
    assert rows.table.schema.equals(QUESTION_SCHEMA)
    return dict(rows.table.to_pylist()[0])


def reason(row: dict[str, Any], **changes: Any) -> str:
    """The reason for which the row is rejected."""
    row = {key: value for key, value in (row | changes).items() if value is not DROP}
    validate = validate_question if "question_id" in row else validate_document
    with pytest.raises(ValueError, match=".") as error:
        validate(row, Checks(NOW))
    return str(error.value)


def test_normalising_keeps_direction_marks_joiners_and_tabs() -> None:
    hebrew = "\u05e9\u05dc\u05d5\u05dd \u200f(\u05d0)\u200f"
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert normalise(f"{hebrew} {family} caf\u00e9\tx") == f"{hebrew} {family} caf\u00e9\tx"


def test_normalising_removes_control_characters_and_trailing_blanks() -> None:
    assert normalise("\ufeffa\x00b\x1b[0m\x9fc\ud800d") == "ab[0mcd"
    assert normalise("one  \r\ntwo\t\rthree\x0cfour \n\n") == "one\ntwo\nthree\nfour"
    assert normalise("  plain text  ") == "plain text"


@pytest.mark.parametrize(
    "text", ["e\x00\u0301", " \x00 a", "a \x1f\u2000\nb", "\u2028a\u2028", "x\r\x00\ny"]
)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_a_run_of_a_million_blanks_is_normalised_in_linear_time() -> None:
    assert (
        normalise(" " * 1_000_000 + "\u00e9" + " " * 1_000_000 + "x")
        == "\u00e9" + " " * 1_000_000 + "x"
    )


def test_a_validated_document_has_all_columns_of_the_schema() -> None:
    row = document(
        title=" A\nferry ", published_at="2031-01-02T07:00:00+01:00", supersedes="ferry-0"
    )
    assert row == {
        "doc_id": "ferry",
        "published_at": datetime(2031, 1, 2, 6, tzinfo=UTC),
        "title": "A ferry",
        "text": "The ferry sails at noon.",
        "source": "Courier",
        "url": None,
        "supersedes": "ferry-0",
        "sha256": sha256_hex("The ferry sails at noon."),
    }


@pytest.mark.parametrize("doc_id", [None, "", "  "])
def test_a_document_without_an_id_gets_the_hash_of_its_text(doc_id: str | None) -> None:
    assert document(doc_id=doc_id, text="caf\u00e9 ")["doc_id"] == document_id("cafe\u0301")


@pytest.mark.parametrize(
    "doc_id", ["O'Hara", 'a "b"', "100%", "x';-- drop", "a#1", "\u05d0\u05d1", "\U0001f41f"]
)
def test_ids_may_hold_any_printable_character(doc_id: str) -> None:
    assert document(doc_id=doc_id)["doc_id"] == doc_id
    assert question(question_id=doc_id, doc_id=doc_id)["question_id"] == doc_id


@pytest.mark.parametrize("doc_id", ["a\x00b", "a\nb", "a\ud800", "a\u2028b"])
def test_ids_may_not_hold_control_characters(doc_id: str) -> None:
    assert "doc_id" in reason(make_document(doc_id=doc_id))
    assert "control character" in reason(make_question(doc_id=doc_id))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        *(({"text": text}, "text is empty") for text in ("", "  \n", "\x00\ufeff", None)),
        ({"text": DROP}, "no text"),
        ({"text": 12}, "text must be a string, not 12"),
        ({"text": [12]}, "text must be a string, not [12]"),
        ({"supersedes": ["ferry"]}, "supersedes is the document's own doc_id 'ferry'"),
        ({"supersedes": "ferry"}, "supersedes is the document's own doc_id 'ferry'"),
        ({"doc_id": None, "text": "x", "supersedes": document_id("x")}, "own doc_id"),
        ({"published_at": DROP}, f"no published_at; write {BOTH_FORMS}"),
        (
            {"published_at": None},
            "cmt ingest also takes --map published_at=COLUMN or --published-at DATE",
        ),
        ({"published_at": ""}, "no published_at"),
        ({"published_at": "soon"}, f"published_at: 'soon' is not a date-time; write {BOTH_FORMS}"),
        ({"published_at": "05/03/2031"}, "set stream.day_first to true or to false"),
        (
            {"published_at": "2032-01-01T00:00:00Z"},
            "in the future: the clock is at 2031-12-31T23:59:59Z",
        ),
        ({"published_at": "2032-01-01"}, "published_at 2032-01-01T00:00:00Z is in the future"),
        ({"published_at": "2032-01-01"}, "set stream.clock"),
    ],
)
def test_an_invalid_document_is_rejected_with_a_reason(
    changes: dict[str, Any], expected: str
) -> None:
    assert expected in reason(make_document(), **changes)


def test_a_plain_date_is_the_start_of_the_day_of_publication_and_the_end_of_the_day_of_asking() -> (
    None
):
    today = (
        document(published_at="2031-12-31")["published_at"],
        question(asked_at="2031-12-31")["asked_at"],
    )
    assert today == (
        datetime(2031, 12, 31, tzinfo=UTC),
        datetime(2031, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    )
    assert today[0] < NOW < today[1]  # neither is in the future
    elsewhere = NOW.astimezone(timezone(timedelta(hours=12)))
    assert document(published_at=elsewhere.isoformat())["published_at"] == NOW


def test_a_validated_question_has_all_columns_of_the_schema() -> None:
    row = question(question=" When\ndoes it sail? ", answers=["noon", " noon", "", "at\u00a0noon"])
    assert row == {
        "question_id": "q1",
        "doc_id": "ferry",
        "question": "When does it sail?",
        "answers": ["noon", "at\u00a0noon"],
        "asked_at": datetime(2031, 1, 3, 6, tzinfo=UTC),
    }


def test_a_question_without_an_id_gets_a_hash_of_document_and_question() -> None:
    first = question(question_id=None, question="When?")
    assert first["question_id"] == question(question_id="", question=" When? ")["question_id"]
    assert first["question_id"] != question(question_id=None, question="Where?")["question_id"]
    assert (
        first["question_id"]
        != question(question_id=None, question="When?", doc_id="bus")["question_id"]
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"answers": DROP}, "no answers"),
        ({"answers": None}, "no answers"),
        ({"answers": []}, "answers is empty"),
        ({"answers": ["", " "]}, "answers is empty"),
        ({"answers": True}, "answers must be a list of strings, not True"),
        ({"answers": [["noon"]]}, "answers must be a list of strings"),
        ({"question": " \x00"}, "question is empty"),
        ({"question": {"text": "When?"}}, "question must be a string"),
        ({"doc_id": DROP}, "no doc_id"),
        ({"doc_id": DROP}, "cmt ingest takes --map text=answer --map title=question"),
        ({"asked_at": DROP}, "no asked_at"),
        ({"asked_at": "2033-01-03T00:00:00Z"}, "in the future"),
        ({"asked_at": "2032-01-01"}, "in the future"),
    ],
)
def test_an_invalid_question_is_rejected_with_a_reason(
    changes: dict[str, Any], expected: str
) -> None:
    assert expected in reason(make_question(), **changes)


def test_a_row_that_is_too_deep_to_print_is_rejected() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    rows, _ = validated({"text": deep})
    assert "text must be a string" in rows.rejected[0].reason
