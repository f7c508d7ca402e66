"""Search in a table of memories: nearest keys by cosine and best texts by BM25, as of a date.

A search has two steps: ids and scores first, then the selected rows, because a row holds kilobytes of memory and text.
The rows are checked against their checksums; DamageError names the first that does not match.
Filters are typed expressions; user text never becomes part of a query string.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr, col, func, lit
from lancedb.query import FullTextOperator, LanceQueryBuilder, MatchQuery
from lancedb.table import LanceTable

from cmt.bank.integrity import check_rows, content_schema
from cmt.bank.schema import key_matrix, latest_versions
from cmt.bank.tables import translate_errors
from cmt.errors import BankError, ConfigError

_COLUMNS = ["memory_id", "doc_id", "title", "published_at", "supersedes", "text", "memory", "n_vectors", "n_tokens"]
# Number of full-text hits that are fetched to look up the BM25 score of rows found by key. Ten take as long.
_BM25_HITS = 1000


def search(
    table: LanceTable,
    *,
    key: np.ndarray,
    text: str | None,
    k: int,
    as_of: datetime | None,
    exact: bool,
    hidden: Collection[str] = (),
) -> pa.Table:
    """Union of the `k` rows nearest to `key` (p,) and the `k` best for `text`; see `Bank.search`.

    `exact`: compare with every row instead of using the vector index. `hidden`: doc_ids that are left out. Raises
    BankError if `key` does not fit the table and ConfigError if `k` or `as_of` is invalid.
    """
    # 1. ids and scores
    key, visible = _checked_key(key, table.schema), _visible(k, as_of, hidden)
    with nullcontext() if exact else _reading_index(table, "vector"):
        nearest = _best(_key_query(table, key, visible, exact), "_distance", k)
    hits = _text_hits(table, text, visible, max(k, _BM25_HITS)) if text else {}
    # 2. the rows
    rows = _read_checked(table, memory_id_in({*nearest, *list(hits)[:k]}))
    similarity = pa.array(_cosine(rows["key"], key))
    rows = rows.select(_result_columns(rows)).append_column("similarity", similarity)
    return _ordered(_with_bm25(rows, hits), "similarity")


def full_text(
    table: LanceTable, *, text: str, k: int, as_of: datetime | None, hidden: Collection[str] = ()
) -> pa.Table:
    """The `k` best rows for `text`, without the documents `hidden`; see `Bank.full_text`."""
    hits = _text_hits(table, text, _visible(k, as_of, hidden), k)
    rows = _read_checked(table, memory_id_in(set(hits)))
    rows = rows.select(_result_columns(rows))
    return _ordered(_with_bm25(rows, hits), "bm25")


def documents(table: LanceTable, *, doc_ids: set[str]) -> pa.Table:
    """All memories of the latest versions of the documents `doc_ids`; see `Bank.documents`."""
    rows = _read_checked(table, col("doc_id").isin(map(lit, sorted(doc_ids))))
    return latest_versions(rows).select(_result_columns(rows))


def with_all_words(table: LanceTable, text: str) -> list[str]:
    """The memory_ids of all rows, superseded ones included, that have every word of `text`, best first."""
    with _reading_index(table, "full-text"):
        query = MatchQuery(text, "text", operator=FullTextOperator.AND)  # type: ignore[call-arg]
        found = table.search(query, query_type="fts")
        return list(_best(found.select(["memory_id", "_score"]), "_score", max(table.count_rows(), 1)))


def present(table: LanceTable, doc_ids: Collection[str]) -> set[str]:
    """Those of `doc_ids` that have a row."""
    if not doc_ids:
        return set()
    rows = _read(table, ["memory_id", "doc_id"], col("doc_id").isin(map(lit, sorted(doc_ids))))
    return set(rows["doc_id"].to_pylist())


def nearest(table: LanceTable, *, keys: np.ndarray, k: int, exact: bool) -> list[tuple[int, str]]:
    """The place of each key of `keys` (n, p) with the memory_ids of its `k` nearest rows; see `Bank.nearest`."""
    query = _key_query(table, keys, _visible(k, None), exact)
    with nullcontext() if exact else _reading_index(table, "vector"):
        hits = query.limit(k).to_arrow()
    places = hits["query_index"].to_pylist() if "query_index" in hits.column_names else [0] * hits.num_rows
    return list(zip(places, hits["memory_id"].to_pylist(), strict=True))


def probe_text_index(table: LanceTable, texts: Iterable[str]) -> None:
    """Search for all words of each of `texts`. Raises BankError if the full-text index is damaged."""
    for text in texts:
        _text_hits(table, text, _visible(1, None), 1)


def probe_key_index(table: LanceTable, key: np.ndarray) -> None:
    """Search for `key` (p,) through the vector index. Raises BankError if the index is damaged."""
    with _reading_index(table, "vector"):
        _best(_key_query(table, key, _visible(1, None), exact=False), "_distance", 1)


def read_content(table: LanceTable, memory_ids: set[str]) -> pa.Table:
    """The rows with these ids, whole and checked, without their checksums, sorted by memory_id."""
    rows = _read_checked(table, memory_id_in(memory_ids))
    return rows.select(content_schema(table.schema).names)


def read_rows(table: LanceTable, columns: list[str], memory_ids: set[str] | None = None) -> pa.Table:
    """`columns` of the rows with these ids (None: of all rows), sorted by memory_id."""
    return _read(table, columns, None if memory_ids is None else memory_id_in(memory_ids))


def memory_id_in(memory_ids: set[str]) -> Expr:
    """The condition that memory_id is one of `memory_ids`."""
    return col("memory_id").isin(map(lit, sorted(memory_ids)))


def _read(table: LanceTable, columns: list[str], condition: Expr | None) -> pa.Table:
    query = table.search().select(columns).limit(max(table.count_rows(), 1))
    if condition is not None:
        query = query.where(condition)
    return query.to_arrow().sort_by("memory_id")


def _read_checked(table: LanceTable, condition: Expr) -> pa.Table:
    """The rows that meet `condition`, with all columns, sorted by memory_id. Raises DamageError."""
    rows = _read(table, table.schema.names, condition)
    check_rows(rows, table.uri)
    return rows


def _result_columns(rows: pa.Table) -> list[str]:
    return [*_COLUMNS, *({"words"} & set(rows.column_names))]


def _checked_key(key: np.ndarray, schema: pa.Schema) -> np.ndarray:
    key, size = np.asarray(key, dtype=np.float64), schema.field("key").type.list_size
    if key.shape != (size,) or not np.isfinite(key).all() or not key.any():
        raise BankError(
            f"a search key of shape {key.shape} does not fit: it has to be {size} finite numbers, not all 0"
        )
    return key


def _visible(k: int, as_of: datetime | None, hidden: Collection[str] = ()) -> Expr:
    """The condition that a row is visible as of a date and not `hidden`; also checks the arguments of a search."""
    if k < 1:
        raise ConfigError(f"k is {k}: search for at least one memory")
    superseded_at = col("superseded_at")
    # Expr has no IS NULL. concat() is its only function that returns a value for null: the empty string.
    current = func("concat", superseded_at.cast("string")) == lit("")
    if hidden:
        return _visible(k, as_of) & ~col("doc_id").isin(map(lit, sorted(hidden)))
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
    # No upper limit on probes: few rows of the partitions nearest to the key may be visible as of the date.
    return query.minimum_nprobes(20).maximum_nprobes(0).refine_factor(4)


def _text_query(table: LanceTable, text: str, visible: Expr) -> LanceQueryBuilder:
    # LanceDB's annotations cover neither query objects here nor the defaults of the arguments.
    query = table.search(MatchQuery(text, "text"), query_type="fts")  # type: ignore[call-overload,call-arg]
    filtered: LanceQueryBuilder = query.select(["memory_id", "_score"]).where(visible)
    return filtered


def _text_hits(table: LanceTable, text: str, visible: Expr, k: int) -> dict[str, float]:
    """The best `k` memory_ids for the words of `text` with their BM25 scores, best first."""
    with _reading_index(table, "full-text"):
        return _best(_text_query(table, text, visible), "_score", k)


def _reading_index(table: LanceTable, kind: str) -> AbstractContextManager[None]:
    advice = "run `cmt bank optimize`, which builds it again"
    return translate_errors(f"the {kind} index of {table.uri} cannot be read", advice)


def _best(query: LanceQueryBuilder, score: str, k: int) -> dict[str, float]:
    """The best `k` memory_ids with their scores, best first; ties are ordered by memory_id.

    Which of several equal rows Lance returns depends on its files, so a tie at rank `k` is fetched completely.
    """
    sign, limit = (1.0 if score == "_distance" else -1.0), k + 16
    while True:
        hits = query.limit(limit).to_arrow()
        scores, names = hits[score].to_pylist(), hits["memory_id"].to_pylist()
        ranked = sorted((sign * value, name) for value, name in zip(scores, names, strict=True))
        if len(ranked) < limit or ranked[k - 1][0] != ranked[-1][0]:
            return {name: sign * value for value, name in ranked[:k]}
        limit *= 4


def _cosine(keys: pa.ChunkedArray, key: np.ndarray) -> np.ndarray:
    rows = key_matrix(keys).astype(np.float64)  # (n, p)
    # Row sums instead of a matrix product: BLAS may round a row by its position, so that equal keys would differ.
    cosine: np.ndarray = (rows * key).sum(axis=1) / np.sqrt((rows * rows).sum(axis=1) * (key * key).sum())  # (n,)
    return cosine


def _with_bm25(rows: pa.Table, hits: dict[str, float]) -> pa.Table:
    scores = [hits.get(name, 0.0) for name in rows["memory_id"].to_pylist()]
    return rows.append_column("bm25", pa.array(scores, pa.float64()))


def _ordered(rows: pa.Table, score: str) -> pa.Table:
    return rows.sort_by([(score, "descending"), ("memory_id", "ascending")])
