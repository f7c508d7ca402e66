"""Whether stored data are those that were written: checksums of rows, digests of indexes, the counts of the ledger.

The checksum is a column that only the bank sees; `bank_schema` and the digest of a bank are without it.

An index decides which rows are found, not what they say. When it is built, a file beside it gets its files' digest.
`Bank.audit` compares them; a search does not, for it would have to read all of them. Lance ends the process over some
damaged files, so digests of indexes and of lists of deleted rows are compared by `cmt verify` before Lance reads them,
and those of the files of ledger and pointer whenever they are opened. On object storage there are no digests of files.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.bank.ledger import Round
from cmt.bank.schema import row_contents
from cmt.common.digests import sha256_file, sha256_hex
from cmt.common.storage import read_sealed, write_bytes, write_sealed
from cmt.errors import DamageError

if TYPE_CHECKING:
    from lancedb.table import LanceTable

CHECKSUM = "checksum"
_SIZE = 16  # bytes of a checksum
_SEAL = "cmt-digest"  # file in the folder of an index; Lance removes it with the others
DELETIONS, DATA = "_deletions", "data"
"""Folders of a Lance table: of the files that list deleted rows, and of those that hold the rows."""
FIELD = pa.field(CHECKSUM, pa.binary())


def content_schema(stored: pa.Schema) -> pa.Schema:
    """The schema of a table without its checksums."""
    place = stored.get_field_index(CHECKSUM)
    return stored if place < 0 else stored.remove(place)


def with_checksums(rows: pa.Table) -> pa.Table:
    """`rows`, which have every column of their table but the checksum, with their checksums as the last column."""
    return rows.append_column(FIELD, pa.array(_checksums(rows), FIELD.type))


def unmatched(rows: pa.Table) -> pa.Table:
    """The rows whose content does not match their checksum."""
    stored, computed = rows[CHECKSUM].to_pylist(), _checksums(rows.drop_columns([CHECKSUM]))
    wrong = [was != now for was, now in zip(stored, computed, strict=True)]
    return rows.filter(pa.array(wrong, pa.bool_()))


def check_rows(rows: pa.Table, table: "LanceTable") -> None:
    """Raise DamageError if one of `rows` of `table` does not match its checksum or occurs twice."""
    ids: list[str] = rows["memory_id"].to_pylist()
    if wrong := unmatched(rows)["memory_id"].to_pylist():
        raise DamageError(
            f"memory {wrong[0]!r} in {table.uri} is damaged, it does not match its checksum: run `cmt verify`, which "
            "says how to repair it"
        )
    if len(set(ids)) < len(ids):
        twice = next(name for place, name in enumerate(ids) if name in ids[:place])
        raise DamageError(
            f"memory {twice!r} in {table.uri} occurs twice: run `cmt verify`, which says how to repair it"
        )


def contradiction(rounds: Sequence[Round], *, version: int, rows: int, at_rest: bool = False) -> str | None:
    """How a bank with `rows` rows at `version` contradicts the committed ones of `rounds`; None if it does not.

    `rounds` are those of its compressor. Every change makes a version, so none that the ledger names may be missing.
    `at_rest`: no round is at work and no document was forgotten, so that later versions have as many rows.
    """
    committed = [round_ for round_ in rounds if round_.state == "committed"]
    newest = max(committed, key=lambda round_: round_.version_after or 0, default=None)
    if newest is None or newest.version_after is None:
        return None
    if version < newest.version_after:
        return f"is at version {version}, but round {newest.round_id} left version {newest.version_after}"
    if rows != newest.rows and (at_rest or version == newest.version_after):
        return f"has {rows:,} rows, but round {newest.round_id} left {newest.rows:,}"
    return None


def seal_indexes(table: "LanceTable") -> None:
    """Write the digest of each index beside its files, unless it is there. Raises OSError."""
    for folder in _index_folders(table):
        if not (folder / _SEAL).exists():
            with suppress(FileNotFoundError):  # another process has sealed it at the same time
                write_bytes(folder / _SEAL, _files_digest(folder).encode())


def sealed_columns(table: "LanceTable") -> set[str]:
    """The columns whose index has a digest. Lance reads all indexes for it, so none may be altered."""
    return {column for folder, column in _index_folders(table).items() if (folder / _SEAL).exists()}


def altered_indexes(table: "LanceTable") -> list[Path]:
    """Folders of the indexes that do not match their digest, those of earlier versions included. Raises OSError."""
    if "://" in table.uri:
        return []
    seals = sorted(Path(table.uri).glob(f"_indices/*/{_SEAL}"))
    return [seal.parent for seal in seals if seal.read_bytes() != _files_digest(seal.parent).encode()]


def seal_files(table: "LanceTable", name: str) -> None:
    """Write the digests of the files in a folder of `table`, DELETIONS or DATA, beside them. Raises OSError.

    Only those of new files are computed.
    """
    folder = Path(table.uri) / name
    if "://" in table.uri or not folder.is_dir():
        return
    sealed, files = _sealed_files(folder), _files(folder)
    digests = {path.name: sealed.get(path.name) or sha256_file(path) for path in files}
    if not digests and (folder / _SEAL).exists():
        (folder / _SEAL).unlink()
    elif digests != sealed:
        with suppress(FileNotFoundError):  # another process has sealed them at the same time
            write_sealed(folder / _SEAL, digests)


def altered_files(uri: str, table: str, name: str) -> list[str]:
    """Names of the files in a folder, DELETIONS or DATA, of a table at `uri` that do not match their digest.

    Does not open the table. On object storage there are none.
    """
    folder = Path(uri) / f"{table}.lance" / name
    if "://" in uri or not folder.is_dir():
        return []
    altered = []
    sealed = _sealed_files(folder)
    for path in _files(folder):
        with suppress(FileNotFoundError):  # another process has dropped old versions
            if sealed.get(path.name) not in (None, sha256_file(path)):
                altered.append(path.name)
    return altered


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".arrow", ".bin", ".lance"))


def _sealed_files(folder: Path) -> dict[str, str]:
    """File → digest; none if nothing was sealed, or the seal itself is damaged."""
    with suppress(OSError, ValueError):
        sealed: dict[str, str] = read_sealed(folder / _SEAL, dict[str, str])
        return sealed
    return {}


def _index_folders(table: "LanceTable") -> dict[Path, str]:
    """The folder of each index of a local table → its column."""
    if "://" in table.uri:
        return {}
    folders = {Path(table.uri) / "_indices" / str(index.index_uuid): index.columns[0] for index in table.list_indices()}
    return {folder: column for folder, column in folders.items() if folder.is_dir()}


def _files_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the files in `folder`."""
    files = sorted(path for path in folder.iterdir() if path.name != _SEAL and not path.name.startswith("."))
    return sha256_hex(*(f"{path.name} {sha256_file(path)}" for path in files))


def _checksums(rows: pa.Table) -> list[bytes]:
    return [hashlib.blake2b(content, digest_size=_SIZE).digest() for content in row_contents(rows)]
