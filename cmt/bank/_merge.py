"""The changes of an upsert: new and changed rows, earlier versions, visibility. Arrow tables in and
out.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.memory_ids import memory_id
from cmt.common.arrow import replace_column, rows_with
from cmt.errors import DamageError
from cmt.timeline import Timeline, Version, ingest_order


def versions_of(rows: pa.Table) -> list[Version]:
    """The versions of documents that `rows` (VERSION_COLUMNS) hold."""
    return list(dict.fromkeys(_row_versions(rows)))


def misdated(rows: pa.Table, unbanked: Iterable[Version] = ()) -> pa.Table:
    """The rows whose superseded_at or hidden differs from what `Timeline` says, with the right
    values.

    `rows` has VERSION_COLUMNS and holds the whole bank, or all that `related` finds of it.
    `unbanked`: versions that the bank lacks.
    """
    timeline = Timeline([*versions_of(rows), *unbanked])
    stored = zip(rows["superseded_at"].to_pylist(), rows["hidden"].to_pylist(), strict=True)
    keys = (version[:2] for version in _row_versions(rows))
    right = [(timeline.superseded_at(*key), timeline.hidden(*key)) for key in keys]
    wrong = [was != should for was, should in zip(stored, right, strict=True)]
    rows = replace_column(rows, "superseded_at", [date for date, _ in right])
    rows = replace_column(rows, "hidden", [hidden for _, hidden in right])
    return rows.filter(pa.array(wrong, pa.bool_()))


def upsert(rows: pa.Table, stored: pa.Table) -> tuple[pa.Table, dict[str, str], pa.Table]:
    """The changes to the `stored` rows (VERSION_COLUMNS) when `rows`, whole versions of documents,
    are written.

    1. A version replaces a stored version of the same date, unless a later slice wrote that one.
    2. The latest version of a document has plain memory_ids, an earlier one has ids with its date;
       so a later version renames stored rows.

    Returns the rows to write, because they are not stored yet; the memory_id of each renamed row →
    its new one; and the stored rows whose memory_id falls free. Raises DamageError if a stored
    memory_id does not name a chunk.
    """
    # 1. the versions that hold, and the latest one of each document
    of_documents = rows_with(stored, "doc_id", rows["doc_id"])
    names = ["doc_id", "published_at"]
    slices = {version[:2]: ingest_order(version.slice_id) for version in versions_of(of_documents)}
    held = [
        ingest_order(version.slice_id) >= slices.get(version[:2], 0)
        for version in _row_versions(rows)
    ]
    rows = rows.filter(pa.array(held, pa.bool_()))
    latest = pa.concat_tables([rows.select(names), of_documents.select(names)]).group_by("doc_id")
    latest = latest.aggregate([("published_at", "max")])
    latest_dates = dict(
        zip(latest["doc_id"].to_pylist(), latest["published_at_max"].to_pylist(), strict=True)
    )

    def new_id(row: dict[str, Any]) -> str:
        doc_id, published_at = row["doc_id"], row["published_at"]
        version = None if published_at == latest_dates[doc_id] else published_at
        chunk, _, _ = row["memory_id"].removeprefix(f"{doc_id}#").partition("@")
        if not chunk.isdecimal():
            raise DamageError(
                f"memory {row['memory_id']!r} is not a chunk of document {doc_id!r}: run `cmt "
                "verify`"
            )
        return memory_id(doc_id, int(chunk), version)

    # 2. the memory_ids that follow from it
    names = ["memory_id", *names]
    restated = {(row["doc_id"], row["published_at"]) for row in rows.select(names[1:]).to_pylist()}
    ids = [new_id(row) for row in rows.select(names).to_pylist()]
    renamed, vacated = {}, []
    for row in of_documents.select(names).to_pylist():
        new = new_id(row)
        if (row["doc_id"], row["published_at"]) in restated:
            vacated.append(row["memory_id"])
        elif new != row["memory_id"]:
            renamed[row["memory_id"]] = new
            vacated.append(row["memory_id"])
    # 3. the stored rows without a successor
    gone = set(vacated) - set(ids) - set(renamed.values())
    # 4. keep the rows whose memory_id, date, slice and sha256 `stored` does not have
    rows = replace_column(rows, "memory_id", ids)
    index = pc.index_in(rows["memory_id"], value_set=stored["memory_id"].combine_chunks())
    equal = (
        pc.equal(stored[name].take(index), rows[name])
        for name in ("sha256", "published_at", "slice_id")
    )
    same = pc.fill_null(reduce(pc.and_, equal), False)
    return rows.filter(pc.invert(same)), renamed, rows_with(of_documents, "memory_id", gone)


def _row_versions(rows: pa.Table) -> Iterator[Version]:
    """The version of each row."""
    return map(Version, *(rows[name].to_pylist() for name in Version._fields[:-1]))
