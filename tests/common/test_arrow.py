"""Rows and columns of Arrow tables."""

import pyarrow as pa
import pytest

from cmt.common.arrow import is_in, replace_column, rows_with, rows_without, take

TABLE = pa.table(
    {"name": ["a", "b", None, "c"], "n": [0, 1, 2, 3]},
    schema=pa.schema([pa.field("name", pa.large_string()), pa.field("n", pa.int32(), nullable=False)]),
)


@pytest.mark.parametrize("values", [{"c", "a"}, pa.array(["a", "c"], pa.large_string()), TABLE["name"].slice(0, 1)])
def test_rows_with_and_without_values_are_complements(values: "set[str] | pa.Array | pa.ChunkedArray") -> None:
    selected = [0, 3] if len(values) == 2 else [0]
    assert rows_with(TABLE, "name", values)["n"].to_pylist() == selected
    assert rows_without(TABLE, "name", values)["n"].to_pylist() == [n for n in range(4) if n not in selected]
    assert is_in(TABLE["name"], values).to_pylist() == [n in selected for n in range(4)]


def test_no_value_and_no_row_are_allowed() -> None:
    assert rows_with(TABLE, "name", []).num_rows == take(TABLE, []).num_rows == 0
    assert take(TABLE, [3, 0])["n"].to_pylist() == [3, 0]


def test_a_replaced_column_keeps_its_place_and_its_type() -> None:
    replaced = replace_column(TABLE, "n", [5, 6, 7, 8])
    assert replaced.schema == TABLE.schema and replaced["n"].to_pylist() == [5, 6, 7, 8]
    assert replace_column(TABLE, "n", TABLE["n"]).equals(TABLE)
