"""The files of a slice: the rows that one ingest admitted for one period, immutable.

`<store>/<period>/<seq>.documents.parquet` and `.questions.parquet` hold the rows. The manifest
`<seq>.json` is written last; without it the slice does not exist.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.common.storage import write_json, write_table
from cmt.errors import StreamError
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
from cmt.timeline import Version

VERSION_COLUMNS = tuple(name for name in Version._fields if name not in ("slice_id", "banked"))
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Slice:
    """The documents and questions that one ingest admitted for one period."""

    slice_id: str  # `<period>/<seq>`, such as 2031-01/0001
    period: str
    seq: int
    digest: str  # hex SHA-256 of the sorted rows, not of the files
    n_documents: int
    n_questions: int
    path: Path  # the manifest; both tables are in its folder


def manifests(folder: Path) -> Iterator[Path]:
    """The manifests in the folder of one period, in any order."""
    return folder.glob("[0-9]*.json")


def read_manifest(path: Path) -> Slice:
    """The slice of a manifest. Raises StreamError if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
        if not content.pop("has_publishers", False):
            raise ValueError("its documents have no publishers")
        return Slice(**content, path=path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        remedy = f"restore it, or delete {path.with_suffix('')}.* and ingest again"
        raise StreamError(f"{path} is not the manifest of a slice ({error}); {remedy}") from None


def read_slices(store: Path) -> list[Slice]:
    """All slices below `store`, by period and within it by `seq`. Raises StreamError if a manifest
    is damaged.
    """
    slices = [read_manifest(path) for path in store.glob("*/[0-9]*.json")]
    return sorted(slices, key=attrgetter("period", "seq"))


def write_slice(
    store: Path, period: str, seq: int, documents: pa.Table, questions: pa.Table
) -> Slice:
    """Write the tables of a slice and then its manifest. Raises OSError."""
    slice_ = Slice(
        slice_id=f"{period}/{seq:04d}",
        period=period,
        seq=seq,
        digest=rows_digest(documents, questions),
        n_documents=documents.num_rows,
        n_questions=questions.num_rows,
        path=store / period / f"{seq:04d}.json",
    )
    write_table(slice_.path.with_suffix(".documents.parquet"), documents)
    write_table(slice_.path.with_suffix(".questions.parquet"), questions)
    fields = {key: value for key, value in vars(slice_).items() if key != "path"}
    write_json(slice_.path, fields | {"has_publishers": True})
    return slice_


def read_rows(slice_: Slice, table: str, *, columns: tuple[str, ...] | None = None) -> pa.Table:
    """The `documents` or `questions` of a slice, or some of their `columns`. Raises StreamError if
    they are damaged.
    """
    path, stem = slice_.path.with_suffix(f".{table}.parquet"), slice_.path.with_suffix("")
    remedy = f"restore it from a backup or DVC, or delete {stem}.* and ingest again"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema, rows = file.schema_arrow, file.read(columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise StreamError(f"{path} is missing; {remedy}") from None
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name is not UTF-8
        raise StreamError(f"{path} is damaged ({' '.join(str(error).split())}); {remedy}") from None
    if not schema.equals(DOCUMENT_SCHEMA if table == "documents" else QUESTION_SCHEMA):
        raise StreamError(f"{path} has other columns than this version of cmt writes; {remedy}")
    return rows


@lru_cache(maxsize=1024)
def versions_in(slice_: Slice) -> tuple[Version, ...]:
    """The versions of a slice; rounds ask for those of waiting slices again and again."""
    rows = read_rows(slice_, "documents", columns=VERSION_COLUMNS).to_pylist()
    return tuple(Version(**row, slice_id=slice_.slice_id) for row in rows)


def rows_digest(documents: pa.Table, questions: pa.Table) -> str:
    """Hex SHA-256 of the sorted rows of both tables, independent of row order and file format."""
    digest = hashlib.sha256()
    for name, table in (("documents", documents), ("questions", questions)):
        digest.update(f"{name} {table.num_rows}\n".encode())
        fields = list[pa.Field]()
        for field in table.schema:  # instants as microseconds since 1970
            instant = pa.types.is_timestamp(field.type)
            fields.append(field.with_type(pa.int64()) if instant else field)
        lines = list[bytes]()  # each row as a JSON list
        for batch in table.cast(pa.schema(fields)).to_batches(max_chunksize=_BATCH_ROWS):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                lines.append(json.dumps(row, ensure_ascii=False).encode())
        for line in sorted(lines):
            digest.update(line + b"\n")
    return digest.hexdigest()
