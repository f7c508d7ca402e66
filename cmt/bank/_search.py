"""Search in a table of memories: nearest keys by cosine and best texts by BM25, as of a date.

A search ranks row ids (cmt.bank._ranking), then reads the selected rows, because a row holds
kilobytes of memory and text. It compares the rows with their checksums; DamageError names the first
damaged one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.query import FullTextOperator, MatchQuery
from lancedb.table import LanceTable

from cmt.bank._lookup import read_checked, result_columns, take_checked
from cmt.bank._memory_table import MemoryTable
from cmt.bank._ranking import (
    Hits,
    View,
    Wanted,
    best,
    condition,
    nearest_keys,
    run,
    text_scores,
)
from cmt.bank.schema import key_matrix
from cmt.bank.tables import one_of
from cmt.common.arrow import rows_with
from cmt.errors import BankError

_KEYS = 256  # keys that `nearest` searches at once


class SearchableTable(MemoryTable):
    """The memories of one compressor to search. Searches leave out the documents
    `excluded_doc_ids`.
    """

    def search(
        self,
        *,
        key: np.ndarray,
        text: str | None,
        k: int,
        as_of: datetime | None,
        past: bool = False,
        since: datetime | None = None,
    ) -> pa.Table:
        """The `k` rows nearest to `key` (p,) and, with `text`, the `k` best for its words; most
        similar first.

        Columns: those of bank_schema that an answer needs, and two scores. `similarity` is the
        cosine of the keys. `bm25` is 0 if the row has no word of `text`; word statistics are those
        of the whole bank at any `as_of`. Only rows visible at `as_of` are returned: published by
        then and not yet superseded; None means now. `past`: also those superseded by then.
        `since`: only those published then or later. Raises BankError if `key` does not fit and
        ConfigError if a date has no time zone.
        """
        with self.reading():
            table = self.latest()
            view = View(k, as_of, self.excluded_doc_ids, past=past, since=since)
            [key] = _checked_keys(table, [key])
            rows, by_words = self._find(table, view, key, text)
            return _with_bm25(_with_similarity(rows, key), by_words)

    def search_each(
        self, *, keys: np.ndarray, texts: Sequence[str], k: int, as_of: Sequence[datetime]
    ) -> list[pa.Table]:
        """For each of `keys` (n, p), with its text and its date, the result of `search` without the
        column `bm25`.

        Takes a fraction of the time of n searches, and memory for up to 2·n·k rows.
        """
        with self.reading():
            # 1. Row ids and scores.
            table, views = self.latest(), [View(k, date, self.excluded_doc_ids) for date in as_of]
            checked = _checked_keys(table, keys)
            wanted = [*map(Wanted, views, checked), *map(Wanted, views, texts)]
            hits = best(table, wanted, large=self.is_large(table))
            nearest, by_words = hits[: len(views)], hits[len(views) :]
            hits_each = [by_key | words for by_key, words in zip(nearest, by_words, strict=True)]
            # 2. The rows of all searches at once.
            together: Hits = {}
            for hits_of_one in hits_each:
                together |= hits_of_one
            rows = take_checked(table, together)
            return [
                _with_similarity(rows_with(rows, "memory_id", hits_of_one), key)
                for hits_of_one, key in zip(hits_each, checked, strict=True)
            ]

    def full_text(self, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` best rows for the words of `text` by BM25, best first; like `search`, without
        `similarity`.
        """
        with self.reading():
            table, view = self.latest(), View(k, as_of, self.excluded_doc_ids)
            [hits] = best(table, [Wanted(view, text)], large=self.is_large(table))
            rows = take_checked(table, hits)
            rows = _with_bm25(rows.select(result_columns(rows)), hits)
            return rows.sort_by([("bm25", "descending"), ("memory_id", "ascending")])

    def memories(
        self, memory_ids: set[str], *, key: np.ndarray, as_of: datetime | None, past: bool = False
    ) -> pa.Table:
        """The rows with these ids that are visible at `as_of`; like `search` for `key` (p,),
        without text. `past`: as in `search`.
        """
        with self.reading():
            view = View(1, as_of, self.excluded_doc_ids, past=past)
            rows = view.of(read_checked(self.latest(), one_of("memory_id", memory_ids)))
            return _with_bm25(_with_similarity(rows, np.asarray(key, dtype=np.float64)), {})

    def later(self, memory_id: str, *, key: np.ndarray, k: int, as_of: datetime | None) -> pa.Table:
        """The memories most like `memory_id` that were published after it, at most k by key and k
        by words.

        The result is like that of `search` for `key` (p,), with the best matches of words first.
        """
        with self.reading():
            table, view = self.latest(), View(k, as_of, self.excluded_doc_ids)
            key = np.asarray(key, dtype=np.float64)
            # 1. Search for the memory itself.
            memory = read_checked(table, one_of("memory_id", {memory_id}))
            if not len(memory):
                return _with_bm25(_with_similarity(memory, key), {})
            [own_key] = _checked_keys(table, key_matrix(memory["key"]))
            rows, by_words = self._find(table, view, own_key, memory["text"][0].as_py())
            # 2. Keep what was published later, in the order of its words.
            rows = rows.filter(pc.greater(rows["published_at"], memory["published_at"][0]))
            similar = _with_bm25(_with_similarity(rows, own_key), by_words).sort_by(
                [("bm25", "descending"), ("similarity", "descending"), ("memory_id", "ascending")]
            )
            # 3. The same rows with their similarity to `key`.
            rows = _with_bm25(_with_similarity(rows, key), {})
            order = pc.index_in(similar["memory_id"], value_set=rows["memory_id"].combine_chunks())
            return rows.take(order)

    def with_all_words(self, text: str) -> list[str]:
        """The doc_ids of the documents that have every word of `text` in one memory, superseded
        ones included.

        Best first. A bank without texts has none.
        """
        with self.reading():
            table = self.latest()
            words = MatchQuery(text, "text", operator=FullTextOperator.AND)  # type: ignore[call-arg]
            query = table.search(words, query_type="fts").select(["memory_id", "_score"])
            hits = run(table, query.limit(max(table.count_rows(), 1)))
        hits = hits.sort_by([("_score", "descending"), ("memory_id", "ascending")])
        memory_ids = hits["memory_id"].to_pylist()
        named = self.rows(["memory_id", "doc_id"], set(memory_ids))
        doc_ids = dict(
            zip(named["memory_id"].to_pylist(), named["doc_id"].to_pylist(), strict=True)
        )
        return list(dict.fromkeys(doc_ids[memory_id] for memory_id in memory_ids))

    def nearest(self, keys: np.ndarray, *, k: int) -> dict[str, set[int]]:
        """memory_id → the indices of `keys` (n, p) that have it among their `k` nearest current
        memories.
        """
        indices_of: dict[str, set[int]] = {}
        with self.reading():
            table = self.latest()
            large = self.is_large(table)
            for start in range(0, len(keys), _KEYS):
                part = keys[start : start + _KEYS]
                query = nearest_keys(table, part, large=large, any_partition=True)
                query = query.where(condition([View(k, None)])).select(["memory_id", "_distance"])
                hits = run(table, query.limit(k), large=large)
                indices = [0] * len(hits)
                if "query_index" in hits.column_names:
                    indices = hits["query_index"].to_pylist()
                for index, memory_id in zip(indices, hits["memory_id"].to_pylist(), strict=True):
                    indices_of.setdefault(memory_id, set()).add(start + index)
        return indices_of

    def _find(
        self, table: LanceTable, view: View, key: np.ndarray, text: str | None
    ) -> tuple[pa.Table, Hits]:
        """The rows of a search, with all columns, and the hits of the words."""
        # 1. Row ids and scores.
        wanted = [Wanted(view, key)] + ([Wanted(view, text)] if text else [])
        nearest, *of_text = best(table, wanted, large=self.is_large(table))
        # 2. The score of the words also for rows that only their key found.
        by_words: Hits = {}
        if text:
            [by_words] = of_text
            others = [hit for name, hit in nearest.items() if name not in by_words]
            if others:
                by_words = by_words | text_scores(table, text, others)
        # 3. The rows.
        return take_checked(table, nearest | by_words), by_words


