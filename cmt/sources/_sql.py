"""The rows of a query on a database, by SQLAlchemy: each row is an item."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from sqlalchemy import Select, column, create_engine, select, text
from sqlalchemy.engine import Connection, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from cmt.common.digests import sha256_hex
from cmt.config import SourceParams
from cmt.errors import ConfigError, StreamError
from cmt.sources.connector import Connector, Item, Setting, instant_of
from cmt.stream.columns import Record

LONGEST = 900.0  # seconds for one query with all its rows
_ROWS = 1000  # of one batch from the server


class SqlSource(Connector):
    """The rows of `query` on the database `address`. Without `updated_at` every sync reads them all
    to compare them.
    """

    dates_changes = True

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._name, self._key, self._updated_at = source.name, source.key or "", source.updated_at
        self._keys: dict[str, Any] = {}
        self._limits = setting.limits
        try:
            self._engine = create_engine(
                make_url(setting.expand(source.address)), poolclass=NullPool
            )
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigError(
                f"sources.{source.name}: {error}; write "
                f"dialect://user:${{PASSWORD}}@host/database, and install the "
                "driver of the database (`pip install 'cmt-memory[postgres]'` installs "
                "PostgreSQL's)"
            ) from None
        named: list[Any] = [column(name) for name in (source.key, source.updated_at) if name]
        self._rows = (
            text((source.query or "").rstrip("; \n")).columns(*named).subquery("source_rows")
        )

    def list(self) -> Iterator[Item]:
        columns = [self._rows.c[name] for name in (self._key, self._updated_at) if name]
        wanted = select(*columns) if self._updated_at else select(text("*")).select_from(self._rows)
        with self._connected() as connection:
            for row in self._bounded(connection, wanted):
                key = str(row[self._key])
                if row[self._key] is None or key in self._keys:
                    raise StreamError(
                        f"{self._name}: the column {self._key} has {key!r} twice, or no value: "
                        "name another"
                    )
                self._keys[key] = row[self._key]
                if self._updated_at:
                    changed = row[self._updated_at]  # every sync fetches a row without a date
                    yield Item(
                        key, instant_of(changed), str(changed) if changed is not None else ""
                    )
                else:
                    yield Item(key, None, sha256_hex(repr(sorted(row.items()))))

    def fetch(self, key: str) -> Iterator[Record]:
        wanted = (
            select(text("*"))
            .select_from(self._rows)
            .where(self._rows.c[self._key] == self._keys[key])
        )
        with self._connected() as connection:
            for row in self._bounded(connection, wanted):
                yield Record(dict(row), f"{self._name} {self._key} {key}")

    def _bounded(self, connection: Connection, wanted: Select[Any]) -> Iterator[RowMapping]:
        """The rows of a query, within the limits of one file. Raises StreamError."""
        size = 0
        rows = connection.execution_options(yield_per=_ROWS).execute(wanted)
        for number, row in enumerate(rows.mappings(), 1):
            size += sum(len(value) for value in row.values() if isinstance(value, str | bytes))
            self._limits.check_rows(self._name, number, columns=len(row))
            if size > self._limits.file_bytes:
                raise self._limits.too_large(self._name)
            yield row

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection that never commits, and ends after LONGEST seconds. Raises StreamError."""
        until = time.monotonic() + LONGEST
        try:
            with self._engine.connect() as connection:
                timer = Timer(LONGEST, _stop, [connection.connection.driver_connection])
                timer.daemon = True
                timer.start()
                try:
                    yield connection
                finally:
                    timer.cancel()
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            if time.monotonic() >= until:
                reason = f"its query takes over {LONGEST:g} s"
            raise StreamError(
                f"{self._name}: {self._engine.url.render_as_string()} cannot be read: {reason}"
            ) from None


def _stop(connection: Any) -> None:
    """End what a driver's connection waits for: each driver has one of these methods."""
    name = next(name for name in ("interrupt", "cancel", "close") if hasattr(connection, name))
    getattr(connection, name)()
