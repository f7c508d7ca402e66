"""Memories that may state another value of the same fact."""

from datetime import timedelta
from typing import Any

from cmt.answering._related import MOST_ADDED, add_related, anyone
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.retrieval.selector import Selection
from tests.helpers.fares import JULY, MARCH, QUESTION


def related(fares: TemporaryBank, doc_id: str, **options: Any) -> list[str]:
    """The documents that are read in addition to `doc_id`."""
    with fares.answerer() as answerer:
        [row] = [row for row in fares.rows.to_pylist() if row["doc_id"] == doc_id]
        chosen: dict[str, Any] = {
            "question": QUESTION,
            "key": answerer.keys([QUESTION])[0],
            "as_of": None,
            "may_change": anyone,
            "changes_of": lambda _doc_ids: [],
        } | options
        selection = add_related(Selection([row | {"prior": -1.0}]), answerer.bank, **chosen)
    assert all(row["prior"] == -1.0 for row in selection.rows)
    assert len(selection.rows) <= 1 + MOST_ADDED
    return [row["doc_id"] for row in selection.rows[1:]]


def test_a_later_memory_on_the_same_fact_comes_with_the_first_one(fares: TemporaryBank) -> None:
    assert related(fares, "a1") == ["a2"]
    assert related(fares, "a2") == []  # nothing is later
    assert related(fares, "a1", as_of=JULY - timedelta(days=1)) == []
    assert related(fares, "a1", may_change=lambda _later, _earlier: False) == []


def test_the_other_end_of_a_recorded_change_comes_with_its_memory(fares: TemporaryBank) -> None:
    def changes_of(_doc_ids: set[str] | None) -> list[Change]:
        old, new = ValueSpan("a1", MARCH, 0, 0, 1, ""), ValueSpan("a2", JULY, 0, 0, 1, "")
        return [Change(old, new, holds_from=JULY, confidence=0.9, state="found")]

    strangers = {"may_change": lambda _later, _earlier: False, "changes_of": changes_of}
    assert related(fares, "a2", **strangers) == ["a1"]
    assert related(fares, "a1", **strangers) == ["a2"]
