"""Forgotten documents, which must not come back: their doc_ids, and sketches that recognise nearly
equal texts.

Neither file holds a word of a text. A document that was already in the stream when one with nearly
its text was forgotten counts as another document: it may stay.
"""

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from cmt.common.arrow import rows_of
from cmt.common.dates import iso, parse_instant
from cmt.common.storage import read_checked_json, write_checked_json
from cmt.errors import StreamError
from cmt.stream.schema import Rejected
from cmt.text.shingles import NEARLY_EQUAL, Sketch, overlap, shingles, sketch, words
from cmt.timeline import Version

DOC_IDS, SKETCHES = "forgotten.json", "forgotten-sketches.json"  # in the folder of the store

_PROBES = 16  # shingles of a text to look up first: passes over most of the stream quickly
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')  # in the JSON of a row, which may be broken or cut


@dataclass(frozen=True, order=True)
class Similar:
    """A document with nearly the text of a forgotten one."""

    doc_id: str
    forgotten: str
    overlap: float  # share of common shingles, 0–1


@dataclass(frozen=True)
class DocIds:
    """The content of the file DOC_IDS."""

    doc_ids: list[str]
    names: list[tuple[str, str, str, str | None, str | None]] = field(
        default_factory=list
    )  # of `Forgotten.names`


