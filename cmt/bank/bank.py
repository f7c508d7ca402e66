"""The memory bank on LanceDB: upsert memories, search them as of a date, restore versions.

One table holds the memories of one compressor. The pointer table `current` names the table that
answers, so a new compressor fills its own table and takes over in one step. Every change of
memories is one Lance commit, and a Bank reads the newest version, except one of `Bank.at`.
Processes may write different documents concurrently; the caller serialises writes of the same
documents.
"""

from collections.abc import Collection, Iterator
from typing import cast

import lancedb
import pyarrow as pa
from lancedb.table import LanceTable

from cmt.bank import _indexes, _lookup, maintenance
from cmt.bank._lookup import read_content, related_versions
from cmt.bank._merge import upsert, versions_of
from cmt.bank._search import SearchableTable
from cmt.bank._writing import Counts, change_documents
from cmt.bank.integrity import CHECKSUM_FIELD, content_schema
from cmt.bank.location import BankLocation
from cmt.bank.schema import check_schema, conform, schema_value
from cmt.bank.tables import (
    MEMORIES,
    active_compressor,
    connect,
    current_table,
    memory_tables,
    one_of,
    open_or_create_table,
    open_table,
    read_all,
    set_current_table,
    table_name,
    translate_errors,
)
from cmt.common.arrow import replace_column, rows_with
from cmt.errors import BankError
from cmt.timeline import Timeline, Version


def open_bank(
    location: BankLocation, *, schema: pa.Schema | None = None, compressor: str | None = None
) -> "Bank":
    """Open the bank of a compressor at `location`; by default of the compressor that answers.

    `compressor`: the digest, or its first 12 digits. `schema`: that of the compressor's rows; the
    bank is created if it is missing. The first bank at an address becomes the current one. Raises
    BankError if there is no bank, if it was written with another schema, or if it cannot be read.
    """
    uri = location.uri
    with translate_errors(f"bank {uri} cannot be opened"):
        # 1. The table.
        if schema is not None:
            connection, name = lancedb.connect(uri), table_name(schema_value(schema, "compressor"))
            table = open_or_create_table(connection, name, schema.append(CHECKSUM_FIELD))
        else:
            connection = connect(uri)
            name = table_name(compressor or active_compressor(connection))
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
    """Open the banks of all compressors at `location`. Raises BankError if there is none or one
    cannot be opened.
    """
    for name in memory_tables(connect(location.uri)):
        yield open_bank(location, compressor=name.removeprefix(MEMORIES))


