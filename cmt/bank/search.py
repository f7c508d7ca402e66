"""Search in a table of memories: nearest keys by cosine, best words by BM25, both as of a date.

Two steps: ids and scores first, then the rows that were chosen, for a row carries kilobytes of memory and text. Filters
are typed expressions throughout; nothing that a person wrote becomes part of a query's language.
"""

from datetime import datetime

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr, col, func, lit
from lancedb.query import LanceQueryBuilder, MatchQuery
from lancedb.table import LanceTable

from cmt.bank.schema import key_matrix
from cmt.errors import BankError, ConfigError

_SHOWN = ["memory_id", "doc_id", "title", "published_at", "supersedes", "text", "memory", "n_vectors", "n_tokens"]
# BM25 of a candidate that only its key found is looked up among this many best hits; as quick as asking for ten.
_HITS = 1000


def search(
    table: LanceTable, *, key: np.ndarray, text: str | None, k: int, as_of: datetime | None, exact: bool
) -> pa.Table:
    """Union of the `k` nearest to `key` [p] and the `k` best for `text`, see Bank.search(); `exact`: no index."""
    key, visible = _checked_key(key, table.schema), _visible(k, as_of)
    hits = _best(_text_query(table, text, visible), "_score", max(k, _HITS)) if text else {}
    near = _best(_key_query(table, key, visible, exact), "_distance", k)
    found = read_rows(table, [*_shown(table), "key"], {*near, *list(hits)[:k]})
    found = found.append_column("similarity", pa.array(_cosine(found["key"], key))).drop_columns(["key"])
    return _ordered(_with_bm25(found, hits), "similarity")


def full_text(table: LanceTable, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
    """The `k` best for `text`, see Bank.full_text()."""
    hits = _best(_text_query(table, text, _visible(k, as_of)), "_score", k)
    return _ordered(_with_bm25(read_rows(table, _shown(table), set(hits)), hits), "bm25")


def documents(table: LanceTable, *, doc_ids: set[str]) -> pa.Table:
    """All memories of some documents by memory_id, see Bank.documents()."""
    return _read(table, _shown(table), col("doc_id").isin(map(lit, sorted(doc_ids))))


def read_rows(table: LanceTable, columns: list[str], memory_ids: set[str] | None = None) -> pa.Table:
    """`columns` of the rows with these ids (of all rows when None), sorted by memory_id."""
    return _read(table, columns, None if memory_ids is None else is_one_of(memory_ids))


def _read(table: LanceTable, columns: list[str], where: Expr | None) -> pa.Table:
    query = table.search().select(columns).limit(max(table.count_rows(), 1))
    if where is not None:
        query = query.where(where)
    return query.to_arrow().sort_by("memory_id")


def is_one_of(memory_ids: set[str]) -> Expr:
    return col("memory_id").isin(map(lit, sorted(memory_ids)))


def _shown(table: LanceTable) -> list[str]:
    return [*_SHOWN, *({"words"} & set(table.schema.names))]


def _checked_key(key: np.ndarray, schema: pa.Schema) -> np.ndarray:
    key, size = np.asarray(key, dtype=np.float64), schema.field("key").type.list_size
    if key.shape != (size,) or not np.isfinite(key).all() or not key.any():
        raise BankError(
            f"a search key of shape {key.shape} does not fit: it has to be {size} finite numbers, not all 0"
        )
    return key


def _visible(k: int, as_of: datetime | None) -> Expr:
    if k < 1:
        raise ConfigError(f"k is {k}: at least one memory has to be asked for")
    superseded_at = col("superseded_at")
    # Expr has no IS NULL; concat() is its one function that makes a value of null, the empty string.
    current = func("concat", superseded_at.cast("string")) == lit("")
    if as_of is None:
        return current
    if as_of.tzinfo is None:
        raise ConfigError(f"the date {as_of.isoformat()} has no time zone: write {as_of.isoformat()}Z for UTC")
    return (col("published_at") <= lit(as_of)) & (current | (superseded_at > lit(as_of)))


def _key_query(table: LanceTable, key: np.ndarray, visible: Expr, exact: bool) -> LanceQueryBuilder:
    query = table.search(key.astype(np.float32), vector_column_name="key", query_type="vector")
    query = query.distance_type("cosine").select(["memory_id", "_distance"]).where(visible)
    if exact:
        return query.bypass_vector_index()
    # No upper limit on probes: a date may leave few rows in the partitions nearest to the key.
    return query.minimum_nprobes(20).maximum_nprobes(0).refine_factor(4)


def _text_query(table: LanceTable, text: str, visible: Expr) -> LanceQueryBuilder:
    # LanceDB's annotations know neither its own query objects here nor their defaults.
    query = table.search(MatchQuery(text, "text"), query_type="fts")  # type: ignore[call-overload,call-arg]
    found: LanceQueryBuilder = query.select(["memory_id", "_score"]).where(visible)
    return found


def _best(query: LanceQueryBuilder, score: str, k: int) -> dict[str, float]:
    """The best `k` memory_ids with their scores, best first; equal scores in the order of their ids.

    Which of equal rows Lance returns depends on its files, so a tie at the cut is fetched in full.
    """
    sign, limit = (1.0 if score == "_distance" else -1.0), k + 16
    while True:
        found = query.limit(limit).to_arrow()
        scores, names = found[score].to_pylist(), found["memory_id"].to_pylist()
        ranked = sorted((sign * value, name) for value, name in zip(scores, names, strict=True))
        if len(ranked) < limit or ranked[k - 1][0] != ranked[-1][0]:
            return {name: sign * value for value, name in ranked[:k]}
        limit *= 4


def _cosine(keys: pa.ChunkedArray, key: np.ndarray) -> np.ndarray:
    rows = key_matrix(keys).astype(np.float64)  # [n, p]
    # Row sums, not a matrix product: BLAS may round a row by its place, and equal keys would not be equal.
    cosine: np.ndarray = (rows * key).sum(axis=1) / np.sqrt((rows * rows).sum(axis=1) * (key * key).sum())
    return cosine


def _with_bm25(rows: pa.Table, hits: dict[str, float]) -> pa.Table:
    scores = [hits.get(name, 0.0) for name in rows["memory_id"].to_pylist()]
    return rows.append_column("bm25", pa.array(scores, pa.float64()))


def _ordered(rows: pa.Table, score: str) -> pa.Table:
    return rows.sort_by([(score, "descending"), ("memory_id", "ascending")])
