"""`pin` of `cmt.cli.dvc_stages`: the small file that identifies a bank."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema
from cmt.cli.dvc_stages import pin

SCHEMA = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)


def memories(*numbers: int) -> pa.Table:
    """Rows of a bank, one document a number."""
    rows = [
        {
            "memory_id": f"d{number}#0",
            "doc_id": f"d{number}",
            "slice_id": "2031-01/0001",
            "published_at": datetime(2031, 1, number, tzinfo=UTC),
            "sha256": f"{number:064}",
            "compressor": "c" * 64,
            "key": [1.0, float(number)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 3,
            "text": f"text {number}",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def pinned(folder: Path, *batches: pa.Table) -> bytes:
    """The pin of a new bank with these rows."""
    bank = Bank.open(uri=str(folder / "bank"), schema=SCHEMA)
    for batch in batches:
        bank.upsert(batch)
    pin(bank, folder / "bank.json")
    return (folder / "bank.json").read_bytes()


def test_equal_banks_have_equal_pins_in_whatever_order_they_were_written(tmp_path: Path) -> None:
    once = pinned(tmp_path / "once", memories(1, 2, 3))
    assert pinned(tmp_path / "one-by-one", memories(3), memories(2), memories(1)) == once
    assert pinned(tmp_path / "other", memories(1, 2, 4)) != once
    assert json.loads(once).keys() == {"table", "rows", "digest"}
    assert json.loads(once)["rows"] == 3
