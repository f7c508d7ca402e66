"""Rows of a small bank with keys of 16 numbers, and short views of what a bank holds."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema

KEY_DIM, DIM = 16, 4
COMPRESSOR = "c0ffee" * 10
SCHEMA = bank_schema(key_dim=KEY_DIM, codes="int8", dim=DIM, compressor=COMPRESSOR)


def day(n: int) -> datetime:
    """Midnight UTC, `n` days after 2031-01-01."""
    return datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=n)


def key_of(name: str) -> np.ndarray:
    """A random key (KEY_DIM,) that depends on `name` alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(KEY_DIM).astype(np.float16)


def document(  # noqa: PLR0913 - a row has as many columns
    doc_id: str,
    *,
    at: int = 0,
    chunks: int = 1,
    supersedes: str | None = None,
    source: str | None = "Courier",
    slice_id: str = "2031-01/0001",
    sha: str | None = None,
    text: str | None = "plain words",
    key: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The rows of a document of `chunks` chunks, published on `day(at)`."""
    return [
        {
            "memory_id": f"{doc_id}#{chunk}",
            "doc_id": doc_id,
            "slice_id": slice_id,
            "published_at": day(at),
            "superseded_at": None,
            "hidden": None,
            "source": source,
            "supersedes": supersedes,
            "sha256": sha or f"v1 of {doc_id}",
            "compressor": COMPRESSOR,
            "title": f"On {doc_id}",
            "key": key_of(f"{doc_id}#{chunk}") if key is None else np.asarray(key, np.float16),
            "memory": bytes(range(2 * (2 + DIM))),
            "n_vectors": 2,
            "n_tokens": 7,
            "text": text,
        }
        for chunk in range(chunks)
    ]


def lettered(n: int) -> list[dict[str, Any]]:
    """The document `d<n>`, whose text has `alpha`, `beta`, `gamma` and `delta` in numbers that
    depend on `n`.
    """
    return document(
        f"d{n}", text="alpha " * (n % 5) + "beta " * (n % 3) + "gamma " * (n % 7) + "delta " * n
    )


def table(*documents: Sequence[dict[str, Any]]) -> pa.Table:
    """All rows of `documents` in SCHEMA."""
    return pa.Table.from_pylist([row for rows in documents for row in rows], schema=SCHEMA)


def stored(bank: Bank) -> dict[str, dict[str, Any]]:
    """All rows of the bank by memory_id, read with LanceDB alone."""
    rows = bank.connection.open_table(bank.name).to_arrow().to_pylist()
    return {row["memory_id"]: row for row in rows}


def superseded(bank: Bank) -> dict[str, datetime | None]:
    """superseded_at of all rows by memory_id."""
    return {name: row["superseded_at"] for name, row in stored(bank).items()}


def names(rows: pa.Table) -> list[str]:
    """The memory_ids of `rows`, in order."""
    memory_ids: list[str] = rows["memory_id"].to_pylist()
    return memory_ids


def visible(bank: Bank, as_of: datetime | None) -> set[str]:
    """The memory_ids that a search as of a date returns."""
    return set(names(bank.search(key=key_of("q"), text=None, k=100, as_of=as_of)))


def bm25(bank: Bank) -> list[tuple[str, float]]:
    """memory_id and BM25 score of all rows for "alpha beta gamma", best first."""
    hits = bank.full_text(text="alpha beta gamma", k=50, as_of=day(99))
    return list(zip(names(hits), hits["bm25"].to_pylist(), strict=True))


def problems(bank: Bank) -> list[str]:
    """All problems that `Bank.audit` finds."""
    audit = bank.audit()
    return [
        *audit.problems,
        *(f"{name} is misdated" for name in audit.misdated),
        *filter(None, [audit.index_problem]),
    ]
