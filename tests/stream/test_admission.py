"""Duplicates, corrections, and questions with and without their document, all through `ingest`."""

import time
from pathlib import Path

import pytest

from cmt.stream.admission import select_with_unanswerable
from cmt.stream.readers import read
from cmt.stream.store import SliceStore
from tests.helpers.rows import NOW, Ingest, make_document, make_question, write_lines

JANUARY, FEBRUARY = "2031-01-02T06:00:00Z", "2031-02-02T06:00:00Z"


def texts(store: SliceStore) -> list[tuple[str, str]]:
    """(doc_id, text) of every document in the store."""
    table = store.all_documents()
    return list(zip(table["doc_id"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_ten_thousand_documents_with_the_same_text_become_one_document(ingest: Ingest, store: SliceStore) -> None:
    rows = [make_document(f"d{number}", text="The same.") for number in range(10_000)]
    started = time.process_time()  # not the wall clock: the machine may be busy
    report = ingest([*rows, make_question(doc_id="d9999")])
    assert time.process_time() - started < 20
    assert (report.accepted, report.duplicates, report.rejected) == (1, 9_999, ())
    assert texts(store) == [("d0", "The same.")]
    assert store.all_questions()["doc_id"].to_pylist() == ["d0"]
    assert ingest([*rows, make_question(doc_id="d9999")]).slices == ()


def test_a_text_of_the_store_with_a_new_id_is_a_duplicate(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document("a", text="The same.")])
    report = ingest([make_document("b", text="The same.\r\n"), make_question(doc_id="b")])
    assert (report.accepted, report.duplicates, report.questions) == (0, 1, 1)
    assert store.all_questions()["doc_id"].to_pylist() == ["a"]


def test_an_update_may_return_to_an_earlier_text(ingest: Ingest, store: SliceStore) -> None:
    ingest(
        [
            make_document("a", text="Six crowns."),
            make_document("b", text="Five crowns.", supersedes="a"),
            make_document("c", text="Six crowns.", published_at=FEBRUARY, supersedes="b"),
        ]
    )
    assert [name for name, _ in texts(store)] == ["a", "b", "c"]
    again = make_document("d", text="Six crowns.", published_at=FEBRUARY, supersedes="c")
    assert ingest([again]).accepted == 1
    assert ingest([again]).accepted == 0


def test_an_update_of_a_duplicate_supersedes_the_document_that_was_kept(ingest: Ingest, store: SliceStore) -> None:
    ingest(
        [
            make_document("a", text="Six crowns."),
            make_document("a2", text="Six crowns."),
            make_document("b", text="Five crowns.", supersedes="a2"),
        ]
    )
    table = store.all_documents()
    assert table["doc_id"].to_pylist() == ["a", "b"]
    assert table["supersedes"].to_pylist() == [None, "a"]


def test_a_text_that_was_corrected_may_be_used_by_another_document(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document("a", text="Six crowns.")])
    ingest([make_document("a", text="Five crowns.", published_at=FEBRUARY)])
    assert ingest([make_document("b", text="Six crowns.", published_at=FEBRUARY)]).accepted == 1
    assert texts(store)[-1] == ("b", "Six crowns.")
    assert ingest([make_document("c", text="Six crowns.", published_at=FEBRUARY)]).duplicates == 1


def test_a_new_text_for_a_known_id_is_a_correction_in_a_new_slice_and_can_be_reverted(
    ingest: Ingest, store: SliceStore
) -> None:
    for day, text in ((1, "Wrong."), (1, "Right."), (2, "Wrong.")):
        report = ingest([make_document("a", text=text, published_at=f"2031-01-0{day}T06:00:00Z")])
    assert [slice_.slice_id for slice_ in report.slices] == ["2031-01/0003"]
    assert texts(store) == [("a", "Wrong."), ("a", "Right."), ("a", "Wrong.")]


def test_a_correction_to_the_text_of_another_document_is_accepted(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document("a", text="Closed."), make_document("b", text="Open.")])
    assert ingest([make_document("a", text="Open.", published_at=FEBRUARY)]).accepted == 1
    assert texts(store)[-1] == ("a", "Open.")


