"""The algebra of supersession: dates, changed rows and versions, on tables and through a bank."""

from pathlib import Path

import pyarrow as pa
import pytest

from cmt.bank._merge import upsert
from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.errors import DamageError
from tests.helpers.banks import SCHEMA, day, document, names, problems, stored, table, visible

VERSIONS = [
    document("a", at=1, chunks=2, sha="v1", text="first"),
    document("a", at=4, chunks=1, sha="v2", text="second"),
    document("a", at=7, chunks=3, sha="v3", text="third"),
]


def test_every_version_answers_for_its_time_in_any_order_of_upserts(tmp_path: Path) -> None:
    first, second, digests = "@2031-01-02T00:00:00Z", "@2031-01-05T00:00:00Z", set()
    for order in [(0, 1, 2), (2, 1, 0), (1, 2, 0, 1)]:
        bank = open_bank(BankLocation(str(tmp_path / str(order))), schema=SCHEMA)
        for number in order:
            bank.upsert(table(VERSIONS[number]))
        digests.add(bank.digest())
    assert visible(bank, day(3)) == {f"a#0{first}", f"a#1{first}"}
    assert visible(bank, day(4)) == {f"a#0{second}"}
    assert visible(bank, day(7)) == visible(bank, None) == {"a#0", "a#1", "a#2"}
    texts = {name: row["text"] for name, row in stored(bank).items()}
    assert (texts[f"a#1{first}"], texts[f"a#0{second}"], texts["a#0"]) == (
        "first",
        "second",
        "third",
    )
    assert names(bank.documents({"a"})) == ["a#0", "a#1", "a#2"]
    assert problems(bank) == []
    copy = open_bank(BankLocation(str(tmp_path / "copy")), schema=SCHEMA)
    copy.upsert(bank.rows(bank.schema.names))
    assert digests == {copy.digest()}


def test_a_correction_is_one_commit_and_repeating_it_is_none(bank: Bank) -> None:
    bank.upsert(table(VERSIONS[0]))
    before = bank.version
    assert bank.upsert(table(VERSIONS[1])) == (2, 1, 1)
    written = bank.connection.open_table(bank.name)
    written.checkout(before + 1)  # the next one is that of the index
    assert (written.count_rows(), bank.version) == (3, before + 2)
    bank.upsert(table(VERSIONS[1]))
    assert bank.version == before + 2


def test_a_chunk_with_the_id_of_another_document_is_damage(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    damaged = bank.rows(bank.schema.names).set_column(0, "memory_id", pa.array(["b#0"]))
    with pytest.raises(DamageError, match="memory 'b#0' is not a chunk of document 'a'"):
        upsert(table(document("a", at=3)), damaged)
