"""LanceDB tables: open, create once, point to the current one. Errors of LanceDB become
BankError.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import lancedb
import pyarrow as pa
from filelock import FileLock
from lancedb.db import DBConnection
from lancedb.expr import Expr, col, lit
from lancedb.table import LanceTable

from cmt.bank.integrity import DATA, altered_files, write_checksums
from cmt.errors import BankError, CmtError, DamageError

MEMORIES = "memories_"
"""Prefix of the tables of memories; the first 12 digits of the compressor's digest follow."""
LEASE = "lease"
"""Name of the table of the lease; see `cmt.bank._lease`."""
FOREVER = timedelta(days=36_500)
"""Age of versions to drop, if none is to be dropped."""
MAX_ATTEMPTS = 20
"""Commits to try while other processes write."""
KEPT = timedelta(minutes=1)
"""Age at which versions of a small table are dropped; every reader is faster."""
_CURRENT = "current"
_COMPACT_EVERY = 32  # versions of a small table
# classes that pyo3 makes at run time; the first derives from BaseException
_PANICS = ("PanicException", "RustPanic")
# No primary key, for which Lance would write 66 kB a version to notice concurrent inserts of one
# key. The table has one row; a second one of the same name would be updated with it.
_POINTER = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("table", pa.string(), nullable=False)]
)


class WriteConflict(BankError):
    """Another process committed first."""


@contextmanager
def translate_errors(
    what: str, advice: str = "run `cmt verify`, which says what is damaged"
) -> Iterator[None]:
    """Raise an error or panic of LanceDB as BankError: `what` failed, the reason without source
    location, `advice`.

    LanceDB panics on some damaged files. Raises WriteConflict if another process committed first.
    """
    try:
        yield
    except CmtError:
        raise
    except BaseException as error:
        if (
            not isinstance(error, OSError | RuntimeError | ValueError)
            and type(error).__name__ not in _PANICS
        ):
            raise
        reason = re.sub(r",? ?/\S+\.rs:\d+(:\d+)?", "", str(error)).strip()
        if re.search("commit conflict|concurrent (transaction|writers)", reason):
            raise WriteConflict(
                f"{what}: another process is writing to it; wait for it and repeat"
            ) from error
        if "Resources exhausted" in reason:
            advice = (
                "set LANCE_MEM_POOL_SIZE to more bytes, or make the slices smaller (stream.period)"
            )
        raise BankError(f"{what}: {reason}; {advice}") from error


def connect(uri: str) -> DBConnection:
    """Connect to the tables at `uri`. Raises BankError if there are none."""
    missing = BankError(f"no bank at {uri}: run `cmt update` first")
    if "://" not in uri and not Path(uri).is_dir():
        raise missing
    with translate_errors(f"bank {uri} cannot be opened"):
        connection = lancedb.connect(uri)
        if not set(connection.list_tables().tables) - {LEASE}:
            raise missing
    return connection


def how_to_refill(uri: str) -> str:
    """The last resort after damage: a phrase for an error message."""
    return (
        f"restore {uri} from a backup, or remove it and run `cmt update --all`, which fills it "
        "again"
    )


def memory_tables(connection: DBConnection) -> list[str]:
    """Names of the tables of memories, one a compressor, sorted.

    Leaves out a folder without a version, which a kill during the creation of a table leaves and
    LanceDB lists.
    """
    names = []
    for name in sorted(connection.list_tables().tables):
        if not name.startswith(MEMORIES):
            continue
        # a damaged table is listed: opening it raises the error later
        with suppress(BankError), translate_errors(f"table {name}"):
            if open_table(connection, name) is None:
                continue
        names.append(name)
    return names


def table_name(compressor: str) -> str:
    """Name of the table of memories of the compressor with this digest, of which 12 digits
    suffice.
    """
    return f"{MEMORIES}{compressor[:12]}"


def open_table(connection: DBConnection, name: str) -> LanceTable | None:
    """The table `name`, or None if it does not exist."""
    try:
        table = connection.open_table(name)
    except ValueError as error:
        if "was not found" in str(error):
            return None
        raise
    return cast(LanceTable, table)


