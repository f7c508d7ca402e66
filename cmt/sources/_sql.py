"""The rows of a query on a database, by SQLAlchemy: each row is an item."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import column, create_engine, select, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from cmt.common.digests import sha256_hex
from cmt.config import SourceParams
from cmt.errors import ConfigError, StreamError
from cmt.sources.connector import Connector, Item, Setting, instant_of
from cmt.stream.columns import Record

_ROWS = 1000  # of one batch from the server


class SqlSource(Connector):
    """The rows of `query` on the database `address`. Without `updated_at` every sync reads them all
    to compare them.
    """

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._name, self._key, self._updated_at = source.name, source.key or "", source.updated_at
        self._keys: dict[str, Any] = {}
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
            for row in connection.execution_options(yield_per=_ROWS).execute(wanted).mappings():
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
            for row in connection.execute(wanted).mappings():
                yield Record(dict(row), f"{self._name} {self._key} {key}")

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection that never commits. Raises StreamError."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StreamError(
                f"{self._name}: {self._engine.url.render_as_string()} cannot be read: {reason}"
            ) from None
