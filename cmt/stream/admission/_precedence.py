"""Which new versions the documents of a store allow: who may correct or supersede whom, and no
rings of one date.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from cmt.common.dates import iso
from cmt.stream.admission.authority import Authority, series
from cmt.text.display import FILE_PREFIX
from cmt.timeline import Version


class KnownVersions:
    """The versions of the store and the accepted ones of an ingest, by which further versions are
    refused.
    """

    def __init__(self, stored: Iterable[Version], candidates: Iterable[Version]) -> None:
        # doc_id → its versions, the first by the publisher of the document; doc_id → the versions
        # that supersede it
        self._versions = defaultdict[str, list[Version]](list)
        self._updates = defaultdict[str, list[Version]](list)
        self._candidates: dict[
            str, Version
        ] = {}  # the first in the ingest, for updates that come before them
        # documents with several versions, or one that supersedes another document
        self._changing: set[str] = set()
        # source and text → the date from which each document has had this text
        self._of_text = defaultdict[tuple[Any, ...], dict[str, datetime]](dict)
        # source and text → the documents that had this text and superseded nothing
        self._plain = defaultdict[tuple[Any, ...], set[str]](set)
        for version in sorted(stored, key=attrgetter("order")):
            self.add(version)
        for version in sorted(candidates, key=attrgetter("published_at")):
            self._candidates.setdefault(version.doc_id, version)

    def add(self, version: Version) -> None:
        """Add an accepted version."""
        doc_id, text = version.doc_id, version[3:5]
        if version.supersedes or doc_id in self._versions:
            self._changing.add(doc_id)
        self._versions[doc_id].append(version)
        since = self._of_text[text]
        since[doc_id] = min(version.published_at, since.get(doc_id, version.published_at))
        if version.supersedes:
            self._updates[version.supersedes].append(version)
        else:
            self._plain[text].add(doc_id)

    def refusal(self, version: Version, authority: Authority, *, is_stored: bool) -> str | None:
        """Why `version` is refused, or its repetition if it `is_stored`; None if its publisher may
        add it.

        1. A new document, which an update in the store would hide from the start.
        2. A version of a document of another publisher.
        3. An update of a younger document, or of one of another publisher.
        """
        versions, reason = self._versions.get(version.doc_id), None
        if versions:
            reason = self._foreign_document(version, versions, authority)
        elif version.doc_id in self._updates:
            reason = self._hidden_from_start(version, authority)
        if version.supersedes and not (reason or is_stored):
            reason = self._foreign_target(version, version.supersedes, authority)
        return reason

    def _hidden_from_start(self, version: Version, authority: Authority) -> str | None:
        source = version.source
        for update in self._updates[version.doc_id]:
            hides = update.banked and update.published_at >= version.published_at
            if hides and not authority.covers(update.source, source):
                return (
                    f"{update.doc_id!r} of {update.source!r} would supersede it, which it may not "
                    f"do to {source!r}; `cmt forget {update.doc_id}` and ingest this again, or "
                    f"{_advice(update.source, source)}"
                )
        return None

    def _foreign_document(
        self, version: Version, versions: Sequence[Version], authority: Authority
    ) -> str | None:
        source, owner = version.source, versions[0].source
        if self._may_change(versions, source):
            return None
        # files of a series may number their rows, so a number does not name one document in both
        numbered = version.doc_id.isdecimal() and series(source) == series(owner)
        if authority.covers(source, owner) and not numbered:
            return None
        return (
            f"doc_id {version.doc_id!r} is a document of {owner!r}, which {source!r} may not "
            f"correct; {_advice(source, owner)}"
        )

    def _foreign_target(
        self, version: Version, supersedes: str, authority: Authority
    ) -> str | None:
        targets = self._versions.get(supersedes, [])
        target = targets[0] if targets else self._candidates.get(supersedes)
        if target is None:
            return None
        what, source, owner = f"supersedes {target.doc_id!r}", version.source, target.source
        if version.published_at < target.published_at:
            return (
                f"{what}, which is younger ({iso(target.published_at)}); correct the date, or "
                "leave supersedes out"
            )
        if self._may_change(targets, source) or authority.covers(source, owner):
            return None
        advice = _advice(source, owner)
        return f"{what} of {owner!r}, which {source!r} may not; {advice}, or leave supersedes out"

    def _may_change(self, versions: Iterable[Version], source: str | None) -> bool:
        """Whether `source` has published one of the versions of a document."""
        return any(version.source == source for version in versions)

    def ring(self, version: Version) -> str | None:
        """The documents of the ring that `version` closes, if two of them have updates of one date;
        else None.

        A version leads to the document that it supersedes, or else to each document with its text
        that it may repeat. All versions of a document count: any of them may become the one that
        holds, or may stay out of the bank, and then `supersedes` passes through it.
        """
        doc_id, text = version.doc_id, version[3:5]
        leads_further = self._changes(version) or text in self._of_text
        if not (leads_further and self._is_named(version)):
            return None
        # 1. what `version` leads to
        leads_to, waiting = dict[str, set[str]](), [doc_id]
        for name in waiting:
            if name not in leads_to:
                leads_to[name] = self._following(name, version)
                waiting += leads_to[name]
        # 2. what of it leads back
        ring, grown = set[str](), {doc_id}
        while grown:
            ring |= grown
            grown = {name for name, names in leads_to.items() if not names.isdisjoint(grown)} - ring
        # 3. two updates of one date
        dates = Counter[datetime]()
        for name in ring:
            dates.update({v.published_at for v in self._with(version, name) if v.supersedes})
        return ", ".join(sorted(ring)) if max(dates.values(), default=0) > 1 else None

    def _with(self, version: Version, doc_id: str) -> list[Version]:
        """The versions of a document, with `version` if it is one."""
        return self._versions.get(doc_id, []) + ([version] if doc_id == version.doc_id else [])

    def _changes(self, version: Version) -> bool:
        """Whether `version` changes a document instead of being a first state."""
        return bool(version.supersedes or version.doc_id in self._versions)

    def _is_named(self, version: Version) -> bool:
        """Whether another document leads to that of `version`: as its update, or with its text."""
        if version.doc_id in self._updates:
            return True
        for each in self._with(version, version.doc_id):
            names = self._plain.get(each[3:5], ())
            if len(names) > (version.doc_id in names):
                return True
        return False

    def _following(self, doc_id: str, version: Version) -> set[str]:
        """The documents to which a document leads, once `version` is added."""
        names = set[str]()
        for each in self._with(version, doc_id):
            if each.supersedes:
                names.add(each.supersedes)
                continue
            since = self._of_text.get(each[3:5], {})
            for name in self._changing & since.keys():
                if since[name] <= each.published_at:
                    names.add(name)
            same_text = each[3:5] == version[3:5]
            if self._changes(version) and same_text and version.published_at <= each.published_at:
                names.add(version.doc_id)
        return names - {doc_id}


def _advice(publisher: str | None, other: str | None) -> str:
    if publisher and other and publisher.startswith(FILE_PREFIX) and other.startswith(FILE_PREFIX):
        return "if both files have one publisher, name it at each ingest: --source NAME"
    return (
        f"if it may, add {json.dumps({publisher: [other]}, ensure_ascii=False)} to stream.authority"
    )
