"""What is true when: from which date until which date each version of a document is visible
(docs/concepts.md).

Visibility depends only on the set of versions. The order in which they were ingested decides only
between versions of one date; the order in which they were banked decides nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from cmt.common.dates import iso, parse_instant

Interval = tuple[datetime, datetime | None]
"""From the first instant on, and before the second; None: without end."""


class Version(NamedTuple):
    """A version of a document: its record at a date, without its text."""

    doc_id: str
    published_at: datetime
    slice_id: str
    """`<period>/<seq>`. If two versions have one date, that of the later slice holds."""
    source: str | None  # publisher
    sha256: str  # of the text; "" if it is unknown, as of a forgotten document
    supersedes: str | None
    """Declared: the doc_id of the document that this version replaces as a whole."""
    banked: bool = True
    """Whether the bank has it. A version that waits, was refused or was forgotten hides nothing
    itself, but names lead through it to the document that it replaces."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its document, and the one that it supersedes."""
        return (self.doc_id, self.supersedes) if self.supersedes else (self.doc_id,)

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Sorts versions by date, then by ingest, then by doc_id."""
        return self.published_at, ingest_order(self.slice_id), self.doc_id


def ingest_order(slice_id: str) -> int:
    """The number of a slice in its period. Versions of one date are of one period."""
    _, _, seq = slice_id.rpartition("/")
    return int(seq) if seq.isdecimal() else 0


class Timeline:
    """The visibility of versions, and the documents that stand for others.

    A version without `supersedes` whose source has its text in force under another doc_id is a
    *repeat*: its doc_id stands for that document until it gets a version of its own.
    """

    def __init__(self, versions: Iterable[Version]) -> None:
        self.intervals: dict[tuple[str, datetime], list[Interval]] = {}
        """doc_id and date of each banked version → when it is visible. If several have one date,
        the last ingested."""
        self.repeats: dict[tuple[str, datetime], str] = {}
        """doc_id and date of each repeat → the document that it stood for from then on."""
        self.replaced: dict[tuple[str, datetime], set[str]] = {}
        """doc_id and date of each update → the documents that it hides, if not younger."""
        self._current: dict[str, Version] = {}  # banked
        self._known: dict[str, Version] = {}  # banked or not
        # document → the documents that its versions stand for, by date
        self._originals: dict[str, list[tuple[datetime, str | None]]] = {}
        # source, sha256 → documents that are no repeats
        self._texts: dict[tuple[str | None, str], dict[str, None]] = {}
        # document → the documents that its current version hides
        self._hides: dict[str, set[str]] = {}
        self._hidden_by: dict[str, set[str]] = {}
        self._shown: dict[str, Version] = {}
        for date, group in groupby(_held(versions), key=lambda version: version.published_at):
            self._advance(date, list(group))

    def original(self, doc_id: str, date: datetime | None = None) -> str:
        """The document that `doc_id` stands for at `date` (None: at the end), itself unless it is a
        repeat.
        """
        versions = self._originals.get(doc_id, [])
        until = [original for since, original in versions if date is None or since <= date]
        return self.original(until[-1], date) if until and until[-1] else doc_id

    def superseded_at(self, doc_id: str, published_at: datetime) -> datetime | None:
        """The end of the last interval of a version; its own date if it is never visible; None
        without end.
        """
        intervals = self.intervals[doc_id, published_at]
        return intervals[-1][1] if intervals else published_at

    def hidden(self, doc_id: str, published_at: datetime) -> str | None:
        """The intervals before `superseded_at` in which a version is hidden; None if none.

        Each is written as in ISO 8601, `start/end`, with blanks between them.
        """
        gaps, start = [], published_at
        for begin, end in self.intervals[doc_id, published_at]:
            if begin > start:
                gaps.append(f"{iso(start)}/{iso(begin)}")
            start = end or begin
        return " ".join(gaps) or None

    def _advance(self, date: datetime, group: list[Version]) -> None:
        """Apply the versions of one date, in order.

        1. Each ends the version before it, and what that version hid.
        2. A repeat stands for the first document in force with its text. Updates of this date do
           not count yet.
        3. The other versions hide what they name.
        4. Intervals end and begin.
        """
        banked = [version for version in group if version.banked]
        self._known |= {version.doc_id: version for version in group}
        touched = set[str]()
        for version in banked:
            touched |= self._replace_current(version)
        for version in banked:
            self._find_original(version)
        for version in banked:
            touched |= self._hide_named(version)
        for doc_id in touched:
            self._update_intervals(doc_id, date)

    def _replace_current(self, version: Version) -> set[str]:
        """Make `version` the current one of its document. Returns the documents to update."""
        doc_id = version.doc_id
        touched = {doc_id}
        self.intervals[doc_id, version.published_at] = []
        if before := self._current.get(doc_id):
            self._texts[before.source, before.sha256].pop(doc_id, None)
        for target in self._hides.pop(doc_id, ()):
            self._hidden_by[target].discard(doc_id)
            touched.add(target)
        self._hidden_by[doc_id] = set()  # nothing hides what is younger
        self._current[doc_id] = version
        return touched

    def _find_original(self, version: Version) -> None:
        """Note the document that `version` stands for if it is a repeat."""
        doc_id, date = version.doc_id, version.published_at
        same_text = self._texts.setdefault((version.source, version.sha256), {})
        original = next((other for other in same_text if not self._hidden_by[other]), None)
        if version.supersedes is not None or original is None:
            original = same_text[doc_id] = None
        else:
            self.repeats[doc_id, date] = original
        self._originals.setdefault(doc_id, []).append((date, original))

    def _hide_named(self, version: Version) -> set[str]:
        """Hide the documents that `version` supersedes. Returns them."""
        doc_id, key = version.doc_id, version[:2]
        if version.supersedes is not None:
            self.replaced[key] = self._named(version.supersedes) - {doc_id}
            self._hides[doc_id] = self.replaced[key]
        hidden = self._hides.get(doc_id, set())
        for target in hidden:
            self._hidden_by[target].add(doc_id)
        return hidden

    def _update_intervals(self, doc_id: str, date: datetime) -> None:
        """End the interval of the version that is no longer visible, and begin that of the one that
        is.
        """
        shown, current = self._shown.get(doc_id), self._current[doc_id]
        _, original = self._originals[doc_id][-1]
        visible = not self._hidden_by[doc_id] and original is None
        if shown is not None and (shown != current or not visible):
            begin, _ = self.intervals[doc_id, shown.published_at][-1]
            self.intervals[doc_id, shown.published_at][-1] = begin, date
            del self._shown[doc_id]
        if visible and self._shown.get(doc_id) is None:
            self.intervals[doc_id, current.published_at].append((date, None))
            self._shown[doc_id] = current

    def _named(self, name: str) -> set[str]:
        """The banked documents that `name` leads to.

        These are the document itself, or the document that it stands for. If its last version is
        not banked, its repeats and the documents that it supersedes are added.
        """
        documents, names = set[str](), [name]
        for doc_id in names:
            leads_to = self._originals[doc_id][-1][1] if doc_id in self._originals else None
            if doc_id in self._current and leads_to is None:
                documents.add(doc_id)
            version = self._known.get(doc_id)
            supersedes = None
            if version and not version.banked:
                same_text = self._texts.get((version.source, version.sha256), ())
                documents |= {key for key in same_text if self._current[key].supersedes is None}
                supersedes = version.supersedes
            names += [key for key in (leads_to, supersedes) if key and key not in names]
        return documents


def _held(versions: Iterable[Version]) -> list[Version]:
    """The versions that hold, in order.

    If a document has several versions of one date, the last one holds, and the last one that is
    banked. A version that is given as banked and as not banked is banked.
    """
    ordered = sorted(set(versions), key=lambda version: (version.order, version.banked))
    last = {version[:2]: version for version in ordered}
    last_banked = {version[:2]: version for version in ordered if version.banked}
    return [
        version
        for version in ordered
        if version in (last[version[:2]], last_banked.get(version[:2]))
    ]


def is_hidden(hidden: str | None, date: datetime) -> bool:
    """Whether `date` is in one of the intervals of `Timeline.hidden`."""
    spans = (span.partition("/") for span in (hidden or "").split())
    return any(parse_instant(start) <= date < parse_instant(end) for start, _, end in spans)


Find = Callable[[Collection[str], Collection[str]], Iterable[Version]]
"""doc_ids, hashes of texts → the versions whose doc_id or `supersedes` is one of the doc_ids, or
whose sha256 is one of the hashes."""


def related(doc_ids: Iterable[str], find: Find) -> set[Version]:
    """All versions on which the visibility of the documents `doc_ids` depends.

    Three relations lead from a document to further ones: it supersedes them, they supersede it, or
    both have one source and one text. The relations are followed until they lead to no further
    document.
    """
    found = set[Version]()
    texts = set[tuple[str | None, str]]()
    new_texts = set[tuple[str | None, str]]()
    documents, wanted = set(doc_ids), set(doc_ids)
    while wanted or new_texts:
        hits = set(find(wanted, {sha256 for _, sha256 in new_texts})) - found
        new = {
            hit
            for hit in hits
            if not wanted.isdisjoint(hit.names) or (hit.source, hit.sha256) in new_texts
        }
        found |= new
        new_texts = {(version.source, version.sha256) for version in new if version.sha256} - texts
        wanted = {name for version in new for name in version.names} - documents
        texts, documents = texts | new_texts, documents | wanted
    return found


def in_memory(versions: Iterable[Version]) -> Find:
    """Finds `versions`."""
    by_name, by_text = dict[str, list[Version]](), dict[str, list[Version]]()
    for version in versions:
        for name in version.names:
            by_name.setdefault(name, []).append(version)
        by_text.setdefault(version.sha256, []).append(version)

    def find(doc_ids: Collection[str], texts: Collection[str]) -> Iterator[Version]:
        for name in doc_ids:
            yield from by_name.get(name, ())
        for sha256 in texts:
            yield from by_text.get(sha256, ())

    return find
