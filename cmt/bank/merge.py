"""What an upsert changes: new and changed rows, surplus chunks, and dates of supersession. Arrow tables in and out."""

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.schema import TIMESTAMP


def supersession_dates(rows: pa.Table) -> pa.ChunkedArray:
    """For each row, the earliest `published_at` of the other documents that supersede its document, or null."""
    updates = rows.filter(pc.not_equal(rows["supersedes"], rows["doc_id"]))
    earliest = updates.group_by("supersedes").aggregate([("published_at", "min")])
    place = pc.index_in(rows["doc_id"], value_set=earliest["supersedes"].combine_chunks())
    return earliest["published_at_min"].take(place).cast(TIMESTAMP)


def misdated(rows: pa.Table) -> pa.Table:
    """The rows whose superseded_at differs from `supersession_dates(rows)`, with the right date.

    `rows` has VERSION_COLUMNS and holds the whole bank.
    """
    dates = supersession_dates(rows)
    right = pc.or_kleene(
        pc.fill_null(pc.equal(rows["superseded_at"], dates), False),
        pc.and_(pc.is_null(rows["superseded_at"]), pc.is_null(dates)),
    )
    return with_superseded_at(rows, dates).filter(pc.invert(right))


def with_superseded_at(rows: pa.Table, dates: pa.ChunkedArray) -> pa.Table:
    """`rows` with the column superseded_at replaced by `dates`."""
    place = rows.schema.get_field_index("superseded_at")
    return rows.set_column(place, rows.schema.field(place), dates)


def not_older(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """`rows` without those of documents that `stored` has with a later date."""
    latest = stored.group_by("doc_id").aggregate([("published_at", "max")])
    place = pc.index_in(rows["doc_id"], value_set=latest["doc_id"].combine_chunks())
    older = pc.greater(latest["published_at_max"].take(place), rows["published_at"])
    return rows.filter(pc.invert(pc.fill_null(older, False)))


def changed(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """The rows that `stored` does not have with the same memory_id and sha256."""
    place = pc.index_in(rows["memory_id"], value_set=stored["memory_id"].combine_chunks())
    same = pc.equal(stored["sha256"].take(place), rows["sha256"])
    return rows.filter(pc.invert(pc.fill_null(same, False)))


def surplus(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """The rows of `stored` whose document is in `rows` but no longer has this chunk."""
    same_document = within(stored["doc_id"], rows["doc_id"])
    return stored.filter(pc.and_not(same_document, within(stored["memory_id"], rows["memory_id"])))


def within(column: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each entry of `column`, whether it is one of `values`."""
    return pc.is_in(column, value_set=values.combine_chunks())
