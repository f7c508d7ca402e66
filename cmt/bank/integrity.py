"""Detection of damage: checksums of rows, of indexes and of files.

The checksum of a row is a column that only the bank sees; `bank_schema` and the digest of a bank
leave it out.

An index affects recall, not content. Its checksum is written next to its files when it is built,
and compared by `Bank.audit`; a search does not compare it, because that would read the whole index.
Lance ends the process over some damaged files. `cmt verify` therefore compares indexes and lists of
deleted rows before Lance reads them, and the files of ledger and pointer are compared whenever they
are opened. On object storage files have no checksums.
"""

import hashlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.bank.schema import row_contents
from cmt.common.digests import sha256_file, sha256_hex
from cmt.common.storage import read_checked_json, write_bytes, write_checked_json
from cmt.errors import DamageError

if TYPE_CHECKING:
    from lancedb.table import LanceTable

CHECKSUM = "checksum"
"""Name of the column."""
_SIZE = 16  # bytes of the checksum of a row
# the file of checksums in a folder; Lance removes it with the folder of an index
_FILE = "cmt-digest"
DELETIONS, DATA = "_deletions", "data"
"""Folders of a Lance table: lists of deleted rows, and rows."""
CHECKSUM_FIELD = pa.field(CHECKSUM, pa.binary())


def content_schema(stored: pa.Schema) -> pa.Schema:
    """The schema of a table without its checksums."""
    index = stored.get_field_index(CHECKSUM)
    return stored if index < 0 else stored.remove(index)


def with_checksums(rows: pa.Table) -> pa.Table:
    """`rows`, which have all other columns of their table, with their checksums as the last
    column.
    """
    return rows.append_column(CHECKSUM_FIELD, pa.array(_checksums(rows), CHECKSUM_FIELD.type))


def unmatched(rows: pa.Table) -> pa.Table:
    """The rows whose content does not match their checksum."""
    stored, computed = rows[CHECKSUM].to_pylist(), _checksums(rows.drop_columns([CHECKSUM]))
    wrong = [was != now for was, now in zip(stored, computed, strict=True)]
    return rows.filter(pa.array(wrong, pa.bool_()))


def check_rows(rows: pa.Table, table: "LanceTable") -> None:
    """Raise DamageError if one of `rows` of `table` does not match its checksum or occurs twice."""
    wrong = unmatched(rows)["memory_id"].to_pylist()
    twice = [name for name, count in Counter(rows["memory_id"].to_pylist()).items() if count > 1]
    if wrong or twice:
        problem = "is damaged, it does not match its checksum" if wrong else "occurs twice"
        raise DamageError(
            f"memory {(wrong or twice)[0]!r} in {table.uri} {problem}: run `cmt verify`, which "
            "says how to repair it"
        )


def write_index_checksums(table: "LanceTable") -> None:
    """Write the checksum of each index that has none. Raises OSError."""
    for folder in _index_folders(table):
        if not (folder / _FILE).exists():
            with suppress(FileNotFoundError):  # another process has removed the index
                write_bytes(folder / _FILE, _files_checksum(folder).encode())


def columns_with_checksums(table: "LanceTable") -> set[str]:
    """The columns whose index has a checksum. Lance reads all indexes to list them, so none may be
    damaged.
    """
    return {column for folder, column in _index_folders(table).items() if (folder / _FILE).exists()}


def altered_indexes(table: "LanceTable") -> list[Path]:
    """Folders of the indexes that do not match their checksum, also those of earlier versions.
    Raises OSError.
    """
    if "://" in table.uri:
        return []
    recorded = sorted(Path(table.uri).glob(f"_indices/*/{_FILE}"))
    return [
        file.parent
        for file in recorded
        if file.read_bytes() != _files_checksum(file.parent).encode()
    ]


def write_checksums(table: "LanceTable", name: str) -> None:
    """Write the checksums of the new files in a folder of `table`, DELETIONS or DATA. Raises
    OSError.
    """
    folder = Path(table.uri) / name
    if "://" in table.uri or not folder.is_dir():
        return
    recorded = _recorded(folder)
    checksums = {path.name: recorded.get(path.name) or sha256_file(path) for path in _files(folder)}
    if not checksums and (folder / _FILE).exists():
        (folder / _FILE).unlink()
    elif checksums != recorded:
        with suppress(FileNotFoundError):  # another process wrote them at the same time
            write_checked_json(folder / _FILE, checksums)


def altered_files(uri: str, table: str, name: str) -> list[str]:
    """Names of the files in a folder, DELETIONS or DATA, of a table at `uri` that do not match
    their checksum.

    Does not open the table; returns none on object storage.
    """
    folder = Path(uri) / f"{table}.lance" / name
    if "://" in uri or not folder.is_dir():
        return []
    altered, recorded = [], _recorded(folder)
    for path in _files(folder):
        with suppress(FileNotFoundError):  # another process has dropped old versions
            if recorded.get(path.name) not in (None, sha256_file(path)):
                altered.append(path.name)
    return altered


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".arrow", ".bin", ".lance"))


def _recorded(folder: Path) -> dict[str, str]:
    """File → checksum; empty if none were written or their file is damaged."""
    with suppress(OSError, ValueError):
        recorded: dict[str, str] = read_checked_json(folder / _FILE, dict[str, str])
        return recorded
    return {}


def _index_folders(table: "LanceTable") -> dict[Path, str]:
    """The folder of each index of a local table → its column."""
    if "://" in table.uri:
        return {}
    folders = {
        Path(table.uri) / "_indices" / str(index.index_uuid): index.columns[0]
        for index in table.list_indices()
    }
    return {folder: column for folder, column in folders.items() if folder.is_dir()}


def _files_checksum(folder: Path) -> str:
    """SHA-256 over names and contents of the files in `folder`."""
    files = sorted(
        path for path in folder.iterdir() if path.name != _FILE and not path.name.startswith(".")
    )
    return sha256_hex(*(f"{path.name} {sha256_file(path)}" for path in files))


def _checksums(rows: pa.Table) -> list[bytes]:
    return [hashlib.blake2b(content, digest_size=_SIZE).digest() for content in row_contents(rows)]
