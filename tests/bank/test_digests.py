"""The recorded digest of a bank: that of its rows after every change, and computed again in case of
doubt.
"""

from pathlib import Path

import pytest

from cmt.bank._digests import RecordedDigests
from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.bank.schema import RowsDigest
from tests.helpers.banks import SCHEMA, day, document, problems, table


def recorded(bank: Bank) -> RowsDigest | None:
    return RecordedDigests(bank.connection, bank.name).at(bank.version)


def check(bank: Bank) -> None:
    """The digest is recorded, and is what reading every row gives."""
    assert str(recorded(bank)) == bank.digest() == bank.audit().digest


def test_every_change_records_the_digest_of_the_rows(bank: Bank) -> None:
    bank.upsert(table())
    check(bank)
    bank.upsert(table(document("a", chunks=2), document("b", at=2)))
    check(bank)
    first = bank.version
    bank.upsert(
        table(document("c", at=3, supersedes="a"))
    )  # changes superseded_at of another document
    check(bank)
    bank.upsert(table(document("a", sha="v2", chunks=1)))  # fewer chunks
    check(bank)
    bank.upsert(table(document("b", at=4, sha="v3", chunks=2)))  # a later version
    check(bank)
    bank.remove({"c"})
    check(bank)
    bank.restore(first)
    check(bank)
    bank.optimize()
    check(bank)
    bank.purge_history()
    check(bank)


def test_a_write_that_went_past_the_bank_makes_the_record_void(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    bank.connection.open_table(bank.name).add(table(document("b")))
    assert recorded(bank) is None
    assert bank.digest() == bank.audit().digest
    bank.upsert(table(document("c")))
    check(bank)


def test_a_damaged_record_is_computed_again(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    digest = bank.digest()
    records = bank.connection.open_table("digests")
    records.update(values={"digest": f"{7:064x}-1"})
    assert recorded(bank) is None
    assert bank.digest() == digest
    bank.upsert(table(document("b")))
    check(bank)


@pytest.mark.parametrize(
    "damage", ["damaged data", "missing _versions", "missing _transactions", "missing data"]
)
def test_records_in_damaged_or_missing_files_neither_stop_a_write_nor_count(
    bank: Bank, tmp_path: Path, damage: str
) -> None:
    bank.upsert(table(document("a")))
    kind, _, folder = damage.partition(" ")
    for path in (tmp_path / "bank" / "digests.lance" / folder).glob(
        "*" if kind == "missing" else "*.lance"
    ):
        path.unlink() if kind == "missing" else path.write_bytes(
            path.read_bytes()[:-8] + b"damaged!"
        )
    again = open_bank(BankLocation(str(tmp_path / "bank")))
    assert again.digest() == again.audit().digest
    for name in "bc":
        again.upsert(table(document(name)))
    check(again)


def test_a_table_whose_manifest_names_a_column_differently_does_not_count(
    bank: Bank, tmp_path: Path
) -> None:
    bank.upsert(table(document("a")))
    for manifest in (tmp_path / "bank" / "digests.lance" / "_versions").iterdir():
        manifest.write_bytes(manifest.read_bytes().replace(b"checksum", b"chacksum"))
    again = open_bank(BankLocation(str(tmp_path / "bank")))
    assert recorded(again) is None
    assert again.digest() == again.audit().digest
    for name in "bc":  # the first write drops the table
        again.upsert(table(document(name)))
    check(again)


def test_clean_up_drops_the_records_of_the_versions_that_it_drops(bank: Bank) -> None:
    for name in "abc":
        bank.upsert(table(document(name)))
    assert bank.connection.open_table("digests").count_rows() == 3
    other = RecordedDigests(bank.connection, "memories_other")
    other.write(1, RowsDigest())
    bank.purge_history()
    kept = {row["place"] for row in bank.connection.open_table("digests").search().to_list()}
    assert kept == {f"{bank.name}@{bank.version}", "memories_other@1"}


def test_a_damaged_row_that_is_replaced_makes_the_record_void_and_computed_again(
    bank: Bank,
) -> None:
    bank.upsert(table(document("a", at=1)))
    stored = bank.connection.open_table(bank.name)
    stored.update(where="memory_id = 'a#0'", values={"title": "damaged"})
    bank.upsert(table(document("a", at=1, sha="v2")))
    check(bank)
    assert bank.audit().problems == []


# Large banks


@pytest.fixture
def large_bank(tmp_path: Path) -> Bank:
    bank = open_bank(BankLocation(str(tmp_path / "bank"), 20), schema=SCHEMA)
    bank.upsert(table(*(document(f"d{n}", at=n % 5) for n in range(30))))
    bank.upsert(table(document("first")))
    return bank


def indexes(bank: Bank) -> dict[str, int]:
    """Column → rows that its index lacks."""
    return {
        index.columns[0]: index.num_unindexed_rows or 0
        for index in bank.connection.open_table(bank.name).list_indices()
    }


def test_a_round_of_a_large_bank_builds_no_index_again(large_bank: Bank) -> None:
    bank = large_bank
    assert set(indexes(bank)) == {"text", "memory_id", "doc_id", "supersedes", "sha256"}
    lacking = indexes(bank)["text"]
    before = bank.version
    bank.upsert(table(document("new", at=9, text="herons nest", supersedes="d1")))
    assert bank.version == before + 1
    assert indexes(bank)["text"] > lacking
    assert [
        row["doc_id"] for row in bank.full_text(text="herons", k=3, as_of=None).to_pylist()
    ] == ["new"]
    assert problems(bank) == []
    assert bank.rows(["memory_id", "superseded_at"], {"d1#0"})["superseded_at"].to_pylist() == [
        day(9)
    ]
    check(bank)


def test_a_large_bank_that_lacks_many_rows_updates_its_indexes(large_bank: Bank) -> None:
    large_bank.upsert(table(*(document(f"n{n}") for n in range(1001))))
    assert set(indexes(large_bank).values()) == {0}
    check(large_bank)
    assert problems(large_bank) == []
