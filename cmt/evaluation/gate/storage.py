"""The canaries of a round as a Parquet file with a digest."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from pydantic import TypeAdapter

from cmt.common.digests import sha256_hex
from cmt.common.storage import read_checked_table, write_checked_table
from cmt.evaluation.gate.canary import Canary

_OUTCOME = pa.struct(
    [("answer", pa.string()), ("f1", pa.float64()), ("right", pa.bool_()), ("doc_id", pa.string())]
)
CANARY_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("golds", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("published_at", pa.timestamp("us", tz="UTC")),
        pa.field("fixed", pa.bool_(), nullable=False),
        pa.field("best", _OUTCOME),
        pa.field("now", _OUTCOME),
        pa.field("selection", pa.string()),
        pa.field("without", _OUTCOME),
        pa.field("harmed_by", pa.list_(pa.string()), nullable=False),
        pa.field("set_aside", pa.list_(pa.string()), nullable=False),
        pa.field("turned", _OUTCOME),
        pa.field("updated_by", pa.string()),
    ]
)
"""One row a canary; see `Canary`."""
_COLUMNS = {"references": "golds", "before": "without", "flipped": "turned"}
"""Fields of `Canary` whose column has another name."""


def write_canaries(path: Path, canaries: Sequence[Canary]) -> None:
    """Write `canaries` to `path` with their digest, atomically. Raises OSError."""
    rows = []
    for canary in canaries:
        rows.append({_COLUMNS.get(name, name): value for name, value in asdict(canary).items()})
    write_checked_table(path, pa.Table.from_pylist(rows, schema=CANARY_SCHEMA), _digest)


def read_canaries(path: Path) -> list[Canary] | None:
    """The canaries in `path`; None if there is no such file, or, with a warning, if it is
    damaged.
    """
    table = read_checked_table(path, _digest, remedy="its canaries are chosen and asked again")
    if table is None:
        return None
    fields = {column: name for name, column in _COLUMNS.items()}
    return TypeAdapter(list[Canary]).validate_python(table.rename_columns(fields).to_pylist())


def _digest(table: pa.Table) -> str:
    """Raises ValueError if the table has other columns."""
    if table.column_names != CANARY_SCHEMA.names:
        raise ValueError("it has other columns than this version of cmt writes")
    return sha256_hex(json.dumps(table.to_pylist(), default=str))
