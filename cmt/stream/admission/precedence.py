"""Which new versions the documents of a store allow: who may correct or supersede whom, and no
rings of one date.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any

from cmt.common.dates import iso
from cmt.stream.admission.authority import Authority
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
        self._changing: set[str] = (
            set()
        )  # documents with several versions, or one that supersedes another document
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
        """
        doc_id, source, date = version.doc_id, version.source, version.published_at
        # 1. a new document, which an update in the store would hide from the start, or a correction
        known = self._versions.get(doc_id, [])
        for update in [] if known else self._updates.get(doc_id, ()):
            if (
                update.banked
                and update.published_at >= date
                and not authority.covers(update.source, source)
            ):
                return (
                    f"{update.doc_id!r} of {update.source!r} would supersede it, which it may not do to {source!r}; "
                    f"`cmt forget {update.doc_id}` and ingest this again, or {_advice(update.source, source)}"
                )
        owner = known[0].source if known else source
        if source not in {one.source for one in known} and not authority.covers(source, owner):
            advice = _advice(source, owner)
            return f"doc_id {doc_id!r} is a document of {owner!r}, which {source!r} may not correct; {advice}"
        # 2. the document that it supersedes
        targets = self._versions.get(version.supersedes or "", [])
        target = targets[0] if targets else self._candidates.get(version.supersedes or "")
        if is_stored or target is None:
            return None
        what = f"supersedes {target.doc_id!r}"
        if date < target.published_at:
            return f"{what}, which is younger ({iso(target.published_at)}); correct the date, or leave supersedes out"
        owner = target.source
        if source in {one.source for one in targets} or authority.covers(source, owner):
            return None
        advice = _advice(source, owner)
        return f"{what} of {owner!r}, which {source!r} may not; {advice}, or leave supersedes out"

    def ring(self, version: Version) -> str | None:
        """The documents that lead to each other with `version`, if two of them have updates of one
        date; else None.

        A version leads to the document that it supersedes, or else to each with its text for which
        it may stand. Any version may turn out to be the one that holds, or not to be banked, so
        that names lead through it.
        """
        own, text = version.doc_id, version[3:5]
        changes = version.supersedes or own in self._versions

        def versions(doc_id: str) -> list[Version]:
            return self._versions.get(doc_id, []) + ([version] if doc_id == own else [])

        alike = [self._plain.get(one[3:5], set()) for one in versions(own)]
        named = own in self._updates or any(len(names) > (own in names) for names in alike)
        if not named or not (changes or self._of_text.get(text)):
            return None

        def following(doc_id: str) -> set[str]:
            names = {one.supersedes for one in versions(doc_id) if one.supersedes}
            for one in versions(doc_id):
                if not one.supersedes:
                    since = self._of_text.get(one[3:5], {})
                    names |= {
                        name
                        for name in self._changing & since.keys()
                        if since[name] <= one.published_at
                    }
                    if changes and one[3:5] == text and version.published_at <= one.published_at:
                        names.add(own)
            return names - {doc_id}

        # 1. what `version` leads to, and what of it leads back
        leads_to, waiting = dict[str, set[str]](), [own]
        for doc_id in waiting:
            if doc_id not in leads_to:
                leads_to[doc_id] = following(doc_id)
                waiting += leads_to[doc_id]
        ring, grown = set[str](), {own}
        while grown:
            ring |= grown
            grown = {
                doc_id for doc_id, names in leads_to.items() if not names.isdisjoint(grown)
            } - ring
        # 2. two updates of one date
        dates = Counter(
            date
            for doc_id in ring
            for date in {v.published_at for v in versions(doc_id) if v.supersedes}
        )
        return ", ".join(sorted(ring)) if max(dates.values(), default=0) > 1 else None


def _advice(publisher: str | None, other: str | None) -> str:
    if publisher and other and publisher.startswith(FILE_PREFIX) and other.startswith(FILE_PREFIX):
        return "if both files have one publisher, name it at each ingest: --source NAME"
    return (
        f"if it may, add {json.dumps({publisher: [other]}, ensure_ascii=False)} to stream.authority"
    )
