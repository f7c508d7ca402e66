"""What a write changes: new and changed rows, surplus chunks, and the dates of supersession. Arrow in, Arrow out."""

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.schema import TIMESTAMP


def superseded(rows: pa.Table) -> pa.ChunkedArray:
    """For each row when its document is superseded: the earliest date of those that name it, or null."""
    naming = rows.filter(pc.not_equal(rows["supersedes"], rows["doc_id"]))
    earliest = naming.group_by("supersedes").aggregate([("published_at", "min")])
    place = pc.index_in(rows["doc_id"], value_set=earliest["supersedes"].combine_chunks())
    return earliest["published_at_min"].take(place).cast(TIMESTAMP)


def misdated(rows: pa.Table) -> pa.Table:
    """The rows of LEDGER_COLUMNS whose superseded_at is not what superseded() says, with the right one."""
    right = superseded(rows)
    same = pc.or_kleene(
        pc.fill_null(pc.equal(rows["superseded_at"], right), False),
        pc.and_(pc.is_null(rows["superseded_at"]), pc.is_null(right)),
    )
    return with_superseded(rows, right).filter(pc.invert(same))


def with_superseded(rows: pa.Table, dates: pa.ChunkedArray) -> pa.Table:
    """`rows` with the column superseded_at replaced by `dates`."""
    place = rows.schema.get_field_index("superseded_at")
    return rows.set_column(place, rows.schema.field(place), dates)


def not_older(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """The rows of documents that `stored` does not have with a later date."""
    latest = stored.group_by("doc_id").aggregate([("published_at", "max")])
    place = pc.index_in(rows["doc_id"], value_set=latest["doc_id"].combine_chunks())
    later = pc.greater(latest["published_at_max"].take(place), rows["published_at"])
    return rows.filter(pc.invert(pc.fill_null(later, False)))


def changed(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """The rows that are not in `stored` with the same memory_id and sha256."""
    place = pc.index_in(rows["memory_id"], value_set=stored["memory_id"].combine_chunks())
    same = pc.equal(stored["sha256"].take(place), rows["sha256"])
    return rows.filter(pc.invert(pc.fill_null(same, False)))


def surplus(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """The rows of `stored` that belong to a document of `rows` but are no longer among its chunks."""
    same_document = within(stored["doc_id"], rows["doc_id"])
    return stored.filter(pc.and_not(same_document, within(stored["memory_id"], rows["memory_id"])))


def within(column: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each entry whether it is one of `values`."""
    return pc.is_in(column, value_set=values.combine_chunks())
