"""The algebra of supersession: dates, changed rows and surplus chunks, on tables and through a bank."""

from pathlib import Path

import pyarrow as pa
import pytest

from cmt.bank.bank import Bank
from cmt.bank.merge import changed, misdated, not_older, supersession_dates, surplus, with_superseded_at, within
from cmt.bank.schema import TIMESTAMP
from tests.helpers.banks import SCHEMA, day, document, names, superseded, table


def test_supersession_dates_are_the_earliest_of_the_updates_of_other_documents() -> None:
    rows = table(
        document("a", chunks=2),
        document("late", at=9, supersedes="a"),
        document("early", at=4, supersedes="a"),
        document("own", at=2, supersedes="own"),
        document("stray", at=3, supersedes="nobody"),
    )
    assert supersession_dates(rows).to_pylist() == [day(4), day(4), None, None, None, None]


def test_misdated_returns_the_rows_with_a_wrong_date_and_the_right_date() -> None:
    rows = table(document("a"), document("b", at=5, supersedes="a"), document("c"))
    assert {row["memory_id"]: row["superseded_at"] for row in misdated(rows).to_pylist()} == {"a#0": day(5)}
    dated = with_superseded_at(rows, pa.chunked_array([[day(5), None, day(6)]], TIMESTAMP))
    assert {row["memory_id"]: row["superseded_at"] for row in misdated(dated).to_pylist()} == {"c#0": None}
    assert misdated(with_superseded_at(rows, supersession_dates(rows))).num_rows == 0


def test_not_older_drops_rows_of_documents_that_are_stored_with_a_later_date() -> None:
    stored = table(document("a", at=5), document("b", at=5), document("c", at=5))
    rows = table(document("a", at=4, chunks=2), document("b", at=5), document("c", at=6), document("new"))
    assert names(not_older(rows, stored)) == ["b#0", "c#0", "new#0"]
    assert names(not_older(rows, stored.slice(0, 0))) == names(rows)


def test_changed_returns_rows_with_a_new_id_or_a_new_text() -> None:
    stored = table(document("a", chunks=2), document("b"))
    rows = table(document("a", chunks=3), document("b", sha="v2"))
    assert names(changed(rows, stored)) == ["a#2", "b#0"]


def test_surplus_returns_stored_chunks_that_a_document_no_longer_has() -> None:
    stored = table(document("a", chunks=3), document("b", chunks=2))
    assert names(surplus(table(document("a")), stored)) == ["a#1", "a#2"]
    assert surplus(table(), stored).num_rows == 0


def test_within_tells_for_each_entry_whether_it_is_one_of_the_values() -> None:
    column, values = pa.chunked_array([["a", "b"], ["c"]]), pa.chunked_array([["c"], ["a"]])
    assert within(column, values).to_pylist() == [True, False, True]


# Through a bank


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c"), ("abc",)])
def test_a_chain_of_updates_gets_the_same_dates_in_any_order(bank: Bank, order: tuple[str, ...]) -> None:
    parts = {
        "a": document("a", at=1, chunks=2),
        "b": document("b", at=5, supersedes="a", chunks=3),
        "c": document("c", at=9, supersedes="b"),
    }
    for step in order:
        bank.upsert(table(*(parts[name] for name in step)))
    expected = {"a#0": day(5), "a#1": day(5), "b#0": day(9), "b#1": day(9), "b#2": day(9), "c#0": None}
    assert superseded(bank) == expected
    assert bank.verify() == []


def test_the_digest_does_not_depend_on_the_order_of_upserts(tmp_path: Path) -> None:
    old, new = document("a", at=1, chunks=2), document("b", at=5, supersedes="a")
    digests = set()
    for number, order in enumerate([(old, new), (new, old)]):
        bank = Bank.open(uri=str(tmp_path / str(number)), schema=SCHEMA)
        for rows in order:
            bank.upsert(table(rows))
        digests.add(bank.digest())
    assert len(digests) == 1


def test_the_earlier_of_two_updates_sets_the_date(bank: Bank) -> None:
    bank.upsert(table(document("late", at=9, supersedes="a"), document("a")))
    bank.upsert(table(document("early", at=4, supersedes="a")))
    assert superseded(bank)["a#0"] == day(4)
    bank.forget("early")
    assert superseded(bank)["a#0"] == day(9)


def test_superseding_an_unknown_document_or_itself_has_no_effect(bank: Bank) -> None:
    bank.upsert(table(document("a", supersedes="nobody"), document("b", supersedes="b")))
    assert superseded(bank) == {"a#0": None, "b#0": None}


def test_a_correction_that_supersedes_nothing_makes_its_predecessor_current_again(bank: Bank) -> None:
    bank.upsert(table(document("a"), document("b", at=3, supersedes="a")))
    bank.upsert(table(document("b", at=3, sha="v2")))
    assert superseded(bank) == {"a#0": None, "b#0": None}
