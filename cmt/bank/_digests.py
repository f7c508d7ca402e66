"""The table `digests`: the digest of each version of a bank, so that a change updates it from the
rows that it changes.

A record only saves time. The digest is computed from all rows if the record is missing or damaged,
if another process wrote in between, and always by `Bank.audit`.
"""

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from typing import cast

import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.expr import col, lit
from lancedb.table import LanceTable

from cmt.bank.integrity import DATA, altered_files
from cmt.bank.schema import RowsDigest
from cmt.bank.tables import (
    merge_and_read,
    one_of,
    open_or_create_table,
    open_table,
    translate_errors,
)
from cmt.common.digests import json_checksum
from cmt.errors import BankError

log = logging.getLogger(__name__)

_NAME = "digests"
# No primary key, as in `cmt.bank.tables`; two equal records are harmless.
_SCHEMA = pa.schema(
    [
        pa.field("place", pa.string(), nullable=False),  # <table>@<version>
        pa.field("bank", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("checksum", pa.string(), nullable=False),
    ]
)


class RecordedDigests:
    """The recorded digests of the table `bank` of memories."""

    def __init__(self, connection: DBConnection, bank: str) -> None:
        self._connection, self._bank = connection, bank
        self._table: LanceTable | None = None

    def at(self, version: int) -> RowsDigest | None:
        """The digest of `version`; None if it is not recorded, or the record cannot be read."""
        # KeyError: a column has another name
        with suppress(BankError, ValueError, KeyError), self._translate_errors():
            table = self._open()
            if table is None:
                return None
            table.checkout_latest()  # type: ignore[no-untyped-call]
            rows = (
                table.search()
                .where(col("place") == lit(f"{self._bank}@{version}"))
                .limit(1)
                .to_list()
            )
            for row in rows:
                if row["checksum"] == json_checksum(
                    {"place": row["place"], "digest": row["digest"]}
                ):
                    return RowsDigest.parse(row["digest"])
        return None

    def write(self, version: int, digest: RowsDigest) -> None:
        """Record the digest of `version`; a table that cannot be written is dropped."""
        key, text = f"{self._bank}@{version}", str(digest)
        values: dict[str, str | int] = {"place": key, "digest": text}
        values |= {"bank": self._bank, "version": version, "checksum": json_checksum(values)}
        row = pa.Table.from_pylist([values], schema=_SCHEMA)
        try:
            with self._translate_errors():
                if self._open() is None:
                    self._drop()  # it may be damaged
                    self._table = open_or_create_table(self._connection, _NAME, _SCHEMA)
                merge_and_read(cast(LanceTable, self._table), row, key="place")
        except BankError as error:
            log.warning("%s: the next digest is computed from all rows", error)
            with suppress(BankError), self._translate_errors():
                self._drop()

    def keep(self, versions: Collection[int]) -> None:
        """Remove the records of all other versions, if the table can be written."""
        with suppress(BankError), self._translate_errors():
            if (table := self._open()) is not None:
                table.delete((col("bank") == lit(self._bank)) & ~one_of("version", versions))

    def _open(self) -> LanceTable | None:
        """The table; None if it is missing or damaged, which could make Lance end the process."""
        if self._table is None and not altered_files(self._connection.uri, _NAME, DATA):
            self._table = open_table(self._connection, _NAME)
        return self._table

    def _drop(self) -> None:
        self._table = None
        if _NAME in self._connection.list_tables().tables:
            self._connection.drop_table(_NAME)

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"the digests in {self._connection.uri} cannot be read or written")
