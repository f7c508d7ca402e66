"""LanceDB tables: created once, one of them current, and errors translated."""

from pathlib import Path
from threading import Thread

import lancedb
import pyarrow as pa
import pytest

from cmt.bank.bank import Bank
from cmt.bank.tables import (
    WriteConflict,
    current_table,
    open_or_create_table,
    open_table,
    set_current_table,
    translate_errors,
)
from cmt.errors import BankError, ConfigError

SCHEMA = pa.schema([pa.field("name", pa.string())])


def test_a_missing_table_is_none_and_stays_missing(tmp_path: Path) -> None:
    connection = lancedb.connect(str(tmp_path))
    assert open_table(connection, "rows") is None
    assert connection.list_tables().tables == []


def test_a_table_is_created_once_and_keeps_its_rows(tmp_path: Path) -> None:
    connection = lancedb.connect(str(tmp_path))
    open_or_create_table(connection, "rows", SCHEMA).add(pa.table({"name": ["a"]}, schema=SCHEMA))
    assert open_or_create_table(connection, "rows", SCHEMA).count_rows() == 1


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


def test_the_current_table_is_the_one_set_last(tmp_path: Path) -> None:
    connection = lancedb.connect(str(tmp_path))
    assert current_table(connection) is None
    for name in ("memories_a", "memories_b"):
        set_current_table(connection, name)
        assert current_table(lancedb.connect(str(tmp_path))) == name


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


@pytest.mark.parametrize("reason", ["Retryable commit conflict for version 3", "Too many concurrent writers"])
def test_a_commit_conflict_is_told_from_other_errors(reason: str) -> None:
    with pytest.raises(WriteConflict, match="another process is writing to it"), translate_errors("bank x"):
        raise RuntimeError(reason)


@pytest.mark.parametrize(("name", "base"), [("RustPanic", Exception), ("PanicException", BaseException)])
def test_a_panic_of_lancedb_becomes_a_bank_error_with_advice(name: str, base: type[BaseException]) -> None:
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
        Bank.open(uri=str(tmp_path / "bank"))
