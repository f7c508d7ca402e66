"""A LanceDB table of memories: rows, versions, digest, undoing of unreadable writes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import LanceTable

from cmt.bank._digests import RecordedDigests
from cmt.bank.integrity import content_schema
from cmt.bank.location import BankLocation
from cmt.bank.schema import VERSION_COLUMNS, RowsDigest
from cmt.bank.tables import one_of, read_all, translate_errors
from cmt.errors import BankError

_BATCH = 1024  # rows that are read at once for the digest


class MemoryTable:
    """The memories of one compressor; methods raise BankError if they cannot be read.

    They see the newest version, or with `pinned` the version at which `table` is checked out.
    """

    def __init__(
        self,
        location: BankLocation,
        connection: DBConnection,
        table: LanceTable,
        *,
        excluded_doc_ids: frozenset[str] = frozenset(),
        pinned: bool = False,
    ) -> None:
        self.location = location
        self.connection = connection
        self._table = table
        self._pinned = pinned
        self.excluded_doc_ids = excluded_doc_ids
        # kept, because asking LanceDB takes a millisecond, and each answer needs it
        self.schema = content_schema(table.schema)
        """Schema of the rows without their checksums; its metadata has schema_version, codes, dim
        and compressor.
        """
        self.digests = RecordedDigests(connection, table.name)

    @property
    def name(self) -> str:
        """Name of the LanceDB table."""
        return self._table.name

    @property
    def version(self) -> int:
        """Number of the version that the methods see."""
        return self.latest().version

    def latest(self) -> LanceTable:
        """The LanceDB table at the version that the methods see."""
        if not self._pinned:
            with self.reading():
                self._table.checkout_latest()  # type: ignore[no-untyped-call]
        return self._table

    def version_and_rows(self) -> tuple[int, int]:
        """`version` and its number of rows."""
        with self.reading():
            table = self.latest()
            return table.version, table.count_rows()

    def count_rows(self) -> int:
        """Number of rows."""
        return self.version_and_rows()[1]

    def is_large(self, table: LanceTable) -> bool:
        """Whether searches of `table` use a vector index."""
        return bool(table.count_rows() >= self.location.exact_below)

    def kept_versions(self) -> list[int]:
        """Numbers of the versions that can be restored."""
        with self.reading():
            return [entry["version"] for entry in self.latest().list_versions()]

    def rows(self, columns: Sequence[str], ids: set[str] | None = None) -> pa.Table:
        """`columns` of the rows with the memory_ids `ids` (None: of all rows), sorted by
        memory_id.
        """
        with self.reading():
            condition = None if ids is None else one_of("memory_id", ids)
            return read_all(self.latest(), condition, columns).sort_by("memory_id")

    def sorted_batches(self) -> Iterator[pa.Table]:
        """All rows sorted by memory_id, in tables of `_BATCH` rows, with their checksums."""
        table = self.latest()
        found = (
            table.search()
            .select(["memory_id"])
            .with_row_id(True)
            .limit(max(table.count_rows(), 1))
            .to_arrow()
        )
        row_ids = found.sort_by("memory_id")["_rowid"].to_pylist()
        for start in range(0, len(row_ids), _BATCH):
            batch = (
                table.take_row_ids(row_ids[start : start + _BATCH])
                .select(table.schema.names)
                .to_arrow()
            )
            yield batch.sort_by("memory_id")

    def compute_digest(self) -> tuple[int, RowsDigest]:
        """The newest version and its digest, from all rows."""
        with self.reading():
            digest = RowsDigest()
            for batch in self.sorted_batches():
                digest += RowsDigest.of(batch.select(self.schema.names))
            return self._table.version, digest

    def read_or_undo(self, before: int, memory_ids: set[str] | None = None) -> None:
        """Read the rows that a write changed (None: all). If that fails, restore version `before`
        and raise BankError.

        Lance 0.40 commits a file although its last bytes could not be written. The last bytes of a
        data file locate its columns, so none can be read then; the lists of deleted rows are read
        with any column.
        """
        try:
            self.rows(VERSION_COLUMNS, memory_ids)
        except BankError:
            if self.latest().version > before:
                with self.writing():
                    self._table.restore(before)
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise the errors of LanceDB as BankError."""
        with translate_errors(f"bank {self.location.uri} cannot be read"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Check the lease, and raise the errors of LanceDB as BankError."""
        remedy = "check free space and rights, also of the temporary folder (TMPDIR), then repeat"
        with translate_errors(f"bank {self.location.uri} cannot be written", remedy):
            if self.location.check_lease:
                self.location.check_lease()
            yield
