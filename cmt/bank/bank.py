"""The memory bank on LanceDB: upsert memories, search them as of a date, restore versions.

One table holds the memories of one compressor. The pointer table `current` names the table that answers, so a new
compressor fills its own table and takes over in one step. Every change of memories is one Lance commit, and a Bank
always reads the newest version. Processes may write different documents concurrently; writes of the same documents
need to be serialised by the caller.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.db import DBConnection
from lancedb.index import FTS, BTree, IvfSq
from lancedb.table import LanceTable

from cmt.bank import search
from cmt.bank.digests import RecordedDigests
from cmt.bank.integrity import (
    DELETIONS,
    FIELD,
    altered_indexes,
    content_schema,
    seal_files,
    seal_indexes,
    sealed_columns,
    unmatched,
    with_checksums,
)
from cmt.bank.merge import misdated, upsert
from cmt.bank.schema import (
    VERSION_COLUMNS,
    RowsDigest,
    check_schema,
    conform,
    id_problems,
    key_matrix,
    mean_cosine,
    row_problems,
    schema_value,
)
from cmt.bank.search import (
    memory_id_in,
    probe_key_index,
    probe_text_index,
    read_content,
    read_rows,
    related_versions,
)
from cmt.bank.tables import (
    MEMORIES,
    WriteConflict,
    connect,
    current_table,
    memory_tables,
    open_or_create_table,
    open_table,
    set_current_table,
    translate_errors,
)
from cmt.common.arrow import replace_column, rows_with, rows_without
from cmt.errors import BankError, ConfigError

FOREVER = timedelta(days=36_500)
_MAX_ATTEMPTS = 20  # commits that are tried while other processes write
_BATCH = 1024  # rows that are read at once for the digest
_KEYS = 256  # keys that are searched at once
_LOOKED_UP = ("memory_id", "doc_id", "supersedes")  # columns with an index for exact values
_UNINDEXED = 1000  # rows without an index that a search of a large bank reads one by one, in some 20 ms
_PROBES = 64  # texts, or keys, that an index is searched for to see whether it is sound


@dataclass(frozen=True)
class UpsertResult:
    """What an upsert wrote."""

    version: int
    """Version of the bank after the upsert."""
    inserted: int
    """New rows."""
    updated: int
    """Rewritten rows: their text changed, or this upsert superseded their document."""


class Audit(NamedTuple):
    """What reading every row of a bank found."""

    problems: list[str]
    """What is wrong with rows, one sentence each; empty if nothing is."""
    index_problem: str | None
    """What is wrong with an index."""
    digest: str
    """See `Bank.digest`."""
    rows: int
    slices: list[str]
    """slice_ids of the rows that do not match their checksums, sorted."""


class _MergeResult(Protocol):
    """What a LanceDB merge did."""

    version: int
    num_inserted_rows: int
    num_updated_rows: int
    num_deleted_rows: int


class _Change(NamedTuple):
    """What one commit did."""

    merge: _MergeResult
    memory_ids: set[str]
    """The rows that it concerned."""
    removed: RowsDigest | None
    """Digest of the rows that are not there any more, or not so; None if it is unknown."""
    added: RowsDigest
    """Digest of the rows as they are now."""


class Bank:
    """One table of memories; use `Bank.open` to create one.

    Methods raise BankError if the table cannot be read or written.
    """

    def __init__(
        self,
        *,
        uri: str,
        connection: DBConnection,
        table: LanceTable,
        exact_below: int,
        check_lease: Callable[[], None] | None = None,
    ) -> None:
        self._uri = uri
        self._check_lease = check_lease
        self._connection = connection
        self._table = table
        self._schema = content_schema(table.schema)  # asking LanceDB takes a millisecond, and each answer needs it
        self._exact_below = exact_below
        self._digests = RecordedDigests(connection, table.name)
        self.hidden: frozenset[str] = frozenset()
        """doc_ids that searches leave out: those whose forgetting was announced and is not finished, and for a
        canary those of the round's slice."""

    @classmethod
    def open(
        cls,
        *,
        uri: str,
        schema: pa.Schema | None = None,
        exact_below: int = 10_000,
        check_lease: Callable[[], None] | None = None,
    ) -> "Bank":
        """Open the current bank at `uri`, or with `schema` the bank of that compressor, created if missing.

        The first bank at an address becomes the current one. From `exact_below` rows on, searches use a vector index.
        `check_lease` is called before every write. Raises BankError if there is no bank, if it was written with another
        schema, or if it cannot be read.
        """
        with translate_errors(f"bank {uri} cannot be opened"):
            connection = connect(uri) if schema is None else lancedb.connect(uri)
            name = current_table(connection) if schema is None else _table_name(schema)
            table = open_table(connection, name) if name else None
            if table is None and schema is not None:
                table = open_or_create_table(connection, _table_name(schema), schema.append(FIELD))
            if table is None:
                raise BankError(f"bank {uri} does not say which compressor answers: run `cmt update --all`")
            check_schema(content_schema(table.schema), schema, f"bank {uri}")
            bank = cls(uri=uri, connection=connection, table=table, exact_below=exact_below, check_lease=check_lease)
            if memory_tables(connection) == [table.name] and current_table(connection) is None:
                bank.promote()
        return bank

    @classmethod
    def open_all(
        cls, *, uri: str, exact_below: int = 10_000, check_lease: Callable[[], None] | None = None
    ) -> "Iterator[Bank]":
        """The banks of all compressors at `uri`. Raises BankError if there is none or one cannot be opened."""
        for name in memory_tables(connect(uri)):
            yield cls.open_table(uri=uri, name=name, exact_below=exact_below, check_lease=check_lease)

    @classmethod
    def open_table(
        cls, *, uri: str, name: str, exact_below: int = 10_000, check_lease: Callable[[], None] | None = None
    ) -> "Bank":
        """The bank in the table `name` at `uri`. Raises BankError if it cannot be opened."""
        with translate_errors(f"table {name} of bank {uri} cannot be opened"):
            schema = content_schema(lancedb.connect(uri).open_table(name).schema)
        return cls.open(uri=uri, schema=schema, exact_below=exact_below, check_lease=check_lease)

    @property
    def connection(self) -> DBConnection:
        """The LanceDB connection, for tables beside the bank."""
        return self._connection

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows, without their checksums; its metadata has schema_version, codes, dim and compressor."""
        return self._schema

    @property
    def name(self) -> str:
        """Name of the LanceDB table."""
        return self._table.name

    @property
    def version(self) -> int:
        """Number of the newest version."""
        with self._reading():
            return self._latest().version

    def version_and_rows(self) -> tuple[int, int]:
        """Number of the newest version and its number of rows."""
        with self._reading():
            table = self._latest()
            return table.version, table.count_rows()

    @property
    def answering(self) -> str:
        """First 12 digits of the compressor whose bank is the current one; another process may have promoted it.

        Raises BankError if there is no bank any more.
        """
        with self._reading():
            name = current_table(self._connection)
        if name is None:
            raise BankError(f"bank {self._uri} does not say which compressor answers: run `cmt update --all`")
        return name.removeprefix(MEMORIES)

    def promote(self) -> None:
        """Make this bank the current one, in one commit."""
        with self._writing():
            set_current_table(self._connection, self.name)

    # Writing

    def upsert(self, rows: pa.Table) -> UpsertResult:
        """Insert new rows and replace those whose text changed; `rows` follows bank_schema and has whole documents.

        superseded_at is computed for these rows and for those that they supersede; its values in `rows` are ignored. A
        document that is stored with another date keeps both versions, the earlier one for questions as of its time,
        whichever is written first. With the same date the stored version is replaced. An upsert that changes nothing
        makes no version. Raises BankError if `rows` is invalid, and DamageError if a stored row that has to be written
        again is damaged; the bank is then unchanged.
        """
        rows = conform(rows, self.schema)

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            changes = upsert(rows, stored)
            with self._reading():
                earlier = read_content(self._table, set(changes.renamed))
            ids = [changes.renamed[memory_id] for memory_id in earlier["memory_id"].to_pylist()]
            return pa.concat_tables([changes.rows, replace_column(earlier, "memory_id", ids)]), changes.gone

        targets = set(rows["supersedes"].drop_null().to_pylist())
        inserted, updated, _ = self._change(set(rows["doc_id"].to_pylist()), targets, plan)
        return UpsertResult(version=self.version, inserted=inserted, updated=updated)

    def forget(self, doc_id: str) -> int:
        """As `remove`, for one document; raises BankError if it is not in the bank."""
        deleted = self.remove({doc_id})
        if not deleted:
            raise BankError(f"document {doc_id!r} is not in bank {self._uri}: nothing was forgotten")
        return deleted

    def remove(self, doc_ids: Collection[str]) -> int:
        """Delete documents in one commit; what they superseded becomes current again. Returns how many rows they had.

        Earlier versions keep the documents, and files keep deleted rows, until `rewrite`.
        """
        nothing = self.schema.empty_table()

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            return nothing, rows_with(stored, "doc_id", doc_ids)

        *_, deleted = self._change(set(doc_ids), (), plan)
        return deleted

    def rewrite(self) -> None:
        """Write all rows and indexes to new files and delete every other file, with all earlier versions.

        Takes as long as the bank is large. `optimize` alone leaves deleted rows in the files of their neighbours. No
        other process may write meanwhile.
        """
        table = self._latest()
        with self._writing():
            rows = pa.RecordBatchReader.from_batches(
                table.schema,
                (batch for rows in self._sorted_batches() for batch in rows.cast(table.schema).to_batches()),
            )
            before = table.version
            table.add(rows, mode="overwrite")
        self._read_all_or_undo(before)
        self._compact(timedelta(milliseconds=1), unfinished=True)

    def restore(self, version: int) -> None:
        """Bring back the rows of `version` as a new version. Raises BankError if `version` is not kept."""
        self.check_version(version)
        table = self._latest()
        if version == table.version:
            return
        before, digest = table.version, self._digests.at(version)
        with self._writing():
            table.restore(version)
        if digest is not None and table.version == before + 1:
            self._digests.write(table.version, digest)

    def check_version(self, version: int) -> None:
        """Raise BankError if `version` was dropped or never existed."""
        with self._reading():
            kept = [entry["version"] for entry in self._latest().list_versions()]
        if version not in kept:
            raise BankError(
                f"bank {self._uri} has no version {version}: it keeps {min(kept)} to {max(kept)}, "
                "older ones were dropped by `cmt bank optimize --keep-days` or `cmt forget --purge`"
            )

    def optimize(self, *, keep: timedelta = FOREVER) -> None:
        """Rebuild the indexes, compact the files, and drop versions older than `keep`, which cannot be restored then.

        From `exact_below` rows on this also builds the vector index and those for exact values. Takes as long as the
        bank is large. Raises ConfigError if `keep` is under 1 ms.
        """
        if keep < timedelta(milliseconds=1):
            raise ConfigError(f"keep is {keep}: keep at least a millisecond, or readers lose the version they read")
        self._compact(keep)

    def _compact(self, keep: timedelta, *, unfinished: bool = False) -> None:
        """As `optimize`. `unfinished`: also delete the files of writes that never became a version."""
        # 1. The indexes first, because the compaction reads them and would fail on a damaged one. All altered ones are
        #    replaced before Lance lists any, for that may end the process.
        if altered := self._altered_indexes():
            self._index_keys(again=True)
        self._index_text()
        self._index_values()
        self._index_keys()
        for folder in altered:
            shutil.rmtree(folder, ignore_errors=True)
        # 2. Compaction, and when its result can be read, the clean-up.
        before = self.version
        with self._writing():
            self._latest().optimize(cleanup_older_than=FOREVER)
        self._read_all_or_undo(before)
        with self._writing():
            self._latest().optimize(cleanup_older_than=keep, delete_unverified=unfinished)
        if not self._text_is_indexed():
            self._index_text()
        self._seal()
        # 3. The digest, and those of the versions that are kept.
        version, digest = self._compute_digest()
        with self._reading():
            kept = [entry["version"] for entry in self._latest().list_versions()]
        self._digests.write(version, digest)
        self._digests.keep(kept)

    # Reading

    def count_rows(self) -> int:
        """Number of rows."""
        with self._reading():
            return self._latest().count_rows()

    def has(self, doc_id: str) -> bool:
        """Whether the bank has a memory of the document."""
        return bool(self.present({doc_id}))

    def present(self, doc_ids: Collection[str]) -> set[str]:
        """Those of `doc_ids` that the bank has a memory of."""
        with self._reading():
            return search.present(self._latest(), doc_ids)

    def with_all_words(self, text: str) -> list[str]:
        """The doc_ids of the documents that have every word of `text` in one memory, superseded ones included.

        Best first. A bank without texts has none.
        """
        with self._reading():
            memory_ids = search.with_all_words(self._latest(), text)
        rows = self.rows(["memory_id", "doc_id"], set(memory_ids))
        doc_ids = dict(zip(rows["memory_id"].to_pylist(), rows["doc_id"].to_pylist(), strict=True))
        return list(dict.fromkeys(doc_ids[memory_id] for memory_id in memory_ids))

    def rows(self, columns: Sequence[str], ids: set[str] | None = None) -> pa.Table:
        """`columns` of the rows with the memory_ids `ids` (None: of all rows), sorted by memory_id."""
        with self._reading():
            return read_rows(self._latest(), list(columns), ids)

    def search(self, *, key: np.ndarray, text: str | None, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` rows nearest to `key` (p,) and, with `text`, the `k` best for its words; most similar first.

        Columns: those of SearchRow without `prior`. `similarity` is the cosine of the keys. `bm25` is 0 if the row has
        no word of `text`; word statistics are those of the whole bank at any `as_of`. Only rows visible at `as_of` are
        returned: published by then and not yet superseded; None means now. Raises BankError if `key` does not
        fit and ConfigError if `k` < 1 or `as_of` has no time zone.
        """
        with self._reading():
            table = self._latest()
            large = self._is_large(table)
            return search.search(table, key=key, text=text, k=k, as_of=as_of, large=large, hidden=self.hidden)

    def full_text(self, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` best rows for the words of `text` by BM25, best first; like `search`, without `similarity`."""
        with self._reading():
            table = self._latest()
            large = self._is_large(table)
            return search.full_text(table, text=text, k=k, as_of=as_of, large=large, hidden=self.hidden)

    def nearest(self, keys: np.ndarray, *, k: int) -> dict[str, set[int]]:
        """memory_id → the places of those of `keys` (n, p) that have it among their `k` nearest current memories."""
        found: dict[str, set[int]] = {}
        with self._reading():
            table = self._latest()
            for start in range(0, len(keys), _KEYS):
                block = keys[start : start + _KEYS]
                for place, memory_id in search.nearest(table, keys=block, k=k, large=self._is_large(table)):
                    found.setdefault(memory_id, set()).add(start + place)
        return found

    def documents(self, doc_ids: set[str]) -> pa.Table:
        """The rows of these documents as they are now, superseded ones included; like `search`, without scores."""
        with self._reading():
            return search.documents(self._latest(), doc_ids=doc_ids - self.hidden)

    def digest(self) -> str:
        """The RowsDigest of all rows as text: 64 digits and the number of rows.

        It is recorded with each change. Where it is not, all rows are read.
        """
        recorded = self._digests.at(self.version)
        return str(self._compute_digest()[1] if recorded is None else recorded)

    def audit(self) -> Audit:
        """Read every row, and a sample of the full-text index, and report what is wrong with them."""
        problems: list[str] = []
        slices: set[str] = set()
        # 1. Each row by itself, and the digest of all.
        digest = RowsDigest()
        with self._reading():
            for batch in self._sorted_batches():
                content = batch.select(self.schema.names)
                digest += RowsDigest.of(content)
                wrong = unmatched(batch)
                problems += [f"memory {name!r} does not match its checksum" for name in wrong["memory_id"].to_pylist()]
                problems += row_problems(content, self.schema)
                slices.update(wrong["slice_id"].to_pylist())
        # 2. The rows of a document, and of those that supersede each other.
        versions = self._versions()
        problems += id_problems(versions)
        misdated_ids = sorted(set(misdated(versions)["doc_id"].to_pylist()))
        problems += [
            f"document {name!r} has another superseded_at than its successors' dates say" for name in misdated_ids
        ]
        # 3. The indexes.
        index_problem = self._index_problem(versions["memory_id"].to_pylist())
        return Audit(problems, index_problem, str(digest), len(versions), sorted(slices))

    def verify(self) -> list[str]:
        """All problems that `audit` finds."""
        audit = self.audit()
        return [*audit.problems, *([audit.index_problem] if audit.index_problem else [])]

    def stats(self) -> dict[str, int | float]:
        """Size of the bank: rows, documents, bytes, bytes_per_document, version, indexed, mean_pairwise_cosine.

        `indexed` counts the rows in the vector index. `mean_pairwise_cosine` is that of a sample of keys: near 1 the
        keys have collapsed; NaN for fewer than two rows.
        """
        versions, table = self._versions(), self._latest()
        names = versions["memory_id"].to_pylist()
        sample = read_rows(table, ["memory_id", "key"], set(names[:: max(1, len(names) // 256)]))
        documents = len(pc.unique(versions["doc_id"]))
        size = int(cast(Any, table.stats())["total_bytes"])
        return {
            "rows": versions.num_rows,
            "documents": documents,
            "bytes": size,
            "bytes_per_document": size / max(documents, 1),
            "version": table.version,
            "indexed": _indexed_rows(table, "key"),
            "mean_pairwise_cosine": mean_cosine(key_matrix(sample["key"])),
        }

    def _latest(self) -> LanceTable:
        with self._reading():
            self._table.checkout_latest()  # type: ignore[no-untyped-call]
        return self._table

    def _versions(self) -> pa.Table:
        """VERSION_COLUMNS of all rows."""
        return self.rows(VERSION_COLUMNS)

    def _compute_digest(self) -> tuple[int, RowsDigest]:
        """The newest version and its digest, from all rows."""
        with self._reading():
            digest = RowsDigest()
            for batch in self._sorted_batches():
                digest += RowsDigest.of(batch.select(self.schema.names))
            return self._table.version, digest

    def _change(
        self, doc_ids: Collection[str], targets: Collection[str], plan: Callable[[pa.Table], tuple[pa.Table, pa.Table]]
    ) -> tuple[int, int, int]:
        """Commit what `plan` returns for the stored rows (rows to write, rows to delete) until nothing is left to do.

        The change is one of the documents `doc_ids`, of which some supersede `targets`; `plan` gets the rows that have
        to do with them. There is always one more attempt than commits, because another process may have written in
        between. Returns the numbers of rows inserted, updated and deleted.
        """
        inserted = updated = deleted = 0
        version = self.version
        digest = self._digests.at(version)  # of `version`; None if it is unknown
        for _ in range(_MAX_ATTEMPTS):
            before = self.version
            with self._reading():
                stored, affected = related_versions(self._table, doc_ids, targets)
            try:
                change = self._commit(stored, affected, *plan(stored))
            except WriteConflict:
                continue
            if change is None:
                if inserted or updated or deleted or not self._text_is_indexed():
                    version = version + self._index_changes() if version == before else -1
                    self._record_digest(version, digest)
                return inserted, updated, deleted
            merge, memory_ids, removed, added = change
            inserted += merge.num_inserted_rows
            updated += merge.num_updated_rows
            deleted += merge.num_deleted_rows
            self._read_or_undo(before, memory_ids)
            # Only if no other process has written in between, the rows differ by this change alone.
            alone = version == before and merge.version == before + 1
            digest = digest - removed + added if digest and removed and alone else None
            version = merge.version
        raise WriteConflict(f"bank {self._uri} is being rewritten by other processes: wait for them and repeat")

    def _record_digest(self, version: int, digest: RowsDigest | None) -> None:
        """Record the digest of the newest version, which is that of `version` if there is no newer one."""
        if digest is None or (version, digest.rows) != self.version_and_rows():
            version, digest = self._compute_digest()
        self._digests.write(version, digest)

    def _read_or_undo(self, before: int, memory_ids: set[str]) -> None:
        """Read the rows that a write concerned. If they cannot be read, go back to version `before`: BankError.

        Lance 0.40 commits a file although its last bytes could not be written. Those of a data file say where its
        columns are, so that none can be read; the lists of deleted rows are read with any column.
        """
        with self._undoing(before):
            self.rows(VERSION_COLUMNS, memory_ids)

    def _read_all_or_undo(self, before: int) -> None:
        """As `_read_or_undo`, for a write that concerned all rows."""
        with self._undoing(before):
            self._versions()

    @contextmanager
    def _undoing(self, before: int) -> Iterator[None]:
        """Go back to version `before` if the block raises BankError."""
        try:
            yield
        except BankError:
            if self._latest().version > before:
                with self._writing():
                    self._table.restore(before)
            raise

    def _commit(self, stored: pa.Table, affected: set[str], fresh: pa.Table, gone: pa.Table) -> "_Change | None":
        """Write `fresh`, delete `gone` and update superseded_at in one commit; None if there is nothing to do.

        `stored` and `affected` as `related_versions` returns them.
        """
        # 1. The rows whose superseded_at changes with this commit.
        fresh = replace_column(fresh, "superseded_at", [None] * len(fresh))
        replaced = pa.concat_tables([fresh.select(["memory_id"]), gone.select(["memory_id"])])["memory_id"]
        unchanged = rows_without(stored, "memory_id", replaced)
        redated = misdated(pa.concat_tables([fresh.select(VERSION_COLUMNS), unchanged]))
        redated = rows_with(redated, "doc_id", affected)
        redated_ids = set(redated["memory_id"].to_pylist()) - set(fresh["memory_id"].to_pylist())
        if not (len(fresh) or len(gone) or redated_ids):
            return None
        with self._writing():
            # 2. Fresh and redated rows, each with its date.
            source = pa.concat_tables([fresh, read_content(self._table, redated_ids)])
            place = pc.index_in(source["memory_id"], value_set=redated["memory_id"].combine_chunks())
            source = replace_column(source, "superseded_at", redated["superseded_at"].take(place))
            memory_ids = {*source["memory_id"].to_pylist(), *gone["memory_id"].to_pylist()}
            before = read_rows(self._table, self._table.schema.names, memory_ids)
            added = RowsDigest.of(source)
            source = with_checksums(source)
            # 3. One merge. The condition is checked against the version that is committed to, so it also covers rows
            # that another process wrote meanwhile.
            differs = (
                "target.sha256 != source.sha256 OR target.published_at != source.published_at"
                " OR target.superseded_at != source.superseded_at"
                " OR (target.superseded_at IS NULL) != (source.superseded_at IS NULL)"
            )
            merge = self._table.merge_insert("memory_id").when_matched_update_all(where=differs)
            merge = merge.when_not_matched_insert_all()
            if len(gone):
                merge = merge.when_not_matched_by_source_delete(memory_id_in(set(gone["memory_id"].to_pylist())))
            result = cast(_MergeResult, merge.execute(source))
        # 4. What the digest loses: nothing is known of it if a replaced row was damaged, or stayed.
        counts = result.num_inserted_rows + result.num_updated_rows, result.num_updated_rows + result.num_deleted_rows
        known = counts == (len(source), len(before)) and not len(unmatched(before))
        removed = RowsDigest.of(before.select(self.schema.names)) if known else None
        return _Change(result, memory_ids, removed, added)

    def _index_problem(self, memory_ids: list[str]) -> str | None:
        """What is wrong with an index, by its digest, or without one by searches for some texts; None if nothing is."""
        if altered := self._altered_indexes():
            return f"the index in {altered[0]} does not match its digest: run `cmt bank optimize`"
        try:
            if not self._text_is_indexed():
                return "the full-text index misses rows: run `cmt bank optimize`"
            if "text" in sealed_columns(self._latest()):
                return None
        except BankError as error:
            return str(error)
        sample = self.rows(["memory_id", "text"], set(memory_ids[:: max(1, len(memory_ids) // _PROBES)]))
        try:
            probe_text_index(self._latest(), filter(None, sample["text"].to_pylist()))
        except BankError as error:
            return str(error)
        return None

    def _index_keys(self, *, again: bool = False) -> None:
        """Build the vector index from `exact_below` rows on, unless there is a sound one; `again`: even then.

        A sound one is in one part: every update adds another, and a search reads them all.
        """
        with self._writing():
            table = self._latest()
            if self._is_large(table) and (again or _index_parts(table, "key") > 1 or not self._keys_are_indexed()):
                # 8-bit scalars instead of product quantisation: with 576 numbers per key it trains 200 times faster and
                # has the higher recall.
                table.create_index("key", config=IvfSq(distance_type="cosine"), replace=True)

    def _keys_are_indexed(self) -> bool:
        """Whether there is a vector index that answers searches for the keys of some rows."""
        table = self._latest()
        if not _indexed_rows(table, "key"):
            return False
        keys = key_matrix(table.search().select(["key"]).limit(_PROBES).to_arrow()["key"])
        try:
            for key in keys:
                probe_key_index(table, key)
        except BankError:
            return False
        return True

    def _text_is_indexed(self) -> bool:
        """Whether the full-text index has all rows; of a large bank, all but _UNINDEXED."""
        with translate_errors(f"the indexes of bank {self._uri} cannot be read", "run `cmt bank optimize`"):
            table = self._latest()
            rows = _unindexed_rows(table, "text")
        return rows is not None and rows <= (_UNINDEXED if self._is_large(table) else 0)

    def _index_changes(self) -> int:
        """Index what was changed; returns the number of versions that it made.

        The indexes of a large bank are left as they are while they lack few rows, which a search reads one by one.
        """
        before = self.version
        if not self._is_large(self._table) or _unindexed_rows(self._table, "text") is None:
            return self._index_text()
        commits = self._index_values()
        if not self._text_is_indexed():
            with self._writing():
                self._latest().optimize(cleanup_older_than=FOREVER)
            self._read_all_or_undo(before)
            self._seal()
            return self.version - before
        return commits

    def _index_text(self) -> int:
        """Rebuild the full-text index; returns the number of versions that it made.

        An updated index still counts deleted rows in its statistics, and scores unindexed rows a little differently.
        """
        commits = 0
        for _ in range(_MAX_ATTEMPTS):
            before = self.version
            with suppress(WriteConflict), self._writing():
                self._table.create_index("text", config=FTS(), replace=True)
                commits += 1
            # Any other version is a write of another process, which this index may lack.
            if self.version == before + 1:
                break
        self._seal()
        return commits

    def _index_values(self) -> int:
        """Build the missing indexes for exact values of a large bank; returns the number of versions that it made."""
        table, commits = self._latest(), 0
        for column in _LOOKED_UP if self._is_large(table) else ():
            if _unindexed_rows(table, column) is None:
                with self._writing():
                    table.create_index(column, config=BTree())
                    commits += 1
        if commits:
            self._seal()
        return commits

    def _seal(self) -> None:
        """Write the digests of files that Lance has written."""
        with self._writing():
            seal_indexes(self._latest())
            seal_files(self._table, DELETIONS)

    def _altered_indexes(self) -> list[Path]:
        with self._reading():
            return altered_indexes(self._latest())

    def _is_large(self, table: LanceTable) -> bool:
        return bool(table.count_rows() >= self._exact_below)

    def _sorted_batches(self) -> Iterator[pa.Table]:
        """All rows sorted by memory_id, in tables of `_BATCH` rows, with their checksums."""
        table = self._latest()
        places = table.search().select(["memory_id"]).with_row_id(True).limit(max(table.count_rows(), 1)).to_arrow()
        row_ids = places.sort_by("memory_id")["_rowid"].to_pylist()
        for start in range(0, len(row_ids), _BATCH):
            batch = table.take_row_ids(row_ids[start : start + _BATCH]).select(table.schema.names).to_arrow()
            yield batch.sort_by("memory_id")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with translate_errors(f"bank {self._uri} cannot be read"):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with translate_errors(f"bank {self._uri} cannot be written", "check free space and rights, then repeat"):
            if self._check_lease:
                self._check_lease()
            yield


def _table_name(schema: pa.Schema) -> str:
    return f"{MEMORIES}{schema_value(schema, 'compressor')[:12]}"


def _indexed_rows(table: LanceTable, column: str) -> int:
    """Number of rows in the index of `column`, 0 without one."""
    return sum(index.num_indexed_rows or 0 for index in table.list_indices() if index.columns == [column])


def _index_parts(table: LanceTable, column: str) -> int:
    """Parts of the index of `column`; 0 without one."""
    return sum(index.num_segments or 1 for index in table.list_indices() if index.columns == [column])


def _unindexed_rows(table: LanceTable, column: str) -> int | None:
    """Number of rows that the index of `column` lacks; None without an index."""
    rows = [index.num_unindexed_rows or 0 for index in table.list_indices() if index.columns == [column]]
    return min(rows, default=None)
