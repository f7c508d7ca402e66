"""Rows and columns of Arrow tables."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def is_in(
    column: pa.ChunkedArray, values: "Iterable[Any] | pa.Array | pa.ChunkedArray"
) -> pa.ChunkedArray:
    """For each entry of `column`, whether `values` contains it; `values` are Python values or an
    Arrow column.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    elif not isinstance(values, pa.Array):
        values = pa.array(list(values), column.type)
    return pc.is_in(column, value_set=values)


def rows_with(
    table: pa.Table, name: str, values: "Iterable[Any] | pa.Array | pa.ChunkedArray"
) -> pa.Table:
    """The rows of `table` whose column `name` is one of `values`."""
    return table.filter(is_in(table[name], values))


def rows_without(
    table: pa.Table, name: str, values: "Iterable[Any] | pa.Array | pa.ChunkedArray"
) -> pa.Table:
    """The rows of `table` whose column `name` is none of `values`."""
    return table.filter(pc.invert(is_in(table[name], values)))


def rows_of(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of the columns `names`, row by row."""
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def take(table: pa.Table, rows: Iterable[int]) -> pa.Table:
    """The rows of `table` at the indices `rows`, in this order."""
    # with the type, because Table.take() does not accept the type of an empty list
    return table.take(pa.array(list(rows), pa.int64()))


def replace_column(
    table: pa.Table, name: str, values: "Sequence[Any] | pa.Array | pa.ChunkedArray"
) -> pa.Table:
    """`table` with `values` (n,) in its column `name`, whose type stays."""
    index = table.schema.get_field_index(name)
    field = table.schema.field(index)
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(values, field.type)
    return table.set_column(index, field, values)
