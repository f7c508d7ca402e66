"""Tables in LanceDB: opened, created once, pointed to, and its errors in words of ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import cast

import pyarrow as pa
from filelock import FileLock
from lancedb.db import DBConnection
from lancedb.table import LanceTable

from cmt.bank.schema import PRIMARY_KEY
from cmt.errors import BankError, CmtError

_POINTER = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("table", pa.string(), nullable=False),
    ]
)


class Busy(BankError):
    """Another process wrote first."""


@contextmanager
def explained(what: str, advice: str = "check that it is complete and readable") -> Iterator[None]:
    """Turn what LanceDB raises into a BankError without the place in its own sources."""
    try:
        yield
    except CmtError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = re.sub(r",? ?/\S+\.rs:\d+(:\d+)?", "", str(error)).strip()
        if re.search("commit conflict|concurrent (transaction|writers)", reason):
            raise Busy(f"{what}: another process is writing to it; wait for it and repeat") from error
        raise BankError(f"{what}: {reason}; {advice}") from error


def opened(connection: DBConnection, name: str) -> LanceTable | None:
    """The table, or None when there is none of this name."""
    try:
        table = connection.open_table(name)
    except ValueError as error:
        if "was not found" in str(error):
            return None
        raise
    return cast(LanceTable, table)


def created(connection: DBConnection, name: str, schema: pa.Schema) -> LanceTable:
    """The table, made when there is none of this name."""
    # Two at once would both find nothing, and the later one would overwrite the table of the other with an empty one.
    with nullcontext() if "://" in connection.uri else FileLock(Path(connection.uri) / "create.lock"):
        found = opened(connection, name)
        return found if found is not None else cast(LanceTable, connection.create_table(name, schema=schema))


def point(connection: DBConnection, table: str) -> None:
    """Make `table` the current one, in one commit."""
    pointer = created(connection, "current", _POINTER)
    row = pa.table({"name": ["bank"], "table": [table]}, schema=_POINTER)
    pointer.merge_insert("name").when_matched_update_all().when_not_matched_insert_all().execute(row)


def current(connection: DBConnection) -> str | None:
    """Name of the table that the pointer names, None before the first."""
    pointer = opened(connection, "current")
    rows = [] if pointer is None else pointer.search().select(["table"]).limit(1).to_list()
    return str(rows[0]["table"]) if rows else None
