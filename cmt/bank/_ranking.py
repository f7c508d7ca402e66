"""Ranking: the best rows of a table for a key or for the words of a text, as of a date.

    Wanted          k rows for a key, or for words, that are visible in a View
       │
    attempts        fetch 1 and 8 times (k + 16) rows of a large table, without a condition;
       │            then with the condition of the views, 4 times as many in each further attempt
    fetch           1. LanceDB: row ids and scores; one query for all keys, one for each text
       │            2. the columns that a view needs, of all row ids at once
    View.of         drop the rows that the date hides: the condition lets some through
       │
    k best          in the order (score, memory_id); accepted if no row that was not fetched can
                    share the score at rank k, otherwise the next attempt

Filters are typed expressions; user text never becomes part of a query string.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr, col, func, lit
from lancedb.query import LanceQueryBuilder, LanceVectorQueryBuilder, MatchQuery
from lancedb.table import LanceTable

from cmt.bank.schema import TIMESTAMP
from cmt.bank.tables import one_of, translate_errors
from cmt.common.arrow import is_in
from cmt.errors import ConfigError, DamageError
from cmt.timeline import is_hidden

_MARGIN = 16  # rows to fetch in addition to the wanted ones
_UNCONDITIONED = (1, 8)  # multiples of the rows to fetch without a condition
_GROWTH = 4  # factor of the rows to fetch with a condition, from attempt to attempt
_PROBES = 40  # smallest number of partitions of the vector index to search
# the columns that determine whether a row is visible
_SEEN = ["memory_id", "doc_id", "published_at", "superseded_at", "hidden"]


class Hit(NamedTuple):
    """A row that a query found."""

    score: float
    memory_id: str
    row_id: int
    """Its position in this version of the table."""


Hits = dict[str, Hit]
"""By memory_id, best first."""


class View:
    """The `k` best of the rows that are visible as of a date, without the documents `excluded`.

    `past`: include memories that were visible at an earlier date. `since`: only memories published
    then or later. Raises ConfigError if a date has no time zone.
    """

    def __init__(
        self,
        k: int,
        as_of: datetime | None,
        excluded: Collection[str] = (),
        *,
        past: bool = False,
        since: datetime | None = None,
    ) -> None:
        for day in (as_of, since):
            if day is not None and day.tzinfo is None:
                date = day.isoformat()
                raise ConfigError(f"the date {date} has no time zone: write {date}Z for UTC")
        self.k, self.as_of, self.excluded = k, as_of, sorted(excluded)
        self.past, self.since = past, since

    def of(self, rows: pa.Table) -> pa.Table:
        """The visible ones of `rows`, which have the columns _SEEN."""
        visible = pc.is_null(rows["superseded_at"])
        if self.past:
            once = pc.greater(rows["superseded_at"], rows["published_at"])
            visible = pc.or_(visible, pc.fill_null(once, False))
            if self.as_of is not None:
                as_of = pa.scalar(self.as_of, TIMESTAMP)
                visible = pc.and_(visible, pc.less_equal(rows["published_at"], as_of))
        elif self.as_of is not None:
            as_of = pa.scalar(self.as_of, TIMESTAMP)
            later = pc.fill_null(pc.greater(rows["superseded_at"], as_of), False)
            visible = pc.and_(pc.less_equal(rows["published_at"], as_of), pc.or_(visible, later))
            if rows["hidden"].null_count < len(rows):
                hidden = [is_hidden(gaps, self.as_of) for gaps in rows["hidden"].to_pylist()]
                visible = pc.and_(visible, pc.invert(pa.array(hidden, pa.bool_())))
        if self.since is not None:
            since = pa.scalar(self.since, TIMESTAMP)
            visible = pc.and_(visible, pc.greater_equal(rows["published_at"], since))
        if self.excluded:
            visible = pc.and_(visible, pc.invert(is_in(rows["doc_id"], self.excluded)))
        return rows.filter(visible)


class Wanted(NamedTuple):
    """The rows of `view` nearest to a key (p,), or those best for the words of a text."""

    view: View
    value: np.ndarray | str

    @property
    def score(self) -> str:
        """The column of the score: distance of the keys, best if small, or score of the words."""
        return "_score" if isinstance(self.value, str) else "_distance"

    def ranked(self, found: pa.Table) -> list[Hit]:
        """The rows `found`, best first; ties are ordered by memory_id."""
        sign = -1.0 if isinstance(self.value, str) else 1.0
        columns = (found[name].to_pylist() for name in (self.score, "memory_id", "_rowid"))
        hits = (Hit(*values) for values in zip(*columns, strict=True))
        return sorted(hits, key=lambda hit: (sign * hit.score, hit.memory_id))


def best(table: LanceTable, wanted: Sequence[Wanted], *, large: bool) -> list[Hits]:
    """The best rows for each of `wanted`, whose views have the same `k` and excluded documents.

    All keys come before all texts. `large`: the table has a vector index. Raises DamageError if a
    row occurs twice.
    """
    if not wanted:
        return []
    first = wanted[0].view.k + _MARGIN
    hits_of: dict[int, Hits] = {}
    for limit, conditioned in _attempts(first, large or len(wanted) > 2):
        missing = [index for index in range(len(wanted)) if index not in hits_of]
        if not missing:
            break
        still_wanted = [wanted[index] for index in missing]
        tables = _fetch(table, still_wanted, limit, conditioned=conditioned, large=large)
        for index, rows in zip(missing, tables, strict=True):
            hits = _k_best(wanted[index], rows, limit)
            if hits is not None:
                hits_of[index] = hits
    return [hits_of[index] for index in range(len(wanted))]


def text_scores(table: LanceTable, text: str, hits: Sequence[Hit]) -> Hits:
    """The `hits` that have a word of `text`, with their BM25 scores."""
    names = {hit.row_id: hit.memory_id for hit in hits}
    query = _best_texts(table, text).where(one_of("memory_id", set(names.values())))
    rows = run(table, query.select(["_score"]).with_row_id(True).limit(len(hits)))
    scores = zip(rows["_score"].to_pylist(), rows["_rowid"].to_pylist(), strict=True)
    return {names[row_id]: Hit(score, names[row_id], row_id) for score, row_id in scores}


def probe_indexes(
    table: LanceTable, *, texts: Iterable[str] = (), keys: Iterable[np.ndarray] = ()
) -> None:
    """Search for the words of each of `texts` and for each of `keys` (p,). Raises BankError if an
    index is damaged.
    """
    view = View(1, None)
    values: list[np.ndarray | str] = [*texts, *keys]
    for value in values:
        _fetch(table, [Wanted(view, value)], _MARGIN, conditioned=True, large=True)


def condition(views: Sequence[View]) -> Expr:
    """A condition that every row visible in one of `views` meets; they exclude the same documents,
    all or none have `past`, and all have the same `since`.

    For a single view, only temporarily hidden rows also match.
    """
    superseded_at = col("superseded_at")
    dates = [view.as_of for view in views if view.as_of is not None]
    # Expr has no IS NULL. concat() is its only function that returns a value for null: the empty
    # string.
    visible = func("concat", superseded_at.cast("string")) == lit("")
    if views[0].past:
        visible = visible | (superseded_at > col("published_at"))
        if dates:
            visible = visible & (col("published_at") <= lit(max(dates)))
    elif dates:
        visible = (col("published_at") <= lit(max(dates))) & (
            visible | (superseded_at > lit(min(dates)))
        )
    if views[0].since is not None:
        visible = visible & (col("published_at") >= lit(views[0].since))
    return visible & ~one_of("doc_id", views[0].excluded) if views[0].excluded else visible


def nearest_keys(
    table: LanceTable, keys: np.ndarray, *, large: bool, any_partition: bool = False
) -> LanceVectorQueryBuilder:
    """A search for the rows nearest to each of `keys` (n, p); `any_partition`: search partitions
    until it finds some.

    Of several keys, the column query_index has the index.
    """
    builder = table.search(keys.astype(np.float32), vector_column_name="key", query_type="vector")
    builder = builder.distance_type("cosine")
    if not large:
        return builder.bypass_vector_index()
    most = 0 if any_partition else _PROBES  # 0: any number
    return builder.minimum_nprobes(_PROBES).maximum_nprobes(most).refine_factor(2)


def run(table: LanceTable, query: LanceQueryBuilder, *, large: bool = True) -> pa.Table:
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


class _Query(NamedTuple):
    """A query of LanceDB for the rows of all keys, or of one text."""

    builder: LanceQueryBuilder
    wanted: list[Wanted]

    def run(self, table: LanceTable, columns: Sequence[str], *, large: bool) -> list[pa.Table]:
        """The rows found for each of `wanted`, with `columns`, the score and _rowid."""
        score = self.wanted[0].score
        found = run(table, self.builder.select([*columns, score]), large=large)
        if "query_index" not in found.column_names:
            return [found] * len(self.wanted)
        count = len(self.wanted)
        return [found.filter(pc.equal(found["query_index"], index)) for index in range(count)]


def _attempts(limit: int, unconditioned: bool) -> Iterator[tuple[int, bool]]:
    """Numbers of rows to fetch, and whether they have to meet the condition of the view.

    Lance evaluates a condition for every row, so in a large table and for many searches the best
    rows are fetched without it first.
    """
    for factor in _UNCONDITIONED if unconditioned else ():
        yield factor * limit, False
    while True:
        yield limit, True
        limit *= _GROWTH


def _k_best(wanted: Wanted, found: pa.Table, limit: int) -> Hits | None:
    """The k best of the rows `found`, at most `limit`; None if others might belong to them.

    Which of several equal rows Lance returns depends on its files, so a tie at rank k has to be
    complete. Raises DamageError if a row occurs twice.
    """
    k, visible = wanted.view.k, wanted.ranked(wanted.view.of(found))
    # 1. Either these are all rows of the table, or more than the tie at rank k.
    if len(found) >= limit:
        last = wanted.ranked(found)[-1]
        if len(visible) < k or visible[k - 1].score == last.score:
            return None
    # 2. Each row once.
    hits = {hit.memory_id: hit for hit in visible[:k]}
    for hit in visible[:k]:
        if hits[hit.memory_id] != hit:
            raise DamageError(
                f"memory {hit.memory_id!r} occurs twice in the bank: run `cmt verify`, which says "
                "how to repair it"
            )
    return hits


def _fetch(
    table: LanceTable, wanted: Sequence[Wanted], limit: int, *, conditioned: bool, large: bool
) -> list[pa.Table]:
    """The best `limit` rows for each of `wanted`, with the columns _SEEN, the score and _rowid.

    `conditioned`: only rows that meet the condition of the views. Lance takes longer to read
    columns as a part of a search than to find row ids and then read these rows.
    """
    queries = _queries(table, wanted, limit, conditioned=conditioned, large=large)
    # 1. The row ids.
    scored = [rows for query in queries for rows in query.run(table, [], large=large)]
    # 2. The columns, of all queries at once in the order in which Lance reads them.
    row_ids = sorted({row_id for rows in scored for row_id in rows["_rowid"].to_pylist()})
    seen = table.take_row_ids(row_ids).select(_SEEN).with_row_id().to_arrow()
    # 3. Or query by query, if another process moved rows meanwhile.
    if seen["_rowid"].to_pylist() != row_ids:
        return [rows for query in queries for rows in query.run(table, _SEEN, large=large)]
    row_id_set = seen["_rowid"].combine_chunks()
    tables = []
    for search, rows in zip(wanted, scored, strict=True):
        order = pc.index_in(rows["_rowid"], value_set=row_id_set)
        tables.append(seen.take(order).append_column(search.score, rows[search.score]))
    return tables


def _queries(
    table: LanceTable, wanted: Sequence[Wanted], limit: int, *, conditioned: bool, large: bool
) -> list[_Query]:
    """A query for all keys, because Lance searches for many hardly longer than for one, and one for
    each text.
    """
    by_key: list[Wanted] = []
    queries: list[_Query] = []
    for search in wanted:
        if isinstance(search.value, str):
            queries.append(_Query(_best_texts(table, search.value), [search]))
        else:
            by_key.append(search)
    if by_key:
        keys = np.stack([search.value for search in by_key])  # (n, p)
        builder = nearest_keys(table, keys, large=large)
        if conditioned:
            # few rows of the partitions nearest to a key may meet the condition: search any number
            builder = builder.maximum_nprobes(0)
        queries.insert(0, _Query(builder, by_key))
    for query in queries:
        query.builder.with_row_id(True).limit(limit)
        if conditioned:
            query.builder.where(condition([search.view for search in query.wanted]))
    return queries


def _best_texts(table: LanceTable, text: str) -> LanceQueryBuilder:
    """A search by BM25 for the rows with the best texts for the words of `text`."""
    # LanceDB's annotations cover neither query objects here nor the defaults of the arguments.
    return table.search(MatchQuery(text, "text"), query_type="fts")  # type: ignore[call-overload,call-arg,no-any-return]
