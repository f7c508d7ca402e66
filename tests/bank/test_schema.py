"""Rows of a bank: schema checks, validation of rows, and the digest."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.bank.schema import (
    bank_schema,
    mean_cosine,
)
from cmt.errors import BankError
from tests.helpers.banks import COMPRESSOR, DIM, KEY_DIM, SCHEMA, day, document, table

# Schemas


def test_opening_a_bank_without_texts_as_one_with_texts_names_the_parameter(tmp_path: Path) -> None:
    vectors = bank_schema(
        key_dim=KEY_DIM, codes="int8", dim=DIM, compressor="c0ffee" * 10, sketched=True
    )
    open_bank(BankLocation(str(tmp_path / "bank")), schema=vectors)
    wanted = bank_schema(key_dim=KEY_DIM, codes="int8", dim=DIM, compressor="c0ffee" * 10)
    with pytest.raises(BankError, match=r"keeps no texts: .*bank\.keep_text back"):
        open_bank(BankLocation(str(tmp_path / "bank")), schema=wanted)


def test_a_bank_of_an_older_schema_is_refused_with_advice(bank: Bank, tmp_path: Path) -> None:
    old = SCHEMA.with_metadata({**SCHEMA.metadata, b"schema_version": b"0"})
    bank.connection.create_table(bank.name, schema=old, mode="overwrite")
    with pytest.raises(
        BankError, match="written with schema 0, this cmt reads 2: set bank.uri to a new folder"
    ):
        open_bank(BankLocation(str(tmp_path / "bank")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": "fp16"}, "has codes int8, not fp16"),
        ({"dim": 8}, "has dim 4, not 8"),
        ({"key_dim": 8}, "key length"),
    ],
)
def test_a_bank_with_other_codes_or_dimensions_is_refused(
    bank: Bank, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    other = bank_schema(
        **{"key_dim": KEY_DIM, "codes": "int8", "dim": DIM, "compressor": COMPRESSOR, **change}
    )
    with pytest.raises(BankError, match=message):
        open_bank(BankLocation(str(tmp_path / "bank")), schema=other)


# Validation


def broken(**values: Any) -> pa.Table:
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    return pa.Table.from_pylist(
        [*document("fine"), *({**row, **values} for row in document("bad"))], schema=loose
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (broken(key=np.full(KEY_DIM, np.nan, np.float16)), "memory 'bad#0' has a key with NaN"),
        (
            broken(key=np.zeros(KEY_DIM, np.float16)),
            "memory 'bad#0' has a key with NaN, infinity or only zeros",
        ),
        (
            broken(compressor="f00d"),
            "memory 'bad#0' was made by another compressor than the bank's",
        ),
        (
            broken(memory=b"short"),
            r"memory 'bad#0' has a memory that is not n_vectors × 6 bytes \(int8\)",
        ),
        (broken(memory=b"", n_vectors=0), "memory 'bad#0' has a memory"),
        (broken(sha256=None), "memory 'bad#0' has no sha256"),
        (broken(memory_id="fine#0", doc_id="fine"), "memory 'fine#0' occurs 2 times"),
        (
            broken(memory_id="bad#1"),
            "document 'bad' has 'bad#1' instead of chunks numbered from #0",
        ),
        (broken(memory_id="good#0"), "document 'bad' has 'good#0'"),
        (broken().drop_columns(["key", "title"]), "memories lack the columns title, key"),
        (
            broken().set_column(SCHEMA.names.index("n_vectors"), "n_vectors", pa.array(["a", "b"])),
            "do not fit the bank's schema",
        ),
    ],
)
def test_invalid_rows_are_refused_by_name_and_nothing_is_written(
    bank: Bank, rows: pa.Table, message: str
) -> None:
    version = bank.version
    with pytest.raises(BankError, match=message):
        bank.upsert(rows)
    assert (bank.version, bank.count_rows()) == (version, 0)


def test_a_refusal_counts_the_other_invalid_rows(bank: Bank) -> None:
    rows = [{**row, "compressor": "f00d"} for row in document("a", chunks=4)]
    with pytest.raises(
        BankError, match=r"memory 'a#0' .* \(and 3 more like it\); nothing was written"
    ):
        bank.upsert(table(rows))


# Keys


def test_mean_cosine_is_that_of_all_pairs_and_undefined_for_one_key() -> None:
    keys = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], np.float32)
    assert mean_cosine(keys) == pytest.approx(1 / 3)
    assert mean_cosine(np.tile(keys[:1], (5, 1))) == pytest.approx(1.0)
    assert np.isnan(mean_cosine(keys[:1]))


# The digest


def test_the_digest_follows_its_documented_format(bank: Bank) -> None:
    rows = [*document("b", at=2, supersedes="a", text=None), *document("a", text="käse")]
    bank.upsert(table(rows))
    contents = []
    for row in sorted(rows, key=lambda row: row["memory_id"]):
        row["superseded_at"] = day(2) if row["doc_id"] == "a" else None
        contents.append(b"".join(encoded(row[field.name]) for field in SCHEMA))
    total = sum(int.from_bytes(hashlib.sha256(content).digest(), "big") for content in contents)
    assert bank.digest() == f"{total % 2**256:064x}-2"


def encoded(value: Any) -> bytes:
    if value is None:
        return b"\0"
    if isinstance(value, datetime):
        value = (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if isinstance(value, np.ndarray):
        value = value.astype("<f4").tobytes()
    if isinstance(value, int):
        value = struct.pack("<q", value)
    data = value.encode() if isinstance(value, str) else value
    return b"\1" + struct.pack("<q", len(data)) + data
