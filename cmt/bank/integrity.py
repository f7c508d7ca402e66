"""Whether stored rows are those that were written: a checksum in every row, and the counts of the ledger.

The checksum is a column that only the bank sees; `bank_schema` and the digest of a bank are without it. Tables of
version 0.1.0 have no such column: their rows are read unchecked until the next upsert adds it.
"""

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from cmt.bank.ledger import Round
from cmt.bank.schema import row_contents
from cmt.errors import DamageError

CHECKSUM = "checksum"
_SIZE = 16  # bytes of a checksum
FIELD = pa.field(CHECKSUM, pa.binary())


def content_schema(stored: pa.Schema) -> pa.Schema:
    """The schema of a table without its checksums."""
    place = stored.get_field_index(CHECKSUM)
    return stored if place < 0 else stored.remove(place)


def with_checksums(rows: pa.Table) -> pa.Table:
    """`rows`, which have every column of their table but the checksum, with their checksums as the last column."""
    return rows.append_column(FIELD, pa.array(_checksums(rows), FIELD.type))


def unmatched(rows: pa.Table) -> pa.Table:
    """The rows whose content does not match their checksum. A row without a checksum counts as sound."""
    if CHECKSUM not in rows.column_names:
        return rows.slice(0, 0)
    stored, computed = rows[CHECKSUM].to_pylist(), _checksums(rows.drop_columns([CHECKSUM]))
    wrong = [was is not None and was != now for was, now in zip(stored, computed, strict=True)]
    return rows.filter(pa.array(wrong, pa.bool_()))


def check_rows(rows: pa.Table, where: str) -> None:
    """Raise DamageError if a row of `rows` does not match its checksum or occurs twice; `where` names the table."""
    ids: list[str] = rows["memory_id"].to_pylist()
    if wrong := unmatched(rows)["memory_id"].to_pylist():
        raise DamageError(
            f"memory {wrong[0]!r} in {where} is damaged, it does not match its checksum: run `cmt verify`, which says "
            "how to repair it"
        )
    if len(set(ids)) < len(ids):
        twice = next(name for place, name in enumerate(ids) if name in ids[:place])
        raise DamageError(f"memory {twice!r} in {where} occurs twice: run `cmt verify`, which says how to repair it")


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


def _checksums(rows: pa.Table) -> list[bytes]:
    return [hashlib.blake2b(content, digest_size=_SIZE).digest() for content in row_contents(rows)]
