"""Checksums of rows: written with every change, checked whenever a row is read for an answer."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cmt.bank.bank import Bank, open_bank
from cmt.bank.integrity import CHECKSUM, unmatched, with_checksums
from cmt.bank.location import BankLocation
from cmt.errors import BankError, DamageError
from tests.helpers.banks import SCHEMA, day, document, key_of, problems, stored, table
from tests.helpers.damage import flip, garble, newest_index, replace_bytes

READS: list[Callable[[Bank], Any]] = [
    lambda bank: bank.search(key=key_of("q"), text=None, k=5, as_of=None),
    lambda bank: bank.search(key=key_of("q"), text="crowns", k=5, as_of=day(9)),
    lambda bank: bank.full_text(text="crowns", k=5, as_of=None),
    lambda bank: bank.documents({"ferry"}),
]


def ferry(bank: Bank) -> None:
    """Store the ferry and another document."""
    bank.upsert(table(document("ferry", text="six crowns"), document("raft", at=1)))


CHANGES: dict[str, Any] = {
    "memory_id": "a#1",
    "doc_id": "b",
    "slice_id": "2031-02/0001",
    "published_at": day(1),
    "superseded_at": day(20),
    "hidden": "2031-01-02T00:00:00Z/2031-01-03T00:00:00Z",
    "source": "Tribune",
    "supersedes": None,
    "sha256": "v2",
    "compressor": "f00d",
    "title": "On b",
    "key": key_of("b"),
    "memory": bytes(12),
    "n_vectors": 1,
    "n_tokens": 8,
    "text": None,
}


def test_a_checksum_covers_every_column() -> None:
    assert list(CHANGES) == SCHEMA.names
    [row] = document("a", supersedes="x", text="words")
    rows = with_checksums(table([row]))
    assert len(unmatched(rows)) == 0
    for name, value in CHANGES.items():
        changed = table([{**row, name: value}]).append_column(CHECKSUM, rows[CHECKSUM])
        assert len(unmatched(changed)) == 1, name


def test_a_byte_that_changed_on_the_disk_is_noticed(bank: Bank, tmp_path: Path) -> None:
    ferry(bank)
    assert (
        replace_bytes(
            tmp_path / "bank" / f"{bank.name}.lance" / "data", b"six crowns", b"ten crowns"
        )
        == 1
    )
    reopened = open_bank(BankLocation(str(tmp_path / "bank")))
    for read in READS:
        with pytest.raises(
            DamageError, match=r"memory 'ferry#0' in .* is damaged.*run `cmt verify`"
        ):
            read(reopened)
    audit = reopened.audit()
    assert (audit.problems, audit.slices) == (
        ["memory 'ferry#0' does not match its checksum"],
        ["2031-01/0001"],
    )


def test_a_row_that_occurs_twice_is_not_returned(bank: Bank) -> None:
    ferry(bank)
    twice = bank.connection.open_table(bank.name).to_arrow()
    bank.connection.open_table(bank.name).add(twice)
    with pytest.raises(DamageError, match="occurs twice"):
        READS[0](bank)


def test_a_damaged_row_is_not_written_again_with_a_new_checksum(bank: Bank) -> None:
    ferry(bank)
    bank.connection.open_table(bank.name).update(
        where="doc_id = 'ferry'", values={"text": "ten crowns"}
    )
    with pytest.raises(DamageError, match="memory 'ferry#0'"):
        bank.upsert(table(document("ferry-2", at=3, supersedes="ferry")))


def test_dates_of_supersession_are_covered_by_new_checksums(bank: Bank) -> None:
    ferry(bank)
    before, digest = stored(bank)["ferry#0"][CHECKSUM], bank.digest()
    bank.upsert(table(document("ferry-2", at=3, supersedes="ferry", chunks=2)))
    assert stored(bank)["ferry#0"][CHECKSUM] != before
    assert bank.remove({"ferry-2"}) == 2
    assert (stored(bank)["ferry#0"][CHECKSUM], bank.digest()) == (
        before,
        digest,
    )  # and it is current again
    bank.optimize(keep=timedelta(milliseconds=1))
    assert problems(bank) == []


# The full-text index

ALTERED = "does not match its checksum: run `cmt bank optimize`"


@pytest.mark.parametrize("part", ["docs", "metadata"])
def test_a_damaged_full_text_index_is_named_and_optimize_repairs_it(
    bank: Bank, tmp_path: Path, part: str
) -> None:
    bank.upsert(table(*(document(f"d{n}", text=f"six crowns {n}") for n in range(20))))
    before = READS[1](bank)
    files = newest_index(tmp_path / "bank" / f"{bank.name}.lance")
    garble([file for file in files if part in file.name])
    damaged = open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA)
    with pytest.raises(
        BankError, match=r"the full-text index of .* cannot be read: .*; run `cmt bank optimize`"
    ):
        READS[1](damaged)
    assert [ALTERED in problem for problem in problems(damaged)] == [True]
    for seal in (tmp_path / "bank").rglob("cmt-digest"):  # as on object storage
        seal.unlink()
    [problem] = problems(damaged)
    assert "the full-text index of" in problem and "run `cmt bank optimize`" in problem
    damaged.optimize()
    assert READS[1](damaged).equals(before)
    assert problems(damaged) == []


def test_an_altered_index_is_named_before_lance_lists_it(bank: Bank, tmp_path: Path) -> None:
    bank.upsert(table(*(document(f"d{n}", text=f"six crowns {n}") for n in range(20))))
    index = newest_index(tmp_path / "bank" / f"{bank.name}.lance")
    [file] = [path for path in index if path.name.endswith("metadata.lance")]
    flip(file, -13, 192)  # the length of the schema, over which Lance ends the process
    assert [ALTERED in problem for problem in problems(bank)] == [True]
    bank.optimize()
    assert (problems(bank), file.exists()) == ([], False)


def test_the_damaged_index_of_an_earlier_version_is_removed_and_made_again_after_a_rollback(
    bank: Bank, tmp_path: Path
) -> None:
    bank.upsert(table(*(document(f"d{n}", text=f"six crowns {n}") for n in range(20))))
    before, answers = bank.version, READS[1](bank)
    garble(newest_index(tmp_path / "bank" / f"{bank.name}.lance"))
    bank.upsert(table(document("d20", text="six crowns 20")))
    assert [ALTERED in problem for problem in problems(bank)] == [True]
    bank.optimize()
    assert problems(bank) == []
    bank.restore(before)
    rolled_back = open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA)
    with pytest.raises(BankError, match="run `cmt bank optimize`"):
        READS[1](rolled_back)
    rolled_back.optimize()
    assert READS[1](rolled_back).equals(answers)
    assert problems(rolled_back) == []


def test_a_damaged_vector_index_is_named_and_optimize_repairs_it(tmp_path: Path) -> None:
    uri = str(tmp_path / "bank")
    bank = open_bank(BankLocation(uri, 50), schema=SCHEMA)
    bank.upsert(table(*(document(f"d{n}") for n in range(60))))
    bank.optimize()
    before = READS[0](bank)
    folder = tmp_path / "bank" / f"{bank.name}.lance" / "_indices"
    garble(
        [
            file
            for index in folder.iterdir()
            for file in index.iterdir()
            if file.name == "auxiliary.idx"
        ]
    )
    damaged = open_bank(BankLocation(uri, 50), schema=SCHEMA)
    with pytest.raises(
        BankError, match=r"the vector index of .* cannot be read: .*; run `cmt bank optimize`"
    ):
        READS[0](damaged)
    damaged.optimize()
    assert READS[0](damaged).equals(before)
