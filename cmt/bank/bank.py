"""The memory bank on LanceDB: upsert memories, search them as of a date, restore versions.

One table holds the memories of one compressor. The pointer table `current` names the table that answers, so a new
compressor fills its own table and takes over in one step. Every change of memories is one Lance commit, and a Bank
always reads the newest version. Processes may write different documents concurrently; the caller serialises writes of
the same documents.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import LanceTable

from cmt.bank import indexes, maintenance, search
from cmt.bank.integrity import CHECKSUM_FIELD, content_schema
from cmt.bank.location import BankLocation
from cmt.bank.memory_table import MemoryTable
from cmt.bank.merge import upsert, versions_of
from cmt.bank.schema import check_schema, conform, schema_value
from cmt.bank.tables import (
    FOREVER,
    MEMORIES,
    active_table,
    connect,
    current_table,
    memory_tables,
    one_of,
    open_or_create_table,
    open_table,
    set_current_table,
    table_name,
    translate_errors,
)
from cmt.bank.writing import Counts, change_documents
from cmt.common.arrow import replace_column, rows_with
from cmt.common.visibility import Timeline, Version
from cmt.errors import BankError

_KEYS = 256  # keys that are searched at once


def open_bank(location: BankLocation, *, schema: pa.Schema | None = None, compressor: str | None = None) -> "Bank":
    """Open the bank of a compressor at `location`; by default of the one that answers.

    `compressor`: the digest, or its first 12 digits. `schema`: that of the compressor's rows; the bank is created if it
    is missing. The first bank at an address becomes the current one. Raises BankError if there is no bank, if it was
    written with another schema, or if it cannot be read.
    """
    uri = location.uri
    with translate_errors(f"bank {uri} cannot be opened"):
        # 1. The table.
        if schema is not None:
            connection, name = lancedb.connect(uri), table_name(schema_value(schema, "compressor"))
            table = open_or_create_table(connection, name, schema.append(CHECKSUM_FIELD))
        else:
            connection = connect(uri)
            name = table_name(compressor) if compressor else active_table(connection)
            if (existing := open_table(connection, name)) is None:
                raise BankError(f"bank {uri} has no table {name}: run `cmt update --all`")
            table = existing
        check_schema(content_schema(table.schema), schema, f"bank {uri}")
        # 2. The pointer.
        bank = Bank(location, connection, table)
        if memory_tables(connection) == [table.name] and current_table(connection) is None:
            bank.make_current()
    return bank


def open_banks(location: BankLocation) -> Iterator["Bank"]:
    """Open the banks of all compressors at `location`. Raises BankError if there is none or one cannot be opened."""
    for name in memory_tables(connect(location.uri)):
        yield open_bank(location, compressor=name.removeprefix(MEMORIES))


class Bank(MemoryTable):
    """The memories of one compressor to search and to change; open one with `open_bank`.

    Searches leave out the documents `excluded_doc_ids`. Methods raise BankError if the table cannot be read or written.
    """

    def __init__(
        self,
        location: BankLocation,
        connection: DBConnection,
        table: LanceTable,
        *,
        excluded_doc_ids: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(location, connection, table)
        self.excluded_doc_ids = excluded_doc_ids

    def excluding(self, doc_ids: Collection[str]) -> "Bank":
        """This bank, with `doc_ids` left out of every search instead of `excluded_doc_ids`."""
        return Bank(self.location, self.connection, self._table, excluded_doc_ids=frozenset(doc_ids))

    def make_current(self) -> None:
        """Let this bank answer, in one commit."""
        with self.writing():
            set_current_table(self.connection, self.name)

    # Writing

    def upsert(self, rows: pa.Table, *, unbanked: Collection[Version] = ()) -> Counts:
        """Insert new rows and replace those whose text changed; `rows` follows bank_schema and has whole documents.

        Their visibility, and that of the rows which depend on them, is computed by `cmt.common.visibility`; its values
        in `rows` are ignored. `unbanked`: versions of the stream that the bank lacks. A document that is stored with
        another date keeps both versions, in either order of writing. Of two versions with one date the one of the later
        slice is stored. An upsert that changes nothing makes no version. Raises BankError if `rows` is invalid, and
        DamageError if a stored row that has to be written again is damaged; the bank is then unchanged.
        """
        rows = conform(rows, self.schema)

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            changed, renamed, gone = upsert(rows, stored)
            with self.reading():
                earlier = search.read_content(self._table, set(renamed))
            ids = [renamed[memory_id] for memory_id in earlier["memory_id"].to_pylist()]
            return pa.concat_tables([changed, replace_column(earlier, "memory_id", ids)]), gone

        doc_ids = set(rows["doc_id"].to_pylist())
        return change_documents(self, doc_ids, plan, written=versions_of(rows), unbanked=unbanked)

    def remove(self, doc_ids: Collection[str], *, unbanked: Collection[Version] = ()) -> int:
        """Delete documents in one commit; returns how many rows they had.

        What they superseded becomes current again, unless they are in `unbanked` and named by another document.
        Earlier versions keep the documents, and files keep deleted rows, until `purge_history`.
        """

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            return self.schema.empty_table(), rows_with(stored, "doc_id", doc_ids)

        return change_documents(self, set(doc_ids), plan, written=(), unbanked=unbanked).deleted

    def update_visibility(self, doc_ids: Collection[str], *, unbanked: Collection[Version]) -> None:
        """Recompute from when to when the versions of documents are visible, given `unbanked`, in one commit."""

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            return self.schema.empty_table(), stored.slice(0, 0)

        change_documents(self, set(doc_ids), plan, written=(), unbanked=unbanked)

    def restore(self, version: int) -> None:
        """Bring back the rows of `version`, with a full-text index, as a new version.

        Raises BankError if `version` is not kept.
        """
        self.check_version(version)
        table = self.latest()
        if version == table.version:
            return
        before, digest = table.version, self.digests.at(version)
        with self.writing():
            table.restore(version)
        commits = 1 + indexes.mend_text(self)
        if digest is not None and self.version == before + commits:
            self.digests.write(self.version, digest)

    def check_version(self, version: int) -> None:
        """Raise BankError if `version` was dropped or never existed."""
        kept = self.kept_versions()
        if version not in kept:
            raise BankError(
                f"bank {self.location.uri} has no version {version}: it keeps {min(kept)} to {max(kept)}, "
                "older ones were dropped by `cmt bank optimize --keep-days` or `cmt forget --purge`"
            )

    def optimize(self, *, keep: timedelta = FOREVER) -> None:
        """Rebuild the indexes, compact the files, and drop versions older than `keep`, which cannot be restored then.

        A large bank also gets the vector index and the indexes for exact values. Takes time in proportion to the bank.
        `keep` is at least 1 ms, or readers lose the version that they read.
        """
        maintenance.compact(self, keep=keep)

    # Reading

    def present(self, doc_ids: Collection[str]) -> set[str]:
        """The `doc_ids` that the bank has a memory of."""
        if not doc_ids:
            return set()
        with self.reading():
            rows = search.read_rows(self.latest(), ["memory_id", "doc_id"], one_of("doc_id", doc_ids))
        return set(rows["doc_id"].to_pylist())

    def documents(self, doc_ids: set[str]) -> pa.Table:
        """The rows of these documents as they are now, superseded ones included; like `search`, without scores."""
        with self.reading():
            return search.documents(self.latest(), doc_ids=doc_ids - self.excluded_doc_ids)

    def memories(self, memory_ids: set[str], *, key: np.ndarray, as_of: datetime | None) -> pa.Table:
        """The rows with these ids that are visible at `as_of`; like `search` for `key` (p,), without text."""
        with self.reading():
            view = search.View(1, as_of, self.excluded_doc_ids)
            return search.memories(self.latest(), view, memory_ids, key=key)

    def later(self, memory_id: str, *, key: np.ndarray, k: int, as_of: datetime | None) -> pa.Table:
        """The memories most like `memory_id` that were published after it, at most k by key and k by words.

        The result is like that of `search` for `key` (p,), with the best matches of words first.
        """
        with self.reading():
            table = self.latest()
            view = search.View(k, as_of, self.excluded_doc_ids)
            return search.later(table, view, memory_id, key=key, large=self.is_large(table))

    def replaced_by(self, new: Collection[Version], *, unbanked: Collection[Version]) -> set[str]:
        """The documents that the versions `new` would hide in this bank; `unbanked` as in `upsert`."""
        doc_ids = {version.doc_id for version in new}
        with self.reading():
            stored = versions_of(search.related_versions(self.latest(), doc_ids, [*new, *unbanked]))
        replaced = Timeline([*stored, *new, *unbanked]).replaced
        return {doc_id for version in new for doc_id in replaced.get(version[:2], ())}

    def memories_of(self, texts: Collection[str]) -> pa.Table:
        """The rows (bank_schema) of one version of a document for each title and text; `texts`: SHA-256 of texts."""
        with self.reading():
            return search.memories_of(self.latest(), texts)

    def with_all_words(self, text: str) -> list[str]:
        """The doc_ids of the documents that have every word of `text` in one memory, superseded ones included.

        Best first. A bank without texts has none.
        """
        with self.reading():
            memory_ids = search.with_all_words(self.latest(), text)
        rows = self.rows(["memory_id", "doc_id"], set(memory_ids))
        doc_ids = dict(zip(rows["memory_id"].to_pylist(), rows["doc_id"].to_pylist(), strict=True))
        return list(dict.fromkeys(doc_ids[memory_id] for memory_id in memory_ids))

    def search(self, *, key: np.ndarray, text: str | None, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` rows nearest to `key` (p,) and, with `text`, the `k` best for its words; most similar first.

        Columns: those of SearchRow without `prior`. `similarity` is the cosine of the keys. `bm25` is 0 if the row has
        no word of `text`; word statistics are those of the whole bank at any `as_of`. Only rows visible at `as_of` are
        returned: published by then and not yet superseded; None means now. Raises BankError if `key` does not
        fit and ConfigError if `as_of` has no time zone.
        """
        with self.reading():
            table = self.latest()
            view = search.View(k, as_of, self.excluded_doc_ids)
            return search.search(table, view, key=key, text=text, large=self.is_large(table))

    def search_each(
        self, *, keys: np.ndarray, texts: Sequence[str], k: int, as_of: Sequence[datetime]
    ) -> list[pa.Table]:
        """For each of `keys` (n, p), with its text and its date, the result of `search` without the column `bm25`.

        Takes a fraction of the time of n searches, and memory for up to 2·n·k rows.
        """
        with self.reading():
            table = self.latest()
            views = [search.View(k, date, self.excluded_doc_ids) for date in as_of]
            return search.search_each(table, views, keys=keys, texts=texts, large=self.is_large(table))

    def full_text(self, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` best rows for the words of `text` by BM25, best first; like `search`, without `similarity`."""
        with self.reading():
            table = self.latest()
            view = search.View(k, as_of, self.excluded_doc_ids)
            return search.full_text(table, view, text=text, large=self.is_large(table))

    def nearest(self, keys: np.ndarray, *, k: int) -> dict[str, set[int]]:
        """memory_id → the indices of `keys` (n, p) that have it among their `k` nearest current memories."""
        found: dict[str, set[int]] = {}
        with self.reading():
            table = self.latest()
            large = self.is_large(table)
            for start in range(0, len(keys), _KEYS):
                for index, memory_id in search.nearest(table, keys=keys[start : start + _KEYS], k=k, large=large):
                    found.setdefault(memory_id, set()).add(start + index)
        return found

    def digest(self) -> str:
        """The RowsDigest of all rows as text: 64 digits and the number of rows.

        It is recorded with each change. Without a record, all rows are read.
        """
        recorded = self.digests.at(self.version)
        return str(self.compute_digest()[1] if recorded is None else recorded)

    # Maintenance: the functions of `cmt.bank.maintenance`

    audit, stats, purge_history = maintenance.audit, maintenance.stats, maintenance.purge_history