@dataclass(frozen=True)
class _Sketches:
    """The content of the file SKETCHES."""

    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,64}$")]
    texts: dict[str, list[Sketch]]
    spared: frozenset[str]
    sources: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Forgotten:
    """The forgotten documents of one store."""

    doc_ids: frozenset[str]
    names: tuple[Version, ...]
    """The versions of the forgotten documents, without their texts. Each supersedes the document
    that it declared, or that it repeated, so that an update of a forgotten document still hides
    what the forgotten one hid."""
    salt: str  # random, so that hashes of different stores cannot be compared
    texts: Mapping[str, Sequence[Sketch]]  # doc_id → the sketches of its versions
    sources: Mapping[str, frozenset[str]]
    """doc_id → the sources in which nearly its text is refused. A document without an entry: every
    source.
    """
    exempt_doc_ids: frozenset[
        str
    ]  # documents that were in the stream when one with nearly their text was forgotten

    @classmethod
    def read(cls, folder: Path) -> "Forgotten":
        """Read the files in `folder`, if any. Raises StreamError if one is damaged, or only the
        doc_ids are missing.
        """
        ids = read_doc_ids(folder)
        names = tuple(
            Version(doc_id, parse_instant(date), slice_id, source, "", supersedes, banked=False)
            for doc_id, date, slice_id, source, supersedes in ids.names
        )
        stored = _read(folder / SKETCHES, _Sketches) or _Sketches(
            secrets.token_hex(16), {}, frozenset()
        )
        return cls(
            frozenset(ids.doc_ids), names, stored.salt, stored.texts, stored.sources, stored.spared
        )

    def write(self, folder: Path) -> None:
        """Write both files, each atomically, the doc_ids first: sketches without doc_ids show a
        loss. Raises OSError.
        """
        names = sorted(
            (v.doc_id, iso(v.published_at), v.slice_id, v.source, v.supersedes) for v in self.names
        )
        write_checked_json(folder / DOC_IDS, {"doc_ids": sorted(self.doc_ids), "names": names})
        texts = {
            name: [sorted(version) for version in versions]
            for name, versions in sorted(self.texts.items())
        }
        sources = {name: sorted(found) for name, found in sorted(self.sources.items())}
        content = {
            "salt": self.salt,
            "texts": texts,
            "spared": sorted(self.exempt_doc_ids),
            "sources": sources,
        }
        write_checked_json(folder / SKETCHES, content)

    def without(self, doc_ids: Collection[str]) -> "Forgotten":
        """The state in which `doc_ids` are not forgotten."""
        return replace(
            self,
            doc_ids=self.doc_ids.difference(doc_ids),
            texts={name: versions for name, versions in self.texts.items() if name not in doc_ids},
            sources={name: found for name, found in self.sources.items() if name not in doc_ids},
            names=tuple(version for version in self.names if version.doc_id not in doc_ids),
        )

    def with_documents(
        self,
        texts: Mapping[str, Collection[str]],
        stream: Iterable[tuple[str, str]],
        *,
        sources: Mapping[str, Collection[str]] | None = None,
    ) -> "tuple[Forgotten, list[Similar]]":
        """Also forget the documents `texts`; returns the new state, and the documents of `stream`
        with similar texts.

        `texts`: doc_id → the texts of its versions, none if unknown. `stream`: pairs (doc_id, text)
        of all documents; the similar ones become exempt. `sources`: doc_id → the sources of its
        versions; None: forget in every source.
        """
        # 1. the sketches of the forgotten texts
        salt = bytes.fromhex(self.salt)
        sketches = dict[str, list[Sketch]]()
        for name, versions in texts.items():
            if versions:
                sketches[name] = [sketch(text, salt=salt) for text in versions]
        added = replace(
            self,
            doc_ids=self.doc_ids | texts.keys(),
            texts={**self.texts, **sketches},
            sources=self._sources_with(texts, sources),
        )
        # 2. similar documents of the stream; most share no shingle with the forgotten texts
        only_new, similar = replace(self, texts=sketches, sources={}), dict[str, Similar]()
        probe = set[str]()
        for versions in texts.values():
            for text in versions:
                probe |= shingles(words(text))
        for doc_id, text in stream:
            runs = sorted(shingles(words(text)))
            unlike = probe.isdisjoint(runs[:: max(1, len(runs) // _PROBES)])
            if unlike or doc_id in added.doc_ids:
                continue
            if nearest := only_new.nearest(doc_id, text):
                similar[doc_id] = nearest
        exempt = (self.exempt_doc_ids | similar.keys()) - added.doc_ids
        return replace(added, exempt_doc_ids=exempt), sorted(similar.values())

    def _sources_with(
        self,
        doc_ids: Collection[str],
        sources: Mapping[str, Collection[str]] | None,
    ) -> dict[str, frozenset[str]]:
        """`sources` of the state in which `doc_ids` are forgotten too; None: in every source."""
        if sources is None:
            return {name: kept for name, kept in self.sources.items() if name not in doc_ids}
        merged = dict(self.sources)
        for name, added in sources.items():
            # a document that is forgotten in every source stays so
            if name not in self.doc_ids or name in merged:
                merged[name] = merged.get(name, frozenset()).union(added)
        return merged

    def reasons(self, documents: pa.Table) -> dict[int, str]:
        """Row → why it is refused, of the rows of `documents` (DOCUMENT_SCHEMA) that are."""
        found = dict[int, str]()
        if not self.doc_ids:
            return found
        for row, (doc_id, text, source) in enumerate(
            rows_of(documents, "doc_id", "text", "source")
        ):
            if doc_id in self.doc_ids:
                found[row] = f"document {doc_id!r} was forgotten"
            elif doc_id not in self.exempt_doc_ids and (
                similar := self.nearest(doc_id, text, source)
            ):
                found[row] = (
                    f"{similar.overlap:.0%} of its text is that of document {similar.forgotten!r}, "
                    "which was "
                    "forgotten; `cmt forget --undo` takes that back"
                )
        return found

    def conceal(self, row: Rejected) -> Rejected:
        """`row` without its content, if one of its strings is the id of a forgotten document."""
        strings = _STRING.findall(row.raw) if self.doc_ids else ()
        return row if self.doc_ids.isdisjoint(map(_read_string, strings)) else replace(row, raw="")

    def nearest(self, doc_id: str, text: str, source: str | None = None) -> Similar | None:
        """The document with the nearest text that is forgotten in `source` (None: in any); None
        below NEARLY_EQUAL.
        """
        own = sketch(text, salt=bytes.fromhex(self.salt))
        candidates = {version for value in own for version in self._versions_with.get(value, ())}
        found = [
            Similar(doc_id, name, overlap(own, version))
            for name, version in candidates
            if source is None or name not in self.sources or source in self.sources[name]
        ]
        best = max(found, key=lambda similar: (similar.overlap, similar.forgotten), default=None)
        return best if best and best.overlap >= NEARLY_EQUAL else None

    @cached_property
    def _versions_with(self) -> dict[int, list[tuple[str, Sketch]]]:
        versions_with = defaultdict[int, list[tuple[str, Sketch]]](list)
        for name, versions in self.texts.items():
            for version in versions:
                for value in version:
                    versions_with[value].append((name, version))
        return versions_with


def _read_string(text: str) -> str:
    with suppress(ValueError):  # an escape that JSON does not have
        return str(json.loads(text, strict=False))
    return ""


def read_doc_ids(folder: Path) -> DocIds:
    """The file DOC_IDS in `folder`. Raises StreamError if it is damaged, or missing next to
    SKETCHES.
    """
    stored: DocIds | None = _read(folder / DOC_IDS, DocIds)
    if stored is None and (folder / SKETCHES).exists():
        raise StreamError(
            f"{folder / DOC_IDS} is missing next to {SKETCHES}: restore it from a backup or DVC, "
            f"or remove {SKETCHES} "
            "too and forget the documents again that `cmt verify` lists then"
        )
    return stored or DocIds([])


def _read(path: Path, expected: Any) -> Any:
    """The JSON with checksum in `path`; None without such a file. Raises StreamError if it is
    damaged.
    """
    try:
        return read_checked_json(path, expected) if path.exists() else None
    except (OSError, ValueError) as error:
        raise StreamError(
            f"{path} cannot be read ({error}): restore it from a backup or DVC"
        ) from None
