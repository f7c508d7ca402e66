"""A table of the ledger: small, written row by row, read whole or by values of its columns."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path

import lancedb
import pyarrow as pa
from lancedb.db import DBConnection

from cmt.bank.integrity import DATA, altered_files
from cmt.bank.tables import (
    how_to_refill,
    merge_and_read,
    one_of,
    open_or_create_table,
    read_all,
    rewrite,
    translate_errors,
)
from cmt.errors import DamageError

CheckLease = Callable[[], None]
"""Raises RoundError if this process lost the lease of the bank."""


def has_table(uri: str, name: str) -> bool:
    """Whether there is a table `name` at `uri`; creates nothing. Raises BankError if `uri` cannot
    be opened.
    """
    if "://" not in uri and not Path(uri).is_dir():
        return False
    with translate_errors(f"bank {uri} cannot be opened"):
        return name in lancedb.connect(uri).list_tables().tables


class LedgerTable:
    """The table `name`, whose first column is its key; created if it does not exist.

    Methods raise BankError if the table cannot be read or written. Opening it raises DamageError if
    one of its files was altered. `check_lease` is called before every write.
    """

    def __init__(
        self, connection: DBConnection, name: str, schema: pa.Schema, check_lease: CheckLease | None
    ) -> None:
        self.name, self.schema = name, schema
        self._uri, self._check_lease = connection.uri, check_lease
        # before Lance reads them, which may end the process
        if altered := altered_files(connection.uri, name, DATA):
            raise self.damaged(f"{altered[0]} does not match its checksum")
        with translate_errors(f"the ledger in {self._uri} cannot be opened"):
            self._table = open_or_create_table(connection, name, schema)

    @property
    def version(self) -> int:
        """Number of the newest version, which every write increases."""
        with self._reading():
            return self._table.version

    def read(self, **any_of: Collection[str]) -> pa.Table:
        """All rows, or the rows with one of the given values in one of the given columns.

        Raises DamageError if a column is missing.
        """
        conditions = [one_of(column, values) for column, values in any_of.items()]
        with self._reading():
            rows = read_all(self._table, reduce(or_, conditions) if conditions else None)
        if missing := {*self.schema.names} - {*rows.column_names}:
            raise self.damaged(f"the table {self.name} has no column {min(missing)}")
        return rows

    def upsert(self, columns: dict[str, list[str]], *, gone: Collection[str] = ()) -> None:
        """Insert or replace rows and delete those with the keys `gone`, in one commit."""
        rows = pa.table(columns, schema=self.schema)
        with self._writing():
            merge_and_read(self._table, rows, key=self.schema.names[0], gone=gone)

    def purge_history(self) -> None:
        """Write the rows to a new file and delete every other file and version."""
        rows = self.read()
        with self._writing():
            rewrite(self._table, rows)

    def damaged(self, reason: str) -> DamageError:
        """The error that the ledger is damaged, and how to repair it."""
        return DamageError(
            f"the ledger in {self._uri} is damaged ({reason}): {how_to_refill(self._uri)}"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with translate_errors(f"the ledger in {self._uri} cannot be read"):
            self._table.checkout_latest()  # type: ignore[no-untyped-call]
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        advice = "check free space and rights, then repeat"
        with translate_errors(f"the ledger in {self._uri} cannot be written", advice):
            if self._check_lease:
                self._check_lease()
            yield
