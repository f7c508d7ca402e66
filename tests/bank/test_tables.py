"""LanceDB tables: created once, one of them current, and errors translated."""

from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any, cast

import lancedb
import pyarrow as pa
import pytest
from lancedb.table import LanceTable

from cmt.bank import tables
from cmt.bank.bank import Bank, open_bank, open_banks
from cmt.bank.integrity import altered_files
from cmt.bank.location import BankLocation
from cmt.bank.schema import bank_schema
from cmt.bank.tables import (
    WriteConflict,
    current_table,
    memory_tables,
    merge_and_read,
    open_or_create_table,
    open_table,
    set_current_table,
    translate_errors,
)
from cmt.errors import BankError, ConfigError, DamageError
from tests.helpers.banks import DIM, KEY_DIM

SCHEMA = pa.schema([pa.field("name", pa.string())])


def test_threads_that_create_a_table_at_once_lose_no_row(tmp_path: Path) -> None:
    def add(name: str) -> None:
        table = open_or_create_table(lancedb.connect(str(tmp_path)), "rows", SCHEMA)
        table.add(pa.table({"name": [name]}, schema=SCHEMA))

    threads = [Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = open_table(lancedb.connect(str(tmp_path)), "rows")
    assert table is not None
    assert sorted(table.to_arrow()["name"].to_pylist()) == ["a", "b", "c", "d"]


def test_an_altered_pointer_is_named_before_lance_reads_it(tmp_path: Path) -> None:
    connection = lancedb.connect(str(tmp_path))
    set_current_table(connection, "memories_a")
    [file] = (tmp_path / "current.lance/data").glob("*.lance")
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    with pytest.raises(
        DamageError, match=r"the pointer in .* does not match its checksum.*run `cmt update --all`"
    ):
        current_table(connection)


def test_a_commit_that_cannot_be_read_is_undone(tmp_path: Path) -> None:
    connection = lancedb.connect(str(tmp_path))
    set_current_table(connection, "memories_a")

    class Cut:
        """A table whose next file loses its last bytes, as on a failing disk."""

        def __init__(self, table: LanceTable) -> None:
            self._table = table

        def merge_insert(self, key: str) -> "Cut":
            self._merge = (
                self._table.merge_insert(key)
                .when_matched_update_all()
                .when_not_matched_insert_all()
            )
            return self

        def __getattr__(self, name: str) -> Any:
            return (lambda: self) if name.startswith("when_") else getattr(self._table, name)

        def execute(self, rows: pa.Table) -> None:
            known = set(tmp_path.rglob("data/*.lance"))
            self._merge.execute(rows)
            [file] = set(tmp_path.rglob("data/*.lance")) - known
            file.write_bytes(file.read_bytes()[:128])

    pointer = cast(LanceTable, connection.open_table("current"))
    row = pa.table({"name": ["bank"], "table": ["memories_b"]}, schema=pointer.schema)
    with pytest.raises(RuntimeError, match="range|buffer"):
        merge_and_read(cast(LanceTable, Cut(pointer)), row, key="name")
    assert current_table(connection) == "memories_a"


@pytest.mark.filterwarnings(
    "ignore:optimize.cleanup_older_than=0. removes every version"
)  # nobody reads them here
def test_the_files_of_a_small_table_do_not_grow_with_its_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "KEPT", timedelta(0))  # younger versions would be kept
    connection = lancedb.connect(tmp_path)
    set_current_table(connection, "memories_0")
    table = cast(LanceTable, connection.open_table("current"))
    for number in range(1, 45):
        row = pa.table(
            {"name": [f"n{number}"], "table": [f"memories_{number}"]}, schema=table.schema
        )
        merge_and_read(table, row, key="name")
        assert altered_files(str(tmp_path), "current", "data") == []
    assert table.count_rows() == 45
    assert len(list(tmp_path.rglob("data/*.lance"))) <= 32


def test_a_small_table_that_cannot_be_compacted_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimize(table: LanceTable, **_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(LanceTable, "optimize", optimize)
    connection = lancedb.connect(tmp_path)
    for number in range(40):
        set_current_table(connection, f"memories_{number}")
    assert current_table(connection) == "memories_39"


def test_an_error_of_lancedb_becomes_a_bank_error_without_its_source_location() -> None:
    expected = "bank x cannot be read: no such file; run `cmt verify`, which says what is damaged"
    with pytest.raises(BankError) as caught, translate_errors("bank x cannot be read"):
        raise OSError("no such file, /home/runner/lance/io.rs:12:5")
    assert str(caught.value) == expected
    with (
        pytest.raises(BankError, match="cannot be written: full; make room"),
        translate_errors("b cannot be written", "make room"),
    ):
        raise RuntimeError("full")
    with (
        pytest.raises(
            BankError, match="bank x cannot be written: .*; set LANCE_MEM_POOL_SIZE to more bytes"
        ),
        translate_errors("bank x cannot be written", "make room"),
    ):
        raise RuntimeError("Resources exhausted: Additional allocation failed for HashJoinInput")


@pytest.mark.parametrize(
    "reason", ["Retryable commit conflict for version 3", "Too many concurrent writers"]
)
def test_a_commit_conflict_is_told_from_other_errors(reason: str) -> None:
    with (
        pytest.raises(WriteConflict, match="another process is writing to it"),
        translate_errors("bank x"),
    ):
        raise RuntimeError(reason)


@pytest.mark.parametrize(
    ("name", "base"), [("RustPanic", Exception), ("PanicException", BaseException)]
)
def test_a_panic_of_lancedb_becomes_a_bank_error_with_advice(
    name: str, base: type[BaseException]
) -> None:
    panic = type(name, (base,), {})
    expected = pytest.raises(BankError, match="bank x cannot be read: range end; run `cmt verify`")
    with expected, translate_errors("bank x cannot be read"):
        raise panic("range end")


def test_errors_of_cmt_and_of_programs_are_not_translated() -> None:
    for error in (ConfigError("k is 0"), TypeError("wrong")):
        with pytest.raises(type(error)) as caught, translate_errors("bank x"):
            raise error
        assert caught.value is error


def test_a_damaged_bank_raises_a_bank_error(bank: Bank, tmp_path: Path) -> None:
    for manifest in (tmp_path / "bank" / f"{bank.name}.lance" / "_versions").iterdir():
        manifest.write_bytes(b"cut")
    with pytest.raises(BankError, match="bank .* cannot be opened: "):
        open_bank(BankLocation(str(tmp_path / "bank")))


def test_a_table_whose_creation_was_interrupted_is_none_until_it_is_created_again(
    bank: Bank, tmp_path: Path
) -> None:
    other = bank_schema(key_dim=KEY_DIM, codes="int8", dim=DIM, compressor="ab" * 32)
    (tmp_path / "bank/memories_abababababab.lance/_transactions").mkdir(parents=True)
    assert "memories_abababababab" in bank.connection.list_tables().tables
    assert memory_tables(bank.connection) == [bank.name]
    assert [table.name for table in open_banks(BankLocation(str(tmp_path / "bank")))] == [bank.name]
    open_bank(BankLocation(str(tmp_path / "bank")), schema=other)
    assert memory_tables(bank.connection) == ["memories_abababababab", bank.name]