def open_or_create_table(connection: DBConnection, name: str, schema: pa.Schema) -> LanceTable:
    """The table `name`, created empty if it does not exist."""
    if (table := open_table(connection, name)) is not None:
        return table  # without the lock file, which a read-only bank could not create
    # Without the lock, two processes could both find no table, and the second would overwrite the
    # first one's.
    with (
        nullcontext() if "://" in connection.uri else FileLock(Path(connection.uri) / "create.lock")
    ):
        table = open_table(connection, name)
        return (
            table
            if table is not None
            else cast(LanceTable, connection.create_table(name, schema=schema))
        )


def set_current_table(connection: DBConnection, table: str, *, anew: bool = False) -> None:
    """Make `table` the current one, in one commit; `anew`: create the pointer again, which may be
    damaged.
    """
    if anew and _CURRENT in connection.list_tables().tables:
        connection.drop_table(_CURRENT)
    pointer = open_or_create_table(connection, _CURRENT, _POINTER)
    merge_and_read(
        pointer, pa.table({"name": ["bank"], "table": [table]}, schema=_POINTER), key="name"
    )


def merge_and_read(
    table: LanceTable, rows: pa.Table, *, key: str, gone: Collection[str] = ()
) -> None:
    """Insert or replace `rows` by `key` in a small table, in one commit, and read the table, or
    undo the commit.

    `gone`: keys of rows that the same commit deletes.

    Lance 0.40 commits a file although its last bytes could not be written. Every write adds a file,
    so one version in _COMPACT_EVERY is compacted.
    """
    merge = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()
    if gone:
        merge = merge.when_not_matched_by_source_delete(one_of(key, gone))
    with _read_or_undo(table):
        merge.execute(rows)
    if table.version % _COMPACT_EVERY == 0:  # after an error a later write compacts it
        with (
            suppress(BankError),
            translate_errors(f"table {table.name} cannot be compacted"),
            _read_or_undo(table),
        ):
            table.optimize(cleanup_older_than=KEPT)
    write_checksums(table, DATA)


def rewrite(table: LanceTable, rows: pa.Table) -> None:
    """Replace the rows of a small table by `rows` in a new file, and delete every other file and
    version.
    """
    with _read_or_undo(table):
        table.add(rows, mode="overwrite")
    table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
    write_checksums(table, DATA)


@contextmanager
def _read_or_undo(table: LanceTable) -> Iterator[None]:
    """Read the table after a write; if that fails, restore the version before it and raise."""
    before = table.version
    yield
    try:
        read_all(table)
    except BaseException:  # some damage makes Lance panic
        table.restore(before)
        raise


def read_all(
    table: LanceTable, condition: Expr | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """All rows that meet `condition` (None: all rows), with `columns` (None: all columns)."""
    query = table.search().limit(max(table.count_rows(), 1))
    if columns is not None:
        query = query.select(list(columns))
    return (query if condition is None else query.where(condition)).to_arrow()


def one_of(column: str, values: Iterable[Any]) -> Expr:
    """The condition that `column` is one of `values`."""
    return col(column).isin(map(lit, sorted(values)))


def open_pointer(connection: DBConnection) -> LanceTable | None:
    """The table of the pointer, None before it is set. Raises DamageError if it was altered."""
    if altered := altered_files(connection.uri, _CURRENT, DATA):
        raise DamageError(
            f"the pointer in {connection.uri} is damaged ({altered[0]} does not match its "
            "checksum): run "
            "`cmt update --all`, which sets it again"
        )
    with translate_errors(f"bank {connection.uri} cannot be read"):
        return open_table(connection, _CURRENT)


def current_table(connection: DBConnection, pointer: LanceTable | None = None) -> str | None:
    """Name of the current table, None before one is set. `pointer`: its table, if it is open.
    Raises DamageError if the pointer was altered.
    """
    if pointer is None:
        pointer = open_pointer(connection)
    if pointer is None:
        return None
    pointer.checkout_latest()  # type: ignore[no-untyped-call]
    rows = pointer.search().select(["table"]).limit(1).to_list()
    return str(rows[0]["table"]) if rows else None


def active_compressor(connection: DBConnection, pointer: LanceTable | None = None) -> str:
    """First 12 digits of the compressor whose table is the current one. Raises BankError if there
    is none.
    """
    with translate_errors(f"bank {connection.uri} cannot be read"):
        if name := current_table(connection, pointer):
            return name.removeprefix(MEMORIES)
    raise BankError(
        f"bank {connection.uri} does not say which compressor answers: run `cmt update --all`"
    )
