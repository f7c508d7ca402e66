"""The bank's documents by date, for browsing, and the changes that name them.

LanceDB cannot sort, so the small columns of all rows are read once per version of the bank.
"""

from collections.abc import Collection
from datetime import datetime
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.change_values import with_values
from cmt.bank.schema import latest_versions
from cmt.common.arrow import rows_without
from cmt.project import Project
from cmt.rounds.care import forgetting
from cmt.serving._schemas import ChangeEntry, Document, Entry, Memory, Page, Range

_COLUMNS = ["memory_id", "doc_id", "title", "published_at", "superseded_at", "supersedes"]


class DocumentBrowser:
    """The documents of the active bank of `project`, and the changes of its ledger."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lock = Lock()
        self._cached_for: tuple[str, int, frozenset[str]] | None = None
        self._documents = pa.table({})

    def date_range(self) -> Range:
        """First and last date of publication."""
        dates = self._newest_first()["published_at"].to_pylist()
        first, last = (dates[-1], dates[0]) if dates else (None, None)
        return Range(first=first, last=last, documents=len(dates))

    def page(
        self,
        *,
        since: datetime | None,
        until: datetime | None,
        offset: int,
        limit: int,
        doc_ids: Collection[str] | None = None,
    ) -> Page:
        """At most `limit` documents published from `since` to `until`, newest first; `doc_ids`:
        only these.
        """
        documents = self._newest_first()
        if doc_ids is not None:
            wanted = pa.array(doc_ids, pa.string())
            documents = documents.filter(pc.is_in(documents["doc_id"], wanted))
        if since:
            documents = documents.filter(
                pc.greater_equal(documents["published_at"], pa.scalar(since))
            )
        if until:
            documents = documents.filter(pc.less_equal(documents["published_at"], pa.scalar(until)))
        rows = documents.slice(offset, limit).to_pylist()
        changes = self.changes([row["doc_id"] for row in rows])
        entries = [
            Entry(
                **row,
                changes=[
                    one for one in changes if row["doc_id"] in (one.old.doc_id, one.new.doc_id)
                ],
            )
            for row in rows
        ]
        return Page(total=documents.num_rows, offset=offset, documents=entries)

    def document(self, doc_id: str) -> Document | None:
        """The document with its texts; None when the bank does not have it."""
        documents = self._newest_first()
        matches = documents.filter(pc.equal(documents["doc_id"], doc_id)).to_pylist()
        if not matches:
            return None
        memory_ids = {f"{doc_id}#{number}" for number in range(matches[0]["memories"])}
        rows = (
            self.project.active.bank()
            .rows(["memory_id", "n_tokens", "text"], memory_ids)
            .to_pylist()
        )
        rows.sort(key=lambda row: int(row["memory_id"].rpartition("#")[2]))
        content = [
            Memory(memory_id=row["memory_id"], tokens=row["n_tokens"], text=row["text"])
            for row in rows
        ]
        return Document(**matches[0], content=content, changes=self.changes([doc_id]))

    def with_words(self, words: str) -> list[str]:
        """The doc_ids of the documents that have every one of `words`, best first. Raises BankError
        if the bank keeps no texts.
        """
        return list(forgetting.candidates(self.project, source=None, matching=words))

    def changes(
        self,
        doc_ids: Collection[str] | None = None,
        *,
        subject: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ChangeEntry]:
        """The changes of `doc_ids`, or of all documents, by the date from which the new value
        holds.

        `subject`: only those of which a document has every one of these words. `since`, `until`:
        only those whose new value was published, or holds from, a date between them.
        """
        bank, changes = self.project.active.bank(), self.project.history.changes(doc_ids)
        if subject.strip():
            named = set(self.with_words(subject))
            changes = [change for change in changes if not named.isdisjoint(change.doc_ids)]

        def is_between(date: datetime) -> bool:
            return (since is None or since <= date) and (until is None or date <= until)

        changes = [
            change
            for change in changes
            if is_between(change.holds_from) or is_between(change.new.published_at)
        ]
        return (
            [ChangeEntry(**report.to_json()) for report in with_values(bank, changes)]
            if changes
            else []
        )

    def _newest_first(self) -> pa.Table:
        """The latest version of each document, newest first, with the number of its memories."""
        with self._lock:
            bank = self.project.active.bank()
            state = bank.name, bank.version, bank.excluded_doc_ids
            if state != self._cached_for:
                rows = latest_versions(
                    rows_without(bank.rows(_COLUMNS), "doc_id", bank.excluded_doc_ids)
                )
                counts = rows.group_by("doc_id").aggregate([("memory_id", "count")])
                counts = counts.rename_columns({"memory_id_count": "memories"})
                first = rows.filter(pc.ends_with(rows["memory_id"], "#0")).drop_columns(
                    ["memory_id"]
                )
                order = [("published_at", "descending"), ("doc_id", "ascending")]
                self._documents = first.join(counts, "doc_id").sort_by(order)
                self._cached_for = state
            return self._documents
