"""The memory bank on LanceDB: memories are upserted, searched as of a date, versioned and restored.

One table holds the memories of one compressor; the pointer table `current` says which table answers, so that a new
compressor fills its own table and takes over in one step. Every change of memories is one commit of Lance, and a Bank
always looks at the newest version. Writers of different documents may work at once; of the same documents, in turn.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.db import DBConnection
from lancedb.index import FTS, IvfSq
from lancedb.table import LanceTable

from cmt.bank import search
from cmt.bank.merge import changed, misdated, not_older, surplus, with_superseded, within
from cmt.bank.schema import (
    LEDGER_COLUMNS,
    bank_schema,
    check_schema,
    conform,
    digest,
    id_problems,
    key_matrix,
    mean_cosine,
    row_problems,
    schema_value,
)
from cmt.bank.search import is_one_of, read_rows
from cmt.bank.tables import Busy, created, current, explained, opened, point
from cmt.errors import BankError, ConfigError

__all__ = ["Bank", "UpsertResult", "bank_schema", "explained"]

FOREVER = timedelta(days=36_500)
_ATTEMPTS = 20
_BATCH = 1024


@dataclass(frozen=True)
class UpsertResult:
    """What an upsert did: the bank's version after it, rows that are new, rows that were rewritten.

    A rewritten row has a changed text, or its document was superseded by this write.
    """

    version: int
    inserted: int
    updated: int


class Bank:
    """One table of memories; open it with Bank.open()."""

    def __init__(self, *, uri: str, connection: DBConnection, table: LanceTable, exact_below: int) -> None:
        self._uri = uri
        self._connection = connection
        self._table = table
        self._exact_below = exact_below

    @classmethod
    def open(cls, *, uri: str, schema: pa.Schema | None = None, exact_below: int = 10_000) -> "Bank":
        """The current bank at `uri`; with `schema` that compressor's bank, created when absent.

        The first bank at an address becomes the current one. Raises BankError when there is none, when it was written
        with another schema, or when it cannot be read.
        """
        absent = BankError(f"no bank at {uri}: run `cmt update` first")
        if schema is None and "://" not in uri and not Path(uri).is_dir():
            raise absent
        with explained(f"bank {uri} cannot be opened"):
            connection = lancedb.connect(uri)
            name = current(connection) if schema is None else _table_name(schema)
            table = opened(connection, name) if name else None
            if table is None and schema is not None:
                table = created(connection, _table_name(schema), schema)
            if table is None:
                raise absent
            check_schema(table.schema, schema, f"bank {uri}")
            bank = cls(uri=uri, connection=connection, table=table, exact_below=exact_below)
            if current(connection) is None:
                bank.promote()
        return bank

    @property
    def connection(self) -> DBConnection:
        """The LanceDB connection, for tables kept beside the bank."""
        return self._connection

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows; its metadata has schema_version, codes, dim and compressor."""
        return self._table.schema

    @property
    def name(self) -> str:
        """Name of the table that this bank reads and writes."""
        return self._table.name

    @property
    def version(self) -> int:
        """Number of the newest version."""
        with self._reading():
            return self._latest().version

    def count_rows(self) -> int:
        with self._reading():
            return self._latest().count_rows()

    @property
    def answering(self) -> str:
        """First twelve digits of the compressor whose bank answers now, which another process may have promoted."""
        with self._reading():
            name = current(self._connection)
        if name is None:
            raise BankError(f"bank {self._uri} is gone: put it back, or run `cmt update --all`")
        return name.removeprefix("memories_")

    def promote(self) -> None:
        """Make this the current bank, in one commit."""
        with self._writing():
            point(self._connection, self.name)

    def upsert(self, rows: pa.Table) -> UpsertResult:
        """Bank `rows` (bank_schema, whole documents): new ones are added, changed texts replaced, others left alone.

        superseded_at is set here, for these rows and for those that they supersede; what `rows` says is ignored. A text
        that became shorter loses its surplus chunks. Writing what is already there makes no version, and
        a document that is there with a later date stays, in whatever order slices come. Raises BankError, with the bank
        unchanged, on rows that do not fit.
        """
        rows = conform(rows, self.schema)

        def plan(stored: pa.Table) -> tuple[pa.Table, pa.Table]:
            wanted = not_older(rows, stored)
            return changed(wanted, stored), surplus(wanted, stored)

        inserted, updated, _ = self._change(plan)
        return UpsertResult(version=self.version, inserted=inserted, updated=updated)

    def forget(self, doc_id: str) -> int:
        """Remove a document and return how many rows it had; what it superseded is current again.

        Versions before this one still have it until optimize() drops them. Raises BankError on an unknown id.
        """
        nothing = self.schema.empty_table()
        *_, removed = self._change(lambda stored: (nothing, stored.filter(pc.equal(stored["doc_id"], doc_id))))
        if not removed:
            raise BankError(f"document {doc_id!r} is not in bank {self._uri}: nothing was forgotten")
        return removed

    def has(self, doc_id: str) -> bool:
        """Whether a memory of that document is in the bank."""
        return doc_id in self._ledger()["doc_id"].to_pylist()

    def search(self, *, key: np.ndarray, text: str | None, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` rows nearest to `key` [p] and, when `text` is given, the `k` best for its words, most similar first.

        Columns: memory_id, doc_id, title, published_at, supersedes, text, memory, n_vectors, n_tokens, similarity
        (cosine), bm25 (0 when no word of `text` is in the row, or a thousand rows fit it better). Only rows visible at
        `as_of` are found: published by then and not yet superseded; None means now. BM25 counts words over the whole
        bank at any `as_of`.
        """
        with self._reading():
            table = self._latest()
            return search.search(table, key=key, text=text, k=k, as_of=as_of, exact=not self._is_large(table))

    def full_text(self, *, text: str, k: int, as_of: datetime | None) -> pa.Table:
        """The `k` rows that fit the words of `text` best by BM25, best first; columns as search(), no similarity."""
        with self._reading():
            return search.full_text(self._latest(), text=text, k=k, as_of=as_of)

    def documents(self, doc_ids: set[str]) -> pa.Table:
        """The rows of these documents, superseded or not, by memory_id; columns as search(), without scores."""
        with self._reading():
            return search.documents(self._latest(), doc_ids=doc_ids)

    def restore(self, version: int) -> None:
        """Bring back the rows of `version`, as a new version; raises BankError when it was dropped or never was."""
        self.check_version(version)
        table = self._latest()
        if version == table.version:
            return
        with self._writing():
            table.restore(version)

    def check_version(self, version: int) -> None:
        """BankError when `version` was dropped or never was, and cannot be restored."""
        with self._reading():
            kept = [entry["version"] for entry in self._latest().list_versions()]
        if version not in kept:
            raise BankError(
                f"bank {self._uri} has no version {version}: it keeps {min(kept)} to {max(kept)}, "
                "older ones were dropped by `cmt bank optimize --keep-days`"
            )

    def optimize(self, *, keep: timedelta = FOREVER) -> None:
        """Compact the files, bring the indexes up to date, and drop versions older than `keep`.

        From `exact_below` rows on this also builds the vector index. A version that was dropped cannot be restored.
        """
        if keep < timedelta(milliseconds=1):
            raise ConfigError(f"keep is {keep}: at least a millisecond has to remain, or readers lose their version")
        with self._writing():
            table = self._latest()
            if self._is_large(table) and not _covered(table, "key"):
                # 8-bit scalars, not product quantisation: at 576 numbers a key it trains 200 × faster and finds more.
                table.create_index("key", config=IvfSq(distance_type="cosine"), replace=True)
            table.optimize(cleanup_older_than=keep)
        self._index_text()

    def digest(self) -> str:
        """sha256 over all rows sorted by memory_id and all their columns; bank_rows.digest has the byte format."""
        with self._reading():
            return digest(self._sorted_batches())

    def verify(self) -> list[str]:
        """What is wrong with the stored rows, a sentence each; empty when all is well."""
        with self._reading():
            problems = [text for batch in self._sorted_batches() for text in row_problems(batch, self.schema)]
        ledger = self._ledger()
        problems += id_problems(ledger)
        wrong = sorted(set(misdated(ledger)["doc_id"].to_pylist()))
        problems += [f"document {name!r} has another superseded_at than its successors' dates say" for name in wrong]
        if not self._text_is_indexed():
            problems.append("the full-text index misses rows: run `cmt bank optimize`")
        return problems

    def stats(self) -> dict[str, int | float]:
        """rows, documents, bytes (stored), bytes_per_document, version, indexed (rows in the vector index) and
        mean_pairwise_cosine of a sample of keys (near 1: the keys have collapsed; NaN below two rows)."""
        ledger, table = self._ledger(), self._latest()
        names = ledger["memory_id"].to_pylist()
        sample = read_rows(table, ["memory_id", "key"], set(names[:: max(1, len(names) // 256)]))
        documents = len(pc.unique(ledger["doc_id"]))
        size = int(cast(Any, table.stats())["total_bytes"])
        return {
            "rows": ledger.num_rows,
            "documents": documents,
            "bytes": size,
            "bytes_per_document": size / max(documents, 1),
            "version": table.version,
            "indexed": _covered(table, "key"),
            "mean_pairwise_cosine": mean_cosine(key_matrix(sample["key"])),
        }

    def _latest(self) -> LanceTable:
        with self._reading():
            self._table.checkout_latest()  # type: ignore[no-untyped-call]
        return self._table

    def _ledger(self) -> pa.Table:
        with self._reading():
            return read_rows(self._latest(), LEDGER_COLUMNS)

    def _change(self, plan: Callable[[pa.Table], tuple[pa.Table, pa.Table]]) -> tuple[int, int, int]:
        """Commit what `plan` makes of the stored rows (rows to write, rows to drop) until it leaves nothing to do.

        Once more than it seems to need, as another process may have written meanwhile. Returns rows inserted, updated
        and removed.
        """
        counts = inserted, updated, removed = 0, 0, 0
        for _ in range(_ATTEMPTS):
            stored = self._ledger()
            try:
                done = self._commit(stored, *plan(stored))
            except Busy:
                continue
            if done is None:
                if any(counts) or not self._text_is_indexed():
                    self._index_text()
                return counts
            inserted, updated = inserted + done.num_inserted_rows, updated + done.num_updated_rows
            counts = inserted, updated, removed = inserted, updated, removed + done.num_deleted_rows
        raise Busy(f"bank {self._uri} is being rewritten by other processes: wait for them and repeat")

    def _commit(self, stored: pa.Table, fresh: pa.Table, gone: pa.Table) -> Any:
        """Write `fresh`, drop `gone` and date what that supersedes, in one commit; None if there is nothing to do."""
        fresh = with_superseded(fresh, pa.nulls(len(fresh), self.schema.field("superseded_at").type))
        replaced = pa.concat_tables([fresh.select(["memory_id"]), gone.select(["memory_id"])])["memory_id"]
        kept = stored.filter(pc.invert(within(stored["memory_id"], replaced)))
        dated = misdated(pa.concat_tables([fresh.select(LEDGER_COLUMNS), kept]))
        redated = set(dated["memory_id"].to_pylist()) - set(fresh["memory_id"].to_pylist())
        if not (len(fresh) or len(gone) or redated):
            return None
        with self._writing():
            source = pa.concat_tables([fresh, read_rows(self._table, self.schema.names, redated)])
            place = pc.index_in(source["memory_id"], value_set=dated["memory_id"].combine_chunks())
            source = with_superseded(source, dated["superseded_at"].take(place))
            return self._merge(source, set(gone["memory_id"].to_pylist()))

    def _merge(self, source: pa.Table, gone: set[str]) -> Any:
        # The condition holds against rows that another writer brings in between.
        differs = (
            "target.sha256 != source.sha256 OR target.superseded_at != source.superseded_at"
            " OR (target.superseded_at IS NULL) != (source.superseded_at IS NULL)"
        )
        merge = self._table.merge_insert("memory_id").when_matched_update_all(where=differs)
        merge = merge.when_not_matched_insert_all()
        if gone:
            merge = merge.when_not_matched_by_source_delete(is_one_of(gone))
        return merge.execute(source)

    def _text_is_indexed(self) -> bool:
        return any(i.columns == ["text"] and not i.num_unindexed_rows for i in self._latest().list_indices())

    def _index_text(self) -> None:
        """Index the texts anew: BM25 would still count rows that are gone, and differ for rows not yet in it."""
        for _ in range(_ATTEMPTS):
            before = self.version
            with suppress(Busy), self._writing():
                self._table.create_index("text", config=FTS(), replace=True)
            # Any other version is another process's write, which this index may lack.
            if self.version == before + 1:
                return

    def _is_large(self, table: LanceTable) -> bool:
        return bool(table.count_rows() >= self._exact_below)

    def _sorted_batches(self) -> Iterator[pa.Table]:
        table = self._latest()
        places = table.search().select(["memory_id"]).with_row_id(True).limit(max(table.count_rows(), 1)).to_arrow()
        places = places.sort_by("memory_id")["_rowid"].to_pylist()
        for start in range(0, len(places), _BATCH):
            batch = table.take_row_ids(places[start : start + _BATCH]).select(self.schema.names).to_arrow()
            yield batch.sort_by("memory_id")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with explained(f"bank {self._uri} cannot be read"):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with explained(f"bank {self._uri} cannot be written", "check free space and rights, then repeat"):
            yield


def _table_name(schema: pa.Schema) -> str:
    return f"memories_{schema_value(schema, 'compressor')[:12]}"


def _covered(table: LanceTable, column: str) -> int:
    """Rows in the index of `column`; 0 without one."""
    return sum(index.num_indexed_rows or 0 for index in table.list_indices() if index.columns == [column])
