"""Other names, versions, rings, and questions with and without their document, all through
`ingest`.
"""

import random
import time
from pathlib import Path

import pytest

from cmt.common.arrow import rows_of
from cmt.stream.admission.intake import StoredRows, select, select_with_unanswerable, versions_of
from cmt.stream.rows import read, validate_rows
from cmt.stream.schema import Checks
from cmt.stream.store import SliceStore
from cmt.timeline import Timeline
from tests.helpers.rows import NOW, Ingest, doc_ids, make_document, make_question, write_lines

JANUARY, FEBRUARY = "2031-01-02T06:00:00Z", "2031-02-02T06:00:00Z"


def texts(store: SliceStore) -> list[tuple[str, str]]:
    """(doc_id, text) of every document in the store."""
    return list(rows_of(store.all_documents(), "doc_id", "text"))


def test_thousands_of_documents_with_the_same_text_are_names_of_one(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [make_document(f"d{number}", text="The same.") for number in range(4_000)]
    started = time.process_time()  # not the wall clock: the machine may be busy
    report = ingest([*rows, make_question(doc_id="d3999")])
    assert time.process_time() - started < 8
    assert (report.accepted, report.repeats, report.rejected) == (4_000, 3_999, ())
    assert store.all_questions()["doc_id"].to_pylist() == ["d0"]
    assert ingest([*rows, make_question(doc_id="d3999")]).slices == ()


def test_a_text_in_force_with_a_new_id_is_another_name_that_lasts(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([make_document("a", text="The same.")])
    report = ingest([make_document("b", text="The same.\r\n"), make_question(doc_id="b")])
    assert (report.accepted, report.repeats, report.questions) == (1, 1, 1)
    assert (
        report.summary()
        == "1 document (1 repeat) and 1 question taken into 1 slice; 0 documents and 0 questions "
        "already there"
    )
    ingest([make_question("q2", "b")], name="more.jsonl")
    assert store.all_questions()["doc_id"].to_pylist() == ["a", "a"]
    assert store.copies({"a"}) == {"b"}


def test_a_text_without_doc_id_gets_one_for_each_source(ingest: Ingest, store: SliceStore) -> None:
    row = make_document(text="The same.")
    del row["doc_id"]
    ingest([row], publisher="Mallory")
    assert (
        ingest([row], publisher="Courier").accepted,
        ingest([row], publisher="Courier").duplicates,
    ) == (1, 1)
    assert len(set(doc_ids(store))) == 2


def test_a_state_that_returns_in_the_same_words_is_new(ingest: Ingest) -> None:
    open_, closed = "The Ostre road is open.", "The Ostre road is closed."
    rows = [
        make_document("r1", text=open_),
        make_document("r2", text=closed, published_at=FEBRUARY, supersedes="r1"),
        make_document("r3", text=open_, published_at="2031-03-02"),
        make_document("r4", text=open_, published_at="2031-03-03"),
    ]
    assert (ingest(rows[:2]).repeats, ingest(rows[2:]).repeats) == (0, 1)


def test_a_correction_of_the_record_alone_is_a_new_version(
    ingest: Ingest, store: SliceStore
) -> None:
    plain = make_document("mole", title=None, published_at="2031-03-09")
    corrections = [
        plain | {"published_at": "2031-02-01"},
        plain | {"title": "The mole", "url": "https://example.org/mole"},
        make_document("price", published_at="2031-03-09", supersedes="mole"),
    ]
    ingest([plain, corrections[2] | {"supersedes": None}])
    report = ingest(corrections)
    assert (report.accepted, report.versions, report.duplicates) == (3, 3, 0)
    assert "3 documents (3 new versions) and 0 questions taken into 2 slices" in report.summary()
    assert ingest(corrections).duplicates == 3
    assert doc_ids(store) == ["mole", "mole", "price", "mole", "price"]


def test_a_new_text_for_a_known_id_is_a_correction_in_a_new_slice_and_can_be_reverted(
    ingest: Ingest, store: SliceStore
) -> None:
    for day, text in ((1, "Wrong."), (1, "Right."), (2, "Wrong.")):
        report = ingest([make_document("a", text=text, published_at=f"2031-01-0{day}T06:00:00Z")])
    assert [slice_.slice_id for slice_ in report.slices] == ["2031-01/0003"]
    assert texts(store) == [("a", "Wrong."), ("a", "Right."), ("a", "Wrong.")]


@pytest.mark.parametrize("order", [1, -1])
def test_every_version_is_kept_whatever_the_order(
    ingest: Ingest, store: SliceStore, order: int
) -> None:
    rows = [
        make_document("a", text="Old."),
        make_document("a", text="New.", published_at=FEBRUARY),
    ][::order]
    assert (report := ingest(rows)).rejected == ()
    assert (report.accepted, report.versions) == (2, 1)
    assert [ingest([row]).duplicates for row in rows] == [
        1,
        1,
    ]  # also of the one that was corrected
    assert ingest([make_document("a", text="Oldest.", published_at="2030-12-01")]).versions == 1
    assert texts(store) == [("a", "Oldest."), ("a", "Old."), ("a", "New.")]


RINGS: dict[str, dict[str, str | None]] = {
    "a, b": {"a": "b", "b": "a"},
    "a, b, c": {"a": "b", "b": "c", "c": "a"},
    "b, c, copy": {"b": "copy", "copy": None, "c": "b"},
    "b, copy, d": {"d": "b", "b": "copy", "copy": None},
}


@pytest.mark.parametrize("reason", RINGS)
@pytest.mark.parametrize("apart", [False, True])
def test_the_row_that_would_close_a_ring_is_rejected(
    ingest: Ingest, reason: str, apart: bool
) -> None:
    rows = [
        make_document(
            name, supersedes=other, text="One." if name in "cd" or name == "copy" else name
        )
        for name, other in RINGS[reason].items()
    ]
    before = [[row] for row in rows[:-1]] if apart else []
    for part in before:
        assert ingest(part).accepted == 1
    report = ingest([*rows[len(before) :], make_document("other")])
    (refused,) = report.rejected
    assert f"would supersede each other, two of them at one date: {reason};" in refused.reason
    assert report.accepted == len(rows) - len(before)


def test_no_admitted_documents_hide_each_other_whatever_is_banked(tmp_path: Path) -> None:
    rejected = 0
    for seed in range(120):
        rng = random.Random(seed)
        rows = [
            make_document(
                name := rng.choice("abcde"),
                text=f"{rng.randrange(3)} crowns.",
                published_at=f"2031-01-0{rng.randint(1, 3)}",
                supersedes=rng.choice([None, *sorted(set("abcde") - {name})]),
            )
            for _ in range(rng.randint(2, 9))
        ]
        raw = read(write_lines(tmp_path / "rows.jsonl", rows))
        intake = select(*validate_rows(raw, Checks(NOW)), unread=(), stored=StoredRows())
        rejected += len(intake.rejected)
        versions = [
            one._replace(banked=rng.random() < 0.8) for one in versions_of(intake.documents)
        ]
        timeline = Timeline(versions)
        for date in {one.published_at for one in versions if one.banked}:
            spans = [span for intervals in timeline.intervals.values() for span in intervals]
            assert any(start <= date and (end is None or date < end) for start, end in spans), seed
    assert rejected > 40


def test_documents_of_different_dates_are_no_ring(ingest: Ingest) -> None:
    rows = [
        make_document("a"),
        make_document("b", supersedes="a", published_at="2031-02-01"),
        make_document("a", supersedes="b", text="Again.", published_at="2031-03-01"),
    ]
    assert ingest(rows).accepted == 3


def test_of_two_texts_with_the_same_id_and_date_the_second_is_rejected(
    ingest: Ingest, store: SliceStore
) -> None:
    report = ingest([make_document("a", text="One."), make_document("a", text="Two.")])
    assert texts(store) == [("a", "One.")]
    assert report.rejected[0].row == 2
    assert "other content at the same date in rows.jsonl:1" in report.rejected[0].reason


def test_a_question_whose_document_is_unknown_or_rejected_is_rejected(ingest: Ingest) -> None:
    rows = [
        make_document("a"),
        make_document("b", text=""),
        make_question("q1", "a"),
        make_question("q2", "b'; --"),
    ]
    report = ingest([*rows, make_question("q3", "b")])
    assert report.questions == 1
    assert [row.row for row in report.rejected] == [2, 4, 5]
    assert report.rejected[1].reason == (
        'doc_id "b\'; --" is neither in this source nor in the store; ingest the document first'
    )


def test_a_question_id_of_another_question_is_rejected(ingest: Ingest) -> None:
    ingest([make_document(), make_question("q1", question="When?")])
    report = ingest([make_question("q1", question="Where?"), make_question("q2")])
    assert (report.questions, report.rejected[0].row) == (1, 1)
    assert "'q1' belongs to another question;" in report.rejected[0].reason


def test_a_question_with_an_empty_list_of_answers_is_kept_only_where_it_is_asked_for(
    ingest: Ingest, tmp_path: Path
) -> None:
    unanswerable, malformed = make_question("q2", answers=[]), make_question("q3", answers=None)
    rows = [make_document(), make_question("q1"), unanswerable, malformed]
    intake = select_with_unanswerable(read(write_lines(tmp_path / "rows.jsonl", rows)), now=NOW)
    assert intake.questions["answers"].to_pylist() == [["noon", "at noon"], []]
    assert [row.row for row in intake.rejected] == [4]
    assert ingest(rows).questions == 1
