"""Search in a table of memories: nearest keys by cosine and best texts by BM25, as of a date.

A search reads row ids and scores first, then the selected rows, because a row holds kilobytes of
memory and text. It compares the rows with their checksums; DamageError names the first damaged one.
Filters are typed expressions; user text never becomes part of a query string.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr, col, func, lit
from lancedb.query import FullTextOperator, LanceQueryBuilder, LanceVectorQueryBuilder, MatchQuery
from lancedb.table import LanceTable

from cmt.bank.integrity import check_rows, content_schema
from cmt.bank.memory_table import MemoryTable
from cmt.bank.merge import versions_of
from cmt.bank.schema import TIMESTAMP, VERSION_COLUMNS, key_matrix, latest_versions, schema_value
from cmt.bank.tables import one_of, read_all, translate_errors
from cmt.common.arrow import is_in, rows_with, take
from cmt.errors import BankError, ConfigError, DamageError
from cmt.text.display import heading
from cmt.timeline import Version, in_memory, is_hidden, related

_SEEN = [
    "memory_id",
    "doc_id",
    "published_at",
    "superseded_at",
    "hidden",
]  # determine whether a row is visible
_COLUMNS = ["memory_id", "doc_id", "title", "published_at", "source", "supersedes", "text"]
_COLUMNS += ["memory", "n_vectors", "n_tokens"]
_PROBES = 40  # smallest number of partitions of the vector index to search
_KEYS = 256  # keys that `nearest` searches at once
_UNCONDITIONED = (
    1,
    8,
)  # multiples of the wanted rows to fetch from a large table until enough are visible
_LOOKUP = 4096  # values that are looked up at once


class _Hit(NamedTuple):
    """A row that a query found."""

    score: float
    memory_id: str
    row_id: int
    """Its position in this version of the table."""


class SearchableTable(MemoryTable):
    """The memories of one compressor to search. Searches leave out the documents
    `excluded_doc_ids`.
    """

    def search(
        self, *, key: np.ndarray, text: str | None, k: int, as_of: datetime | None
    ) -> pa.Table:
        """The `k` rows nearest to `key` (p,) and, with `text`, the `k` best for its words; most
        similar first.

        Columns: those of bank_schema that an answer needs, and two scores. `similarity` is the
        cosine of the keys. `bm25` is 0 if the row has no word of `text`; word statistics are those
        of the whole bank at any `as_of`. Only rows visible at `as_of` are returned: published by
        then and not yet superseded; None means now. Raises BankError if `key` does not fit and
        ConfigError if `as_of` has no time zone.
        """
        with self.reading():
            # 1. row ids and scores
            table, view = self.latest(), View(k, as_of, self.excluded_doc_ids)
            [key] = _checked_keys(table, [key])
            wanted = [_Wanted(view, key), *([_Wanted(view, text)] if text else [])]
            nearest, *rest = _best(table, wanted, self.is_large(table))
            hits = rest[0] if rest else {}
            if text and (others := [hit for name, hit in nearest.items() if name not in hits]):
                hits |= _text_scores(table, text, others)
            # 2. the rows
            return _with_bm25(_with_similarity(_take_checked(table, nearest | hits), key), hits)

    def search_each(
        self, *, keys: np.ndarray, texts: Sequence[str], k: int, as_of: Sequence[datetime]
    ) -> list[pa.Table]:
        """For each of `keys` (n, p), with its text and its date, the result of `search` without the
        column `bm25`.

        Takes a fraction of the time of n searches, and memory for up to 2·n·k rows.
        """
        with self.reading():
            table, views = self.latest(), [View(k, date, self.excluded_doc_ids) for date in as_of]
            checked = _checked_keys(table, keys)
            wanted = [*map(_Wanted, views, checked), *map(_Wanted, views, texts)]
            best = _best(table, wanted, self.is_large(table))
            found = [
                nearest | hits
                for nearest, hits in zip(best[: len(views)], best[len(views) :], strict=True)
            ]
            rows = _take_checked(table, {name: hit for hits in found for name, hit in hits.items()})
            each = zip(found, checked, strict=True)
            return [_with_similarity(rows_with(rows, "memory_id", hits), key) for hits, key in each]

    def full_text(self, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` best rows for the words of `text` by BM25, best first; like `search`, without
        `similarity`.
        """
        with self.reading():
            table = self.latest()
            [hits] = _best(
                table, [_Wanted(View(k, as_of, self.excluded_doc_ids), text)], self.is_large(table)
            )
            rows = _take_checked(table, hits)
            rows = _with_bm25(rows.select(_result_columns(rows)), hits)
            return rows.sort_by([("bm25", "descending"), ("memory_id", "ascending")])

    def memories(
        self, memory_ids: set[str], *, key: np.ndarray, as_of: datetime | None
    ) -> pa.Table:
        """The rows with these ids that are visible at `as_of`; like `search` for `key` (p,),
        without text.
        """
        with self.reading():
            view = View(1, as_of, self.excluded_doc_ids)
            rows = view.of(_read_checked(self.latest(), one_of("memory_id", memory_ids)))
            return _with_bm25(_with_similarity(rows, np.asarray(key, dtype=np.float64)), {})

    def later(self, memory_id: str, *, key: np.ndarray, k: int, as_of: datetime | None) -> pa.Table:
        """The memories most like `memory_id` that were published after it, at most k by key and k
        by words.

        The result is like that of `search` for `key` (p,), with the best matches of words first.
        """
        with self.reading():
            rows = _read_checked(self.latest(), one_of("memory_id", {memory_id}))
            if not len(rows):
                return _with_bm25(_with_similarity(rows, key), {})
            found = self.search(
                key=key_matrix(rows["key"])[0], text=rows["text"][0].as_py(), k=k, as_of=as_of
            )
            found = found.filter(pc.greater(found["published_at"], rows["published_at"][0]))
            found = found.sort_by(
                [("bm25", "descending"), ("similarity", "descending"), ("memory_id", "ascending")]
            )
            rows = self.memories(set(found["memory_id"].to_pylist()), key=key, as_of=as_of)
            order = pc.index_in(found["memory_id"], value_set=rows["memory_id"].combine_chunks())
            return rows.take(order.drop_null())  # a row may be gone since the search

    def documents(self, doc_ids: set[str]) -> pa.Table:
        """The rows of these documents as they are now, superseded ones included; like `search`,
        without scores.
        """
        with self.reading():
            rows = _read_checked(self.latest(), one_of("doc_id", doc_ids - self.excluded_doc_ids))
            return latest_versions(rows).select(_result_columns(rows))

    def memories_of(self, texts: Collection[str]) -> pa.Table:
        """The rows (bank_schema) of one version of a document for each heading and text; `texts`:
        SHA-256 of texts.
        """
        with self.reading():
            table = self.latest()
            columns = ["memory_id", "sha256", "title", "source", "doc_id", "published_at"]
            rows = (
                read_all(table, one_of("sha256", texts), columns).sort_by("memory_id")
                if texts
                else None
            )
            chosen: dict[tuple[str, str], tuple[str, datetime]] = {}
            memory_ids = set()
            for row in rows.to_pylist() if rows else ():
                version = row["doc_id"], row["published_at"]
                if (
                    chosen.setdefault(
                        (row["sha256"], heading(row["title"], row["source"])), version
                    )
                    == version
                ):
                    memory_ids.add(row["memory_id"])
            return read_content(table, memory_ids)

    def sample(self, n: int) -> list[dict[str, Any]]:
        """Text, title and source of up to `n` rows at even distances in the table; a row without a
        text is left out.
        """
        with self.reading():
            table = self.latest()
            rows = table.count_rows()
            offsets = [number * rows // n for number in range(n)] if rows > n else list(range(rows))
            found = table.take_offsets(offsets).select(["text", "title", "source"]).to_arrow()
            return [row for row in found.to_pylist() if row["text"] is not None]

    def with_all_words(self, text: str) -> list[str]:
        """The doc_ids of the documents that have every word of `text` in one memory, superseded
        ones included.

        Best first. A bank without texts has none.
        """
        with self.reading():
            table = self.latest()
            words = MatchQuery(text, "text", operator=FullTextOperator.AND)  # type: ignore[call-arg]
            query = table.search(words, query_type="fts").select(["memory_id", "_score"])
            found = _run(table, query.limit(max(table.count_rows(), 1)))
        found = found.sort_by([("_score", "descending"), ("memory_id", "ascending")])[
            "memory_id"
        ].to_pylist()
        rows = self.rows(["memory_id", "doc_id"], set(found))
        doc_ids = dict(zip(rows["memory_id"].to_pylist(), rows["doc_id"].to_pylist(), strict=True))
        return list(dict.fromkeys(doc_ids[memory_id] for memory_id in found))

    def nearest(self, keys: np.ndarray, *, k: int) -> dict[str, set[int]]:
        """memory_id → the indices of `keys` (n, p) that have it among their `k` nearest current
        memories.
        """
        found: dict[str, set[int]] = {}
        with self.reading():
            table = self.latest()
            large = self.is_large(table)
            for start in range(0, len(keys), _KEYS):
                query = _nearest_keys(table, keys[start : start + _KEYS], large, any_partition=True)
                query = (
                    query.where(_condition([View(k, None)]))
                    .select(["memory_id", "_distance"])
                    .limit(k)
                )
                hits = _run(table, query, large=large)
                indices = (
                    hits["query_index"].to_pylist()
                    if "query_index" in hits.column_names
                    else [0] * len(hits)
                )
                for index, memory_id in zip(indices, hits["memory_id"].to_pylist(), strict=True):
                    found.setdefault(memory_id, set()).add(start + index)
        return found


def probe_indexes(
    table: LanceTable, *, texts: Iterable[str] = (), keys: Iterable[np.ndarray] = ()
) -> None:
    """Search for the words of each of `texts` and for each of `keys` (p,). Raises BankError if an
    index is damaged.
    """
    view = View(1, None)
    for wanted in (*(_Wanted(view, text) for text in texts), *(_Wanted(view, key) for key in keys)):
        _fetch(table, [wanted], 16, conditioned=True, large=True)


def related_versions(
    table: LanceTable, doc_ids: Collection[str], others: Collection[Version]
) -> pa.Table:
    """The stored rows (VERSION_COLUMNS) on which a change of the documents `doc_ids` depends.

    `others`: versions that the table lacks, because they are being written or stay unbanked. A
    stored version may name one of these; its document counts as changed. Other rows cost no time.
    """
    of_others = in_memory(others)
    found = [_lookup(table, supersedes={v.doc_id for v in others} - set(doc_ids))]

    def find(names: Collection[str], texts: Collection[str]) -> Iterator[Version]:
        found.append(_lookup(table, doc_id=names, supersedes=names, sha256=texts))
        yield from versions_of(found[-1])
        yield from of_others(names, texts)

    # 1. the documents, and the documents that supersede a version of `others`
    documents = {
        version.doc_id for version in related({*doc_ids, *found[0]["doc_id"].to_pylist()}, find)
    }
    # 2. their rows, each once
    rows = rows_with(pa.concat_tables(found), "doc_id", documents)
    first = {name: row for row, name in reversed(list(enumerate(rows["memory_id"].to_pylist())))}
    return take(rows, sorted(first.values()))


def read_content(table: LanceTable, memory_ids: set[str]) -> pa.Table:
    """The rows with these ids, whole and checked, without their checksums, sorted by memory_id."""
    rows = _read_checked(table, one_of("memory_id", memory_ids))
    return rows.select(content_schema(table.schema).names)


def _lookup(table: LanceTable, **values: Collection[str]) -> pa.Table:
    """VERSION_COLUMNS of the rows that have one of the `values` in their column, by the index of
    that column.
    """
    names = {column: sorted(wanted) for column, wanted in values.items()}
    limit = max(table.count_rows(), 1)
    found = [pa.schema([table.schema.field(name) for name in VERSION_COLUMNS]).empty_table()]
    for start in range(0, max(map(len, names.values())), _LOOKUP):
        parts = {column: wanted[start : start + _LOOKUP] for column, wanted in names.items()}
        conditions = [one_of(column, part) for column, part in parts.items() if part]
        query = table.search().select(VERSION_COLUMNS).where(reduce(or_, conditions))
        found.append(query.limit(limit).to_arrow().cast(found[0].schema))
    return pa.concat_tables(found)


def _read_checked(table: LanceTable, condition: Expr) -> pa.Table:
    """The rows that meet `condition`, with all columns, sorted by memory_id. Raises DamageError."""
    rows = read_all(table, condition, table.schema.names).sort_by("memory_id")
    check_rows(rows, table)
    return rows


def _take_checked(table: LanceTable, hits: Mapping[str, _Hit]) -> pa.Table:
    """The rows of `hits`, with all columns, sorted by memory_id. Raises DamageError.

    The rows are at the row ids of the hits unless the table has changed since. The compressor, the
    same in all rows, is taken from the schema: Lance decodes a whole page of a constant column for
    a row.
    """
    if not hits:
        return table.schema.empty_table()
    # 1. by row id, or by memory_id after a change
    schema = table.schema
    row_ids = [hit.row_id for hit in hits.values()]
    rows = (
        table.take_row_ids(row_ids)
        .select([name for name in schema.names if name != "compressor"])
        .to_arrow()
    )
    if set(rows["memory_id"].to_pylist()) != hits.keys():
        return _read_checked(table, one_of("memory_id", set(hits)))
    # 2. complete and checked
    index = schema.get_field_index("compressor")
    compressor = pa.array([schema_value(schema, "compressor")] * len(rows), pa.string())
    rows = rows.add_column(index, schema.field(index), compressor).sort_by("memory_id")
    check_rows(rows, table)
    return rows


def _result_columns(rows: pa.Table) -> list[str]:
    return [*_COLUMNS, *({"words"} & set(rows.column_names))]


class View:
    """The `k` best of the rows that are visible as of a date, without the documents `excluded`.

    Raises ConfigError if `as_of` has no time zone.
    """

    def __init__(self, k: int, as_of: datetime | None, excluded: Collection[str] = ()) -> None:
        if as_of is not None and as_of.tzinfo is None:
            raise ConfigError(
                f"the date {as_of.isoformat()} has no time zone: write {as_of.isoformat()}Z for UTC"
            )
        self.k, self.as_of, self.excluded = k, as_of, sorted(excluded)

    def of(self, rows: pa.Table) -> pa.Table:
        """The visible ones of `rows`, which have the columns _SEEN."""
        visible = pc.is_null(rows["superseded_at"])
        if self.as_of is not None:
            as_of = pa.scalar(self.as_of, TIMESTAMP)
            later = pc.fill_null(pc.greater(rows["superseded_at"], as_of), False)
            visible = pc.and_(pc.less_equal(rows["published_at"], as_of), pc.or_(visible, later))
            if rows["hidden"].null_count < len(rows):
                hidden = [is_hidden(gaps, self.as_of) for gaps in rows["hidden"].to_pylist()]
                visible = pc.and_(visible, pc.invert(pa.array(hidden, pa.bool_())))
        return rows.filter(pc.and_(visible, pc.invert(is_in(rows["doc_id"], self.excluded))))


def _condition(views: Sequence[View]) -> Expr:
    """A condition that every row visible in one of `views` meets; they exclude the same documents.

    Of one view, the other rows that meet it are those alone that are hidden for a time.
    """
    superseded_at = col("superseded_at")
    dates = [view.as_of for view in views if view.as_of is not None]
    # Expr has no IS NULL. concat() is its only function that returns a value for null: the empty
    # string.
    visible = func("concat", superseded_at.cast("string")) == lit("")
    if dates:
        visible = (col("published_at") <= lit(max(dates))) & (
            visible | (superseded_at > lit(min(dates)))
        )
    return visible & ~one_of("doc_id", views[0].excluded) if views[0].excluded else visible


class _Wanted(NamedTuple):
    """The rows of `view` nearest to a key (p,), or those best for the words of a text."""

    view: View
    value: np.ndarray | str

    @property
    def score(self) -> str:
        """The column of the score: distance of the keys, best if small, or score of the words."""
        return "_score" if isinstance(self.value, str) else "_distance"

    def ranked(self, found: pa.Table) -> list[_Hit]:
        """The rows `found`, best first; ties are ordered by memory_id."""
        sign = -1.0 if isinstance(self.value, str) else 1.0
        columns = (found[name].to_pylist() for name in (self.score, "memory_id", "_rowid"))
        hits = (_Hit(*values) for values in zip(*columns, strict=True))
        return sorted(hits, key=lambda hit: (sign * hit.score, hit.memory_id))


def _nearest_keys(
    table: LanceTable, keys: np.ndarray, large: bool, *, any_partition: bool = False
) -> LanceVectorQueryBuilder:
    """A search for the rows nearest to each of `keys` (n, p); `any_partition`: search partitions
    until it finds some.

    Of several keys, the column query_index has the index.
    """
    builder = table.search(keys.astype(np.float32), vector_column_name="key", query_type="vector")
    builder = builder.distance_type("cosine")
    if not large:
        return builder.bypass_vector_index()
    return (
        builder.minimum_nprobes(_PROBES)
        .maximum_nprobes(0 if any_partition else _PROBES)
        .refine_factor(2)
    )


def _best_texts(table: LanceTable, text: str) -> LanceQueryBuilder:
    """A search by BM25 for the rows with the best texts for the words of `text`."""
    # LanceDB's annotations cover neither query objects here nor the defaults of the arguments.
    return table.search(MatchQuery(text, "text"), query_type="fts")  # type: ignore[call-overload,call-arg,no-any-return]


def _run(table: LanceTable, query: LanceQueryBuilder, *, large: bool = True) -> pa.Table:
    """The result of a search. Raises BankError if its index cannot be read; a small table has no
    vector index.
    """
    kind = "vector" if isinstance(query, LanceVectorQueryBuilder) else "full-text"
    try:
        return query.to_arrow()
    except BaseException:  # some damage makes Lance panic
        if kind == "vector" and not large:
            raise
        advice = "run `cmt bank optimize`, which builds it again"
        with translate_errors(f"the {kind} index of {table.uri} cannot be read", advice):
            raise


def _text_scores(table: LanceTable, text: str, hits: Sequence[_Hit]) -> dict[str, _Hit]:
    """The `hits` that have a word of `text`, with their BM25 scores, by memory_id."""
    names = {hit.row_id: hit.memory_id for hit in hits}
    query = (
        _best_texts(table, text).where(one_of("memory_id", set(names.values()))).select(["_score"])
    )
    found = _run(table, query.with_row_id(True).limit(len(hits)))
    scores = zip(found["_score"].to_pylist(), found["_rowid"].to_pylist(), strict=True)
    return {names[row_id]: _Hit(score, names[row_id], row_id) for score, row_id in scores}


def _best(table: LanceTable, wanted: Sequence[_Wanted], large: bool) -> list[dict[str, _Hit]]:
    """For each of `wanted`, keys before texts, its best rows by memory_id, best first; ties are
    ordered by memory_id.

    Which of several equal rows Lance returns depends on its files, so a tie at the last rank is
    fetched completely. Raises DamageError if a row occurs twice.
    """
    best: dict[int, dict[str, _Hit]] = {}
    k = wanted[0].view.k if wanted else 0
    for limit, conditioned in _attempts(k + 16, large or len(wanted) > 2):
        unfinished = [index for index in range(len(wanted)) if index not in best]
        if not unfinished:
            break
        several = _fetch(
            table,
            [wanted[index] for index in unfinished],
            limit,
            conditioned=conditioned,
            large=large,
        )
        for index, found in zip(unfinished, several, strict=True):
            view, ranked = wanted[index].view, wanted[index].ranked
            visible = ranked(view.of(found))
            # all rows of the table, or more than the tie at rank k
            if len(found) < limit or (
                len(visible) >= k and visible[k - 1].score != ranked(found)[-1].score
            ):
                best[index] = {hit.memory_id: hit for hit in visible[:k]}
                if twice := [hit for hit in visible[:k] if best[index][hit.memory_id] != hit]:
                    problem = f"memory {twice[0].memory_id!r} occurs twice in the bank"
                    raise DamageError(f"{problem}: run `cmt verify`, which says how to repair it")
    return [best[index] for index in range(len(wanted))]


def _attempts(limit: int, unconditioned: bool) -> Iterator[tuple[int, bool]]:
    """Numbers of rows to fetch, and whether they have to meet the condition of the view, until
    enough are visible.

    Lance evaluates a condition for every row, so in a large table and for many searches the best
    rows are fetched without it first.
    """
    for factor in _UNCONDITIONED if unconditioned else ():
        yield factor * limit, False
    while True:
        yield limit, True
        limit *= 4


def _fetch(
    table: LanceTable, wanted: Sequence[_Wanted], limit: int, *, conditioned: bool, large: bool
) -> list[pa.Table]:
    """For each of `wanted`, keys before texts, the best `limit` rows, with the columns _SEEN, the
    score and _rowid.

    `conditioned`: only rows that meet the condition of the views. Lance takes longer to read
    columns as a part of a search than to find row ids and then read these rows, and hardly longer
    to search for many keys than for one.
    """
    keys = [one for one in wanted if not isinstance(one.value, str)]
    groups = [
        group for group in (keys, *([one] for one in wanted if isinstance(one.value, str))) if group
    ]
    # 1. the row ids, those of all keys together
    queries, row_ids_of = [], list[pa.Table]()
    for group in groups:
        text = group[0].value
        if isinstance(text, str):
            query = _best_texts(table, text)
        else:
            query = _nearest_keys(table, np.stack([one.value for one in group]), large)
        if conditioned:
            query.where(_condition([one.view for one in group]))
            if isinstance(query, LanceVectorQueryBuilder):
                query.maximum_nprobes(
                    0
                )  # few rows of the partitions nearest to the key may meet it
        found = _run(
            table, query.select([group[0].score]).with_row_id(True).limit(limit), large=large
        )
        row_ids_of += _split(found, len(group))
        queries.append(query)
    # 2. the columns, of all queries at once in the order in which Lance reads them
    row_ids = sorted({row_id for found in row_ids_of for row_id in found["_rowid"].to_pylist()})
    rows = table.take_row_ids(row_ids).select(_SEEN).with_row_id().to_arrow()
    if rows["_rowid"].to_pylist() == row_ids:
        at = [
            pc.index_in(found["_rowid"], value_set=rows["_rowid"].combine_chunks())
            for found in row_ids_of
        ]
        return [
            rows.take(order).append_column(one.score, found[one.score])
            for one, found, order in zip(wanted, row_ids_of, at, strict=True)
        ]
    # 3. or query by query, if rows were moved meanwhile
    return [
        part
        for query, group in zip(queries, groups, strict=True)
        for part in _split(query.select([*_SEEN, group[0].score]).to_arrow(), len(group))
    ]


def _split(found: pa.Table, count: int) -> list[pa.Table]:
    """The rows that a query found for each of its `count` keys."""
    if "query_index" not in found.column_names:
        return [found] * count
    return [found.filter(pc.equal(found["query_index"], index)) for index in range(count)]


def _checked_keys(table: LanceTable, keys: Iterable[np.ndarray]) -> list[np.ndarray]:
    """`keys` as float64. Raises BankError if one does not fit the table."""
    size = table.schema.field("key").type.list_size
    checked = [np.asarray(key, dtype=np.float64) for key in keys]
    for key in checked:
        if key.shape != (size,) or not np.isfinite(key).all() or not key.any():
            raise BankError(
                f"a search key of shape {key.shape} does not fit: it must have {size} finite numbers, not all 0"
            )
    return checked


def _with_similarity(rows: pa.Table, key: np.ndarray) -> pa.Table:
    """The columns of a result and the cosines to `key` (p,); most similar first."""
    # Row sums instead of a matrix product: BLAS may round a row by its position, so that equal keys
    # would differ.
    keys = key_matrix(rows["key"]).astype(np.float64)  # (n, p)
    cosine = (keys * key).sum(axis=1) / np.sqrt(
        (keys * keys).sum(axis=1) * (key * key).sum()
    )  # (n,)
    rows = rows.select(_result_columns(rows)).append_column("similarity", pa.array(cosine))
    return rows.sort_by([("similarity", "descending"), ("memory_id", "ascending")])


def _with_bm25(rows: pa.Table, hits: Mapping[str, _Hit]) -> pa.Table:
    """`rows` with the scores of `hits`."""
    scores = [hits[name].score if name in hits else 0.0 for name in rows["memory_id"].to_pylist()]
    return rows.append_column("bm25", pa.array(scores, pa.float64()))
