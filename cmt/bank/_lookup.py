"""Rows of a table of memories by their ids and values. Rows that are returned whole are compared
with their checksums; DamageError names the first damaged one.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any

import pyarrow as pa
from lancedb.expr import Expr
from lancedb.table import LanceTable

from cmt.bank._memory_table import MemoryTable
from cmt.bank._merge import versions_of
from cmt.bank._ranking import Hits
from cmt.bank.integrity import check_rows, content_schema
from cmt.bank.schema import VERSION_COLUMNS, latest_versions, schema_value
from cmt.bank.tables import one_of, read_all
from cmt.common.arrow import rows_with, take
from cmt.text.display import heading
from cmt.timeline import Version, in_memory, related

_AT_ONCE = 4096  # values that are looked up at once
_RESULT = ["memory_id", "doc_id", "title", "published_at", "source", "supersedes", "text"]
_RESULT += ["memory", "n_vectors", "n_tokens"]


def result_columns(rows: pa.Table) -> list[str]:
    """The columns that an answer needs: `words` only of a bank without text."""
    return [*_RESULT, *({"words"} & set(rows.column_names))]


# Methods of a bank


def documents(bank: MemoryTable, doc_ids: set[str]) -> pa.Table:
    """The rows of these documents as they are now, superseded ones included; like `search`, without
    scores.
    """
    with bank.reading():
        rows = read_checked(bank.latest(), one_of("doc_id", doc_ids - bank.excluded_doc_ids))
        return latest_versions(rows).select(result_columns(rows))


def memories_of(bank: MemoryTable, texts: Collection[str]) -> pa.Table:
    """The rows (bank_schema) of one version of a document for each heading and text; `texts`:
    SHA-256 of texts.
    """
    columns = ["memory_id", "sha256", "title", "source", "doc_id", "published_at"]
    with bank.reading():
        table = bank.latest()
        if not texts:
            return read_content(table, set())
        rows = read_all(table, one_of("sha256", texts), columns).sort_by("memory_id")
        chosen: dict[tuple[str, str], tuple[str, datetime]] = {}
        memory_ids = set()
        for row in rows.to_pylist():
            text = row["sha256"], heading(row["title"], row["source"])
            version = row["doc_id"], row["published_at"]
            if chosen.setdefault(text, version) == version:
                memory_ids.add(row["memory_id"])
        return read_content(table, memory_ids)


def sample(bank: MemoryTable, n: int) -> list[dict[str, Any]]:
    """Text, title and source of up to `n` rows at even distances in the table; a row without a text
    is left out.
    """
    with bank.reading():
        table = bank.latest()
        count = table.count_rows()
        offsets = [number * count // n for number in range(n)] if count > n else list(range(count))
        rows = table.take_offsets(offsets).select(["text", "title", "source"]).to_arrow()
        return [row for row in rows.to_pylist() if row["text"] is not None]


def connected(bank: MemoryTable, doc_ids: Collection[str]) -> pa.Table:
    """The rows (VERSION_COLUMNS) of these documents and of all that supersedes connects with
    them.
    """
    with bank.reading():
        return related_versions(bank.latest(), doc_ids, [])


# Rows of a table


def read_content(table: LanceTable, memory_ids: set[str]) -> pa.Table:
    """The rows with these ids, whole and checked, without their checksums, sorted by memory_id."""
    rows = read_checked(table, one_of("memory_id", memory_ids))
    return rows.select(content_schema(table.schema).names)


def read_checked(table: LanceTable, condition: Expr) -> pa.Table:
    """The rows that meet `condition`, with all columns, sorted by memory_id. Raises DamageError."""
    rows = read_all(table, condition, table.schema.names).sort_by("memory_id")
    check_rows(rows, table)
    return rows


def take_checked(table: LanceTable, hits: Hits) -> pa.Table:
    """The rows of `hits`, with all columns, sorted by memory_id. Raises DamageError.

    The rows are at the row ids of the hits unless the table has changed since. The compressor, the
    same in all rows, is taken from the schema: Lance decodes a whole page of a constant column for
    a row.
    """
    if not hits:
        return table.schema.empty_table()
    # 1. By row id, or by memory_id after a change.
    schema = table.schema
    row_ids = [hit.row_id for hit in hits.values()]
    columns = [name for name in schema.names if name != "compressor"]
    rows = table.take_row_ids(row_ids).select(columns).to_arrow()
    if set(rows["memory_id"].to_pylist()) != hits.keys():
        return read_checked(table, one_of("memory_id", set(hits)))
    # 2. Complete and checked.
    index = schema.get_field_index("compressor")
    compressor = pa.array([schema_value(schema, "compressor")] * len(rows), pa.string())
    rows = rows.add_column(index, schema.field(index), compressor).sort_by("memory_id")
    check_rows(rows, table)
    return rows


def related_versions(
    table: LanceTable, doc_ids: Collection[str], others: Collection[Version]
) -> pa.Table:
    """The stored rows (VERSION_COLUMNS) on which a change of the documents `doc_ids` depends.

    `others`: versions that the table lacks, because they are being written or stay unbanked. A
    stored version may name one of these; its document counts as changed. Other rows cost no time.
    """
    of_others = in_memory(others)
    looked_up = [_lookup(table, supersedes={v.doc_id for v in others} - set(doc_ids))]

    def find(names: Collection[str], texts: Collection[str]) -> Iterator[Version]:
        looked_up.append(_lookup(table, doc_id=names, supersedes=names, sha256=texts))
        yield from versions_of(looked_up[-1])
        yield from of_others(names, texts)

    # 1. The documents, and the documents that supersede a version of `others`.
    changed = {*doc_ids, *looked_up[0]["doc_id"].to_pylist()}
    connected = {version.doc_id for version in related(changed, find)}
    # 2. Their rows, each once.
    rows = rows_with(pa.concat_tables(looked_up), "doc_id", connected)
    first: dict[str, int] = {}
    for row, name in enumerate(rows["memory_id"].to_pylist()):
        first.setdefault(name, row)
    return take(rows, sorted(first.values()))


def _lookup(table: LanceTable, **values: Collection[str]) -> pa.Table:
    """VERSION_COLUMNS of the rows that have one of the `values` in their column, by the index of
    that column.
    """
    names = {column: sorted(wanted) for column, wanted in values.items()}
    limit = max(table.count_rows(), 1)
    tables = [pa.schema([table.schema.field(name) for name in VERSION_COLUMNS]).empty_table()]
    for start in range(0, max(map(len, names.values())), _AT_ONCE):
        conditions = []
        for column, wanted in names.items():
            if part := wanted[start : start + _AT_ONCE]:
                conditions.append(one_of(column, part))
        query = table.search().select(VERSION_COLUMNS).where(reduce(or_, conditions))
        tables.append(query.limit(limit).to_arrow().cast(tables[0].schema))
    return pa.concat_tables(tables)