class Bank(SearchableTable):
    """The memories of one compressor to search and to change; open one with `open_bank`.

    Methods raise BankError if the table cannot be read or written.
    """

    def excluding(self, doc_ids: Collection[str]) -> "Bank":
        """This bank, with `doc_ids` left out of every search instead of `excluded_doc_ids`."""
        excluded = frozenset(doc_ids)
        return Bank(
            self.location,
            self.connection,
            self._table,
            excluded_doc_ids=excluded,
            pinned=self._pinned,
        )

    def at(self, version: int) -> "Bank":
        """This bank as it was at `version`, to read. Raises BankError if `version` is not kept."""
        self.check_version(version)
        with self.reading():
            table = cast(LanceTable, self.connection.open_table(self.name))
            table.checkout(version)
        return Bank(
            self.location,
            self.connection,
            table,
            excluded_doc_ids=self.excluded_doc_ids,
            pinned=True,
        )

    def make_current(self) -> None:
        """Let this bank answer, in one commit."""
        with self.writing():
            set_current_table(self.connection, self.name)

    # Writing

    def upsert(self, rows: pa.Table, *, unbanked: Collection[Version] = ()) -> Counts:
        """Insert new rows and replace those whose text changed.

        1. `rows` follows bank_schema and has whole documents.
        2. A document that is stored with another date keeps both versions, in either order of
           writing. Of two versions with one date, the bank keeps the version of the later slice.
        3. `cmt.timeline` computes the visibility of the rows, and of the rows that depend on them,
           given `unbanked`, the versions of the stream that the bank lacks. It ignores what `rows`
           says.
        4. An upsert that changes nothing makes no version.

        Raises BankError if `rows` is invalid, and DamageError if a stored row that has to be
        written again is damaged; the bank is then unchanged.
        """
        rows = conform(rows, self.schema)

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            changed, renamed, gone = upsert(rows, stored)
            with self.reading():
                earlier = read_content(self._table, set(renamed))
            ids = [renamed[memory_id] for memory_id in earlier["memory_id"].to_pylist()]
            return pa.concat_tables([changed, replace_column(earlier, "memory_id", ids)]), gone

        doc_ids = set(rows["doc_id"].to_pylist())
        return change_documents(self, doc_ids, plan, written=versions_of(rows), unbanked=unbanked)

    def remove(self, doc_ids: Collection[str], *, unbanked: Collection[Version] = ()) -> int:
        """Delete documents in one commit; returns how many rows they had.

        What they superseded becomes current again, unless they are in `unbanked` and named by
        another document. Earlier versions keep the documents, and files keep deleted rows, until
        `purge_history`.
        """
        none = self.schema.empty_table()
        counts = change_documents(
            self,
            set(doc_ids),
            lambda stored: (none, rows_with(stored, "doc_id", doc_ids)),
            unbanked=unbanked,
        )
        return counts.deleted

    def update_visibility(self, doc_ids: Collection[str], *, unbanked: Collection[Version]) -> None:
        """Recompute from when to when the versions of documents are visible, given `unbanked`, in
        one commit.
        """
        none = self.schema.empty_table()
        change_documents(
            self, set(doc_ids), lambda stored: (none, stored.slice(0, 0)), unbanked=unbanked
        )

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
        commits = 1 + _indexes.mend_text(self)
        if digest is not None and self.version == before + commits:
            self.digests.write(self.version, digest)

    def check_version(self, version: int) -> None:
        """Raise BankError if `version` was dropped or never existed."""
        kept = self.kept_versions()
        if version not in kept:
            raise BankError(
                f"bank {self.location.uri} has no version {version}: it keeps {min(kept)} to "
                f"{max(kept)}, older ones were dropped by `cmt bank optimize --keep-days` or `cmt "
                "forget --purge`"
            )

    # Reading; the first four are functions of `cmt.bank._lookup`

    documents, memories_of, sample = _lookup.documents, _lookup.memories_of, _lookup.sample
    connected = _lookup.connected

    def present(self, doc_ids: Collection[str]) -> set[str]:
        """The `doc_ids` that the bank has a memory of."""
        if not doc_ids:
            return set()
        with self.reading():
            rows = read_all(self.latest(), one_of("doc_id", doc_ids), ["doc_id"])
        return set(rows["doc_id"].to_pylist())

    def replaced_by(self, new: Collection[Version], *, unbanked: Collection[Version]) -> set[str]:
        """The documents that the versions `new` would hide in this bank; `unbanked` as in
        `upsert`.
        """
        doc_ids = {version.doc_id for version in new}
        with self.reading():
            stored = versions_of(related_versions(self.latest(), doc_ids, [*new, *unbanked]))
        replaced = Timeline([*stored, *new, *unbanked]).replaced
        return {doc_id for version in new for doc_id in replaced.get(version[:2], ())}

    def digest(self) -> str:
        """The RowsDigest of all rows as text: 64 digits and the number of rows.

        It is recorded with each change. Without a record, all rows are read.
        """
        recorded = self.digests.at(self.version)
        return str(self.compute_digest()[1] if recorded is None else recorded)

    # Maintenance: the functions of `cmt.bank.maintenance`

    audit, stats = maintenance.audit, maintenance.stats
    optimize, purge_history = maintenance.compact, maintenance.purge_history
