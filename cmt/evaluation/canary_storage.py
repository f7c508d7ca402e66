"""The canaries of a round as a Parquet file with a digest."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.answering.confidence import Basis
from cmt.common.digests import sha256_hex
from cmt.common.storage import write_table
from cmt.evaluation.canary import Canary, Outcome

log = logging.getLogger(__name__)

_OUTCOME = pa.struct([("answer", pa.string()), ("f1", pa.float64()), ("right", pa.bool_()), ("doc_id", pa.string())])
_BASIS = pa.struct([("selection", pa.string()), ("lead", pa.float64()), ("confidence", pa.float64())])
CANARY_SCHEMA = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("golds", pa.list_(pa.string()), nullable=False),  # Canary.references
        pa.field("source", pa.string(), nullable=False),
        pa.field("published_at", pa.timestamp("us", tz="UTC")),
        pa.field("fixed", pa.bool_(), nullable=False),
        pa.field("best", _OUTCOME),
        pa.field("now", _OUTCOME),
        pa.field("basis", _BASIS),
        pa.field("without", _OUTCOME),
        pa.field("harmed_by", pa.list_(pa.string()), nullable=False),
        pa.field("set_aside", pa.list_(pa.string()), nullable=False),
        pa.field("turned", _OUTCOME),
        pa.field("updated_by", pa.string()),
    ]
)
"""One row a canary; see `Canary`."""
_DIGEST = b"digest"  # in the metadata of the file's schema


def write_canaries(path: Path, canaries: Sequence[Canary]) -> None:
    """Write `canaries` to `path` with their digest, atomically. Raises OSError."""
    rows = [
        asdict(canary) | {"golds": canary.references, "basis": canary.basis and canary.basis._asdict()}
        for canary in canaries
    ]
    table = pa.Table.from_pylist(rows, schema=CANARY_SCHEMA)
    write_table(path, table.replace_schema_metadata({_DIGEST: _digest(table)}))


def read_canaries(path: Path) -> list[Canary] | None:
    """The canaries in `path`; None if there is no such file, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if table.column_names != CANARY_SCHEMA.names:
            reason = "it has other columns than this version of cmt writes"
        elif (table.schema.metadata or {}).get(_DIGEST) == _digest(table):
            return [_parse(row) for row in table.to_pylist()]
        else:
            reason = "it does not match its digest"
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    log.warning("%s is damaged (%s): its canaries are chosen and asked again", path, reason)
    return None


def _parse(row: dict[str, Any]) -> Canary:
    outcomes = {name: row[name] and Outcome(**row[name]) for name in ("best", "now", "without", "turned")}
    outcomes["basis"] = row["basis"] and Basis(**row["basis"])
    lists = {name: tuple(row[name]) for name in ("harmed_by", "set_aside")}
    references = tuple(row.pop("golds"))
    return Canary(**row | outcomes | lists, references=references)


def _digest(table: pa.Table) -> bytes:
    return sha256_hex(json.dumps(table.to_pylist(), default=str)).encode()