def test_ingesting_the_older_file_again_after_a_correction_adds_nothing(ingest: Ingest, store: SliceStore) -> None:
    old, new = [make_document("a", text="Wrong.")], [make_document("a", text="Right.", published_at=FEBRUARY)]
    ingest(old), ingest(new)
    assert ingest(old).duplicates == ingest(new).duplicates == 1
    assert len(store.slices()) == 2


def test_a_version_older_than_that_in_the_store_is_rejected(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document("a", text="New.", published_at=FEBRUARY)])
    report = ingest([make_document("a", text="Old.", published_at=JANUARY), make_document("b")])
    assert "'a' is in the store with a later date, 2031-02-02T06:00:00Z" in report.rejected[0].reason
    assert report.accepted == 1


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_versions_in_one_source_the_later_is_taken(ingest: Ingest, store: SliceStore, order: int) -> None:
    rows = [make_document("a", text="Old."), make_document("a", text="New.", published_at=FEBRUARY)][::order]
    report = ingest(rows)
    old, new = (1, 2) if order == 1 else (2, 1)
    assert texts(store) == [("a", "New.")]
    assert [(row.row, row.reason) for row in report.rejected] == [
        (old, f"an earlier version of doc_id 'a'; rows.jsonl:{new} has a later one, which was taken")
    ]


def test_of_two_texts_with_the_same_id_and_date_the_second_is_rejected(ingest: Ingest, store: SliceStore) -> None:
    report = ingest([make_document("a", text="One."), make_document("a", text="Two.")])
    assert texts(store) == [("a", "One.")]
    assert report.rejected[0].row == 2
    assert "another text and the same date in rows.jsonl:1" in report.rejected[0].reason


def test_the_same_row_twice_is_a_duplicate(ingest: Ingest) -> None:
    report = ingest([make_document(), make_document(), make_question(), make_question()])
    assert (report.accepted, report.duplicates, report.questions, report.question_duplicates) == (1, 1, 1, 1)


def test_a_question_whose_document_is_unknown_or_rejected_is_rejected(ingest: Ingest) -> None:
    rows = [make_document("a"), make_document("b", text=""), make_question("q1", "a"), make_question("q2", "b'; --")]
    report = ingest([*rows, make_question("q3", "b")])
    assert report.questions == 1
    assert [row.row for row in report.rejected] == [2, 4, 5]
    assert report.rejected[1].reason == (
        'doc_id "b\'; --" is neither in this source nor in the store; ingest the document first'
    )


def test_questions_may_follow_their_documents_in_another_source(ingest: Ingest, store: SliceStore) -> None:
    ingest([make_document()])
    report = ingest([make_question(asked_at="2031-03-01T00:00:00Z")])
    assert [(slice_.slice_id, slice_.n_documents, slice_.n_questions) for slice_ in report.slices] == [
        ("2031-03/0001", 0, 1)
    ]


def test_a_question_id_of_another_question_is_rejected(ingest: Ingest) -> None:
    ingest([make_document(), make_question("q1", question="When?")])
    report = ingest([make_question("q1", question="Where?"), make_question("q2")])
    assert (report.questions, report.rejected[0].row) == (1, 1)
    assert "'q1' belongs to another question, 'When?'" in report.rejected[0].reason


def test_ids_with_quotes_percent_and_comment_marks_are_kept(ingest: Ingest, store: SliceStore) -> None:
    names = ["O'Hara", 'say "x"', "100%", "a';-- drop", "../up", "\u05d0"]
    ingest([*(make_document(name) for name in names), *(make_question(f"{name}?", name) for name in names)])
    assert store.all_documents()["doc_id"].to_pylist() == names
    assert store.all_questions()["question_id"].to_pylist() == [f"{name}?" for name in names]


def test_a_question_with_an_empty_list_of_answers_is_kept_only_where_it_is_asked_for(
    ingest: Ingest, tmp_path: Path
) -> None:
    unanswerable, malformed = make_question("q2", answers=[]), make_question("q3", answers=None)
    rows = [make_document(), make_question("q1"), unanswerable, malformed]
    intake = select_with_unanswerable(read(write_lines(tmp_path / "rows.jsonl", rows), "jsonl"), now=NOW)
    assert intake.questions["answers"].to_pylist() == [["noon", "at noon"], []]
    assert [row.row for row in intake.rejected] == [4]
    assert ingest(rows).questions == 1