def _checked_keys(table: LanceTable, keys: Iterable[np.ndarray]) -> list[np.ndarray]:
    """`keys` as float64. Raises BankError if one does not fit the table."""
    size = table.schema.field("key").type.list_size
    checked = [np.asarray(key, dtype=np.float64) for key in keys]
    for key in checked:
        if key.shape != (size,) or not np.isfinite(key).all() or not key.any():
            raise BankError(
                f"a search key of shape {key.shape} does not fit: it must have {size} finite "
                "numbers, not all 0"
            )
    return checked


def _with_similarity(rows: pa.Table, key: np.ndarray) -> pa.Table:
    """The columns of a result and the cosines to `key` (p,); most similar first."""
    # Row sums instead of a matrix product: BLAS may round a row by its position, so that equal keys
    # would differ.
    keys = key_matrix(rows["key"]).astype(np.float64)  # (n, p)
    lengths = np.sqrt((keys * keys).sum(axis=1) * (key * key).sum())  # (n,)
    cosine = (keys * key).sum(axis=1) / lengths  # (n,)
    rows = rows.select(result_columns(rows)).append_column("similarity", pa.array(cosine))
    return rows.sort_by([("similarity", "descending"), ("memory_id", "ascending")])


def _with_bm25(rows: pa.Table, hits: Hits) -> pa.Table:
    """`rows` with the scores of `hits`."""
    scores = [hits[name].score if name in hits else 0.0 for name in rows["memory_id"].to_pylist()]
    return rows.append_column("bm25", pa.array(scores, pa.float64()))
