"""The changes of an upsert: new and changed rows, earlier versions, dates of supersession. Arrow tables in and out."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.schema import TIMESTAMP, memory_id
from cmt.common.arrow import replace_column, rows_with
from cmt.errors import DamageError

_NEVER = np.iinfo(np.int64).max  # microseconds


def supersession_dates(rows: pa.Table) -> pa.ChunkedArray:
    """For each row, the instant from which its text no longer holds, or null.

    This is the date of the next version of its document, or of the first other document that supersedes it and is not
    older than the row. A document supersedes the one that its latest version names, from the first version on that
    names it. `rows` has VERSION_COLUMNS.
    """
    # 1. documents with several versions
    versions = rows.group_by("doc_id").aggregate([("published_at", "min"), ("published_at", "max")])
    several = versions.filter(pc.not_equal(versions["published_at_min"], versions["published_at_max"]))
    of_several = rows_with(rows, "doc_id", several["doc_id"])
    # 2. updates: the rows that supersede another document, except where a later version withdrew it
    updates = rows.filter(pc.fill_null(pc.not_equal(rows["supersedes"], rows["doc_id"]), False))
    updates = updates.filter(pc.invert(_withdrawn(updates, of_several, several)))
    # 3. the earlier of the two dates
    published_at = _microseconds(rows["published_at"])
    dates = np.minimum(
        _first_from(published_at, rows["doc_id"], updates["supersedes"], _microseconds(updates["published_at"])),
        _first_from(published_at + 1, rows["doc_id"], of_several["doc_id"], _microseconds(of_several["published_at"])),
    )
    return pa.chunked_array([pa.array(dates, pa.int64(), mask=dates == _NEVER).cast(TIMESTAMP)])


def misdated(rows: pa.Table) -> pa.Table:
    """The rows whose superseded_at differs from `supersession_dates(rows)`, with the right date.

    `rows` has VERSION_COLUMNS and holds the whole bank.
    """
    dates = supersession_dates(rows)
    right = pc.or_kleene(
        pc.fill_null(pc.equal(rows["superseded_at"], dates), False),
        pc.and_(pc.is_null(rows["superseded_at"]), pc.is_null(dates)),
    )
    return replace_column(rows, "superseded_at", dates).filter(pc.invert(right))


def upsert(rows: pa.Table, stored: pa.Table) -> tuple[pa.Table, dict[str, str], pa.Table]:
    """The changes to the `stored` rows (VERSION_COLUMNS) when `rows`, whole versions of documents, are written.

    Returns the rows to write, because they are not stored yet; the memory_id of each stored row that a later version of
    its document renames → its new one; and the stored rows whose memory_id falls free. The latest version of a document
    has plain memory_ids, an earlier one has ids with its date. A version replaces a stored one of the same date. Raises
    DamageError if a stored memory_id does not name a chunk.
    """
    # 1. the latest version of each document in `rows`
    known = rows_with(stored, "doc_id", rows["doc_id"])
    names = ["doc_id", "published_at"]
    latest = pa.concat_tables([rows.select(names), known.select(names)]).group_by("doc_id")
    latest = latest.aggregate([("published_at", "max")])
    latest_dates = dict(zip(latest["doc_id"].to_pylist(), latest["published_at_max"].to_pylist(), strict=True))

    def new_id(row: dict[str, Any]) -> str:
        doc_id, published_at = row["doc_id"], row["published_at"]
        version = None if published_at == latest_dates[doc_id] else published_at
        chunk, _, _ = row["memory_id"].removeprefix(f"{doc_id}#").partition("@")
        if not chunk.isdecimal():
            raise DamageError(f"memory {row['memory_id']!r} is not a chunk of document {doc_id!r}: run `cmt verify`")
        return memory_id(doc_id, int(chunk), version)

    # 2. the memory_ids that follow from it
    names = ["memory_id", *names]
    restated = {(row["doc_id"], row["published_at"]) for row in rows.select(names[1:]).to_pylist()}
    ids = [new_id(row) for row in rows.select(names).to_pylist()]
    renamed, vacated = {}, []
    for row in known.select(names).to_pylist():
        new = new_id(row)
        if (row["doc_id"], row["published_at"]) in restated:
            vacated.append(row["memory_id"])
        elif new != row["memory_id"]:
            renamed[row["memory_id"]] = new
            vacated.append(row["memory_id"])
    # 3. the stored rows without a successor
    gone = set(vacated) - set(ids) - set(renamed.values())
    # 4. keep the rows whose memory_id, date and sha256 `stored` does not have
    rows = replace_column(rows, "memory_id", ids)
    index = pc.index_in(rows["memory_id"], value_set=stored["memory_id"].combine_chunks())
    same = pc.and_(
        pc.equal(stored["sha256"].take(index), rows["sha256"]),
        pc.equal(stored["published_at"].take(index), rows["published_at"]),
    )
    return rows.filter(pc.invert(pc.fill_null(same, False))), renamed, rows_with(known, "memory_id", gone)


def _withdrawn(updates: pa.Table, of_several: pa.Table, several: pa.Table) -> pa.ChunkedArray:
    """For each of `updates`, whether the latest version of its document supersedes another one, or none."""
    latest_date = several["published_at_max"].take(
        pc.index_in(of_several["doc_id"], value_set=several["doc_id"].combine_chunks())
    )
    latest = of_several.filter(pc.equal(of_several["published_at"], latest_date))
    index = pc.index_in(updates["doc_id"], value_set=latest["doc_id"].combine_chunks())
    named = pc.fill_null(pc.equal(latest["supersedes"].take(index), updates["supersedes"]), False)
    return pc.and_(pc.is_valid(index), pc.invert(named))


def _first_from(
    begins: np.ndarray, doc_ids: pa.ChunkedArray, targets: pa.ChunkedArray, dates: np.ndarray
) -> np.ndarray:
    """For each row (n,), the first of the `dates` of its document from `begins` on, or _NEVER.

    `begins` (n,), `doc_ids` (n,): the rows; `targets` (m,), `dates` (m,): a document, and a date of it. Microseconds.
    """
    first = np.full(len(begins), _NEVER)
    # 1. the rows of documents with dates, and all documents as numbers
    documents = pc.unique(targets)
    indices = pc.index_in(doc_ids, value_set=documents)
    rows = np.flatnonzero(pc.is_valid(indices).to_numpy())
    row_document = indices.drop_null().to_numpy().astype(np.int64)
    document = pc.index_in(targets, value_set=documents).to_numpy().astype(np.int64)
    # 2. documents and dates as one number each that sorts by both: dates become their ranks
    ranked = np.unique(np.concatenate([dates, begins[rows]]))
    key = np.sort(document * len(ranked) + np.searchsorted(ranked, dates))
    row_key = row_document * len(ranked) + np.searchsorted(ranked, begins[rows])
    # 3. the next key that belongs to the row's document
    following = np.append(key, -1)[np.searchsorted(key, row_key)]
    same = following // max(len(ranked), 1) == row_document
    first[rows[same]] = ranked[following[same] % len(ranked)]
    return first


def _microseconds(dates: pa.ChunkedArray) -> np.ndarray:
    """Dates as microseconds since 1970."""
    numbers: np.ndarray = dates.cast(pa.int64()).to_numpy()
    return numbers
