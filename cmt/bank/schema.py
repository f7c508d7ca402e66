"""The rows of a bank: Arrow schema, validation and digest."""

import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank import lexical
from cmt.bank.memory_ids import memory_id
from cmt.bank.quantization import vector_bytes
from cmt.errors import BankError

SCHEMA_VERSION = "2"
_MODULUS = 2**256
# Metadata of a table's key field: of two writers of the same new row, one inserts it.
PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}
# The columns that visibility and change detection read: a few hundred bytes per row instead of
# kilobytes.
VERSION_COLUMNS = [
    "memory_id",
    "doc_id",
    "slice_id",
    "published_at",
    "superseded_at",
    "hidden",
    "source",
]
VERSION_COLUMNS += ["supersedes", "sha256"]

TIMESTAMP = pa.timestamp("us", tz="UTC")


def latest_versions(rows: pa.Table) -> pa.Table:
    """`rows` without those of earlier versions of a document."""
    return rows.filter(pc.match_substring_regex(rows["memory_id"], "#[0-9]+$"))


def bank_schema(
    *, key_dim: int, codes: str, dim: int, compressor: str, sketched: bool = False
) -> pa.Schema:
    """Arrow schema of a table of memories.

    `key_dim`: length of a search key, whose numbers are fp16. `codes`, `dim`: number format and
    length of a memory vector. `compressor`: digest of the compressor whose memories the table
    holds. `sketched`: rows have a sketch of their words (cmt.bank.lexical) to search instead of the
    text. Raises ConfigError if `codes` is unknown.
    """
    vector_bytes(codes, dim)
    return pa.schema(
        [
            pa.field("memory_id", pa.string(), nullable=False, metadata=PRIMARY_KEY),
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("slice_id", pa.string(), nullable=False),
            pa.field("published_at", TIMESTAMP, nullable=False),
            # end of the last interval in which the row is visible
            pa.field("superseded_at", TIMESTAMP),
            # earlier intervals in which it is not, see `Timeline.hidden`
            pa.field("hidden", pa.string()),
            pa.field("source", pa.string()),  # publisher
            pa.field("supersedes", pa.string()),
            pa.field("sha256", pa.string(), nullable=False),  # of the document's text
            pa.field("compressor", pa.string(), nullable=False),
            pa.field("title", pa.string()),
            pa.field("key", pa.list_(pa.float16(), key_dim), nullable=False),
            pa.field("memory", pa.large_binary(), nullable=False),
            pa.field("n_vectors", pa.int32(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("text", pa.large_string()),
            *([pa.field("words", pa.binary(), nullable=False)] if sketched else []),
        ],
        metadata={
            "schema_version": SCHEMA_VERSION,
            "codes": codes,
            "dim": str(dim),
            "compressor": compressor,
        },
    )


def schema_value(schema: pa.Schema, name: str) -> str:
    """The entry `name` of the schema's metadata, "" if missing."""
    value: bytes = (schema.metadata or {}).get(name.encode(), b"")
    return value.decode()


def check_schema(stored: pa.Schema, expected: pa.Schema | None, where: str) -> None:
    """Raise BankError if `stored` has another schema version or differs from `expected`; `where`
    names the bank.
    """
    version = schema_value(stored, "schema_version")
    if version != SCHEMA_VERSION:
        raise BankError(
            f"{where} was written with schema {version or '0'}, this cmt reads {SCHEMA_VERSION}: "
            "set bank.uri to a new folder and run `cmt update`, or use the cmt that wrote it"
        )
    if expected is None:
        return
    # Only banks without text have sketches.
    if ("words" in stored.names) != ("words" in expected.names):
        content = "no texts" if "words" in stored.names else "texts"
        raise BankError(
            f"{where} keeps {content}: set bank.uri to a new folder, or bank.keep_text back"
        )
    for name in ("compressor", "codes", "dim"):
        has, wants = schema_value(stored, name), schema_value(expected, name)
        if has != wants:
            raise BankError(
                f"{where} has {name} {has}, not {wants}: set bank.uri to a new folder, or {name} "
                "back"
            )
    if not stored.equals(expected):
        raise BankError(
            f"{where} has other columns or another key length: set bank.uri to a new folder"
        )


def key_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of keys as a float32 matrix (n, p)."""
    flat: np.ndarray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32).reshape(-1, column.type.list_size)


def mean_cosine(keys: np.ndarray) -> float:
    """Mean cosine over all pairs of rows of `keys` (n, p); NaN for fewer than two rows."""
    n = len(keys)
    unit = keys / np.linalg.norm(keys.astype(np.float64), axis=1, keepdims=True)
    return float(((unit.sum(axis=0) ** 2).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast `rows` to `schema`. Raises BankError with the first invalid row and the number of
    further ones.
    """
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing:
        raise BankError(
            f"memories lack the columns {', '.join(missing)}: build them with bank_schema()"
        )
    rows = rows.select(schema.names)
    problems = _nulls(rows, schema)
    if not problems:
        try:
            rows = rows.cast(schema)
        except (ValueError, pa.ArrowException) as error:
            raise BankError(f"memories do not fit the bank's schema: {error}") from None
        problems = row_problems(rows, schema) + id_problems(rows)
    if problems:
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise BankError(f"{problems[0]}{more}; nothing was written")
    return rows


def row_problems(rows: pa.Table, schema: pa.Schema) -> list[str]:
    """Problems of individual rows: nulls, another compressor, an unusable key, a memory of the
    wrong length.
    """
    if problems := _nulls(rows, schema):
        return problems
    compressor, codes, dim = (schema_value(schema, name) for name in ("compressor", "codes", "dim"))
    size = vector_bytes(codes, int(dim))
    norms = np.linalg.norm(key_matrix(rows["key"]), axis=1)
    lengths = pc.binary_length(rows["memory"]).to_numpy()
    n_vectors = rows["n_vectors"].to_numpy().astype(np.int64)
    foreign = ~pc.equal(rows["compressor"], compressor).to_numpy()
    checks = [
        (
            foreign,
            f"was made by another compressor than the bank's ({compressor[:12]}): open a bank for "
            "that one",
        ),
        (
            ~(np.isfinite(norms) & (norms > 0)),
            "has a key with NaN, infinity or only zeros: compress the document again",
        ),
        (
            (lengths != n_vectors * size) | (n_vectors < 1),
            f"has a memory that is not n_vectors × {size} bytes ({codes})",
        ),
    ]
    if "words" in rows.column_names:
        wrong = pc.binary_length(rows["words"]).to_numpy() != lexical.BYTES
        checks.append(
            (
                wrong,
                f"has a sketch of its words that is not {lexical.BYTES} bytes: compress the "
                "document again",
            )
        )
    ids = rows["memory_id"]
    return [
        f"memory {ids[int(row)].as_py()!r} {text}"
        for wrong, text in checks
        for row in np.flatnonzero(wrong)
    ]


def id_problems(rows: pa.Table) -> list[str]:
    """Problems between rows: a duplicate memory_id, a version whose chunks are not numbered `#0` to
    `#n-1`.
    """
    latest: dict[str, datetime] = {}
    chunks: dict[tuple[str, datetime], Counter[str]] = defaultdict(Counter)
    columns = (rows[name].to_pylist() for name in ("memory_id", "doc_id", "published_at"))
    for name, doc_id, published_at in zip(*columns, strict=True):
        chunks[doc_id, published_at][name] += 1
        latest[doc_id] = max(published_at, latest.get(doc_id, published_at))
    problems = []
    for (doc_id, published_at), counts in chunks.items():
        version = None if published_at == latest[doc_id] else published_at
        problems += [
            f"memory {name!r} occurs {count} times" for name, count in counts.items() if count > 1
        ]
        if counts.keys() != {memory_id(doc_id, chunk, version) for chunk in range(len(counts))}:
            names = ", ".join(map(repr, sorted(counts)[:3])) + (" …" if len(counts) > 3 else "")
            problems.append(
                f"document {doc_id!r} has {names} instead of chunks numbered from #0 without a gap"
            )
    return problems


@dataclass(frozen=True)
class RowsDigest:
    """The sum of the SHA-256 of all rows modulo 2²⁵⁶, and their number; independent of their order
    and their files.

    Digests of rows add up, so a change costs what it changes (Bellare and Micciancio 1997, A new
    paradigm for collision-free hashing: incrementality at reduced cost). See `row_contents` for
    what is hashed.
    """

    total: int = 0
    rows: int = 0

    @classmethod
    def of(cls, rows: pa.Table) -> "RowsDigest":
        """The digest of `rows`."""
        hashes = [
            int.from_bytes(hashlib.sha256(content).digest()) for content in row_contents(rows)
        ]
        return cls(sum(hashes) % _MODULUS, len(hashes))

    @classmethod
    def parse(cls, text: str) -> "RowsDigest":
        """The inverse of `str`. Raises ValueError."""
        total, _, rows = text.partition("-")
        return cls(int(total, 16), int(rows))

    def __add__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest((self.total + other.total) % _MODULUS, self.rows + other.rows)

    def __sub__(self, other: "RowsDigest") -> "RowsDigest":
        return RowsDigest((self.total - other.total) % _MODULUS, self.rows - other.rows)

    def __str__(self) -> str:
        return f"{self.total:064x}-{self.rows}"


def row_contents(rows: pa.Table) -> Iterator[bytes]:
    """The content of each row as bytes, which RowsDigest and the checksums hash.

    Columns are in schema order. A null is the byte 00. Any other value is the byte 01, its length
    as 8 bytes, and its content: text as UTF-8, binary unchanged, timestamps (microseconds since
    1970 UTC) and integers as 8 bytes, keys as float32. All numbers are little-endian.
    """
    for values in zip(*(_encoded(column) for column in rows.columns), strict=True):
        yield b"".join(
            b"\0" if value is None else b"\1" + struct.pack("<q", len(value)) + value
            for value in values
        )


def _encoded(column: pa.ChunkedArray) -> Iterator[bytes | None]:
    if pa.types.is_fixed_size_list(column.type):
        return (row.tobytes() for row in key_matrix(column).astype("<f4"))
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.int64()).to_pylist()
        return (None if number is None else struct.pack("<q", number) for number in numbers)
    values = column.to_pylist()
    return (value.encode() if isinstance(value, str) else value for value in values)


def _nulls(rows: pa.Table, schema: pa.Schema) -> list[str]:
    return [
        f"memory {rows['memory_id'][int(row)].as_py()!r} has no {field.name}"
        for field in schema
        if not field.nullable
        for row in np.flatnonzero(pc.is_null(rows[field.name]).to_numpy())
    ]
