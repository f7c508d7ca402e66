"""What was forgotten and must not come back: the doc_ids, and sketches by which nearly equal texts are recognised.

Both lie beside the slices; neither has a word of a text. A document that was in the stream already when another one
with nearly its text was forgotten is another document: it may stay.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from cmt.common.storage import read_json, read_sealed, write_sealed
from cmt.errors import StreamError
from cmt.stream.ingest import Checked
from cmt.stream.shingles import NEARLY_EQUAL, Sketch, overlap, shingles, sketch, words

DOC_IDS, SKETCHES = "forgotten.json", "forgotten-sketches.json"
"""Files in the folder of the store."""

_PROBES = 16  # shingles of a text that are looked up first, to pass over most of the stream quickly
_DOC_ID = re.compile(r'"doc_id": ("(?:[^"\\]|\\.)*")')  # in a row as the quarantine keeps it, which may be cut


@dataclass(frozen=True, order=True)
class Similar:
    """A document with nearly the text of a forgotten one."""

    doc_id: str
    forgotten: str
    """doc_id of the forgotten document."""
    overlap: float
    """Share of the shingles that both have, 0–1."""


@dataclass(frozen=True)
class _DocIds:
    """The content of the file DOC_IDS."""

    doc_ids: list[str]


@dataclass(frozen=True)
class _Sketches:
    """The content of the file SKETCHES."""

    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,64}$")]
    """Hexadecimal and random, so that the hashes of one store say nothing about the texts of another."""
    texts: dict[str, list[list[int]]]
    """doc_id of a forgotten document → the sketches of its versions."""
    spared: list[str]
    """See `Forgotten.exempt_doc_ids`."""


@dataclass(frozen=True)
class Forgotten:
    """The forgotten documents of one store."""

    doc_ids: frozenset[str] = frozenset()
    salt: str = field(default_factory=lambda: secrets.token_hex(16))
    texts: Mapping[str, Sequence[Sketch]] = field(default_factory=dict)
    """doc_id → the sketches of its versions."""
    exempt_doc_ids: frozenset[str] = frozenset()
    """Documents that were in the stream when a document with nearly their text was forgotten; they stay."""

    @staticmethod
    def read_doc_ids(folder: Path) -> list[str]:
        """The forgotten doc_ids of the store in `folder`, sorted, without the sketches. Raises StreamError."""
        return sorted(_read_doc_ids(folder / DOC_IDS))

    @classmethod
    def read(cls, folder: Path) -> "Forgotten":
        """Those of the store in `folder`; none if it has no such files. Raises StreamError if a file is damaged."""
        doc_ids, stored = frozenset(_read_doc_ids(folder / DOC_IDS)), _read(folder / SKETCHES, _Sketches)
        if stored is None:
            return cls(doc_ids)
        texts = {name: [frozenset(version) for version in versions] for name, versions in stored.texts.items()}
        return cls(doc_ids, stored.salt, texts, frozenset(stored.spared))

    def write(self, folder: Path) -> None:
        """Write both files, each atomically. Raises OSError."""
        texts = {name: [sorted(version) for version in versions] for name, versions in sorted(self.texts.items())}
        stored = _Sketches(self.salt, texts, sorted(self.exempt_doc_ids))
        write_sealed(folder / SKETCHES, vars(stored))
        write_sealed(folder / DOC_IDS, {"doc_ids": sorted(self.doc_ids)})

    def adding(
        self, texts: Mapping[str, Collection[str]], stream: Iterable[tuple[str, str]]
    ) -> "tuple[Forgotten, list[Similar]]":
        """With the documents `texts` (doc_id → texts of its versions, none if unknown); also what `stream` has like it.

        `stream` are pairs (doc_id, text) of all documents. Documents like one of `texts` become exempt.
        """
        # 1. The sketches of the forgotten texts.
        sketches = {name: [self._sketch(text) for text in versions] for name, versions in texts.items() if versions}
        added = replace(self, doc_ids=self.doc_ids | texts.keys(), texts={**self.texts, **sketches})
        # 2. The documents of the stream that are like one of them. Most have no shingle of theirs.
        new, similar = replace(self, texts=sketches), dict[str, Similar]()
        probe = {shingle for versions in texts.values() for text in versions for shingle in shingles(words(text))}
        for doc_id, text in stream:
            own = sorted(shingles(words(text)))
            if doc_id in added.doc_ids or probe.isdisjoint(own[:: max(1, len(own) // _PROBES)]):
                continue
            if nearest := new.nearest(doc_id, text):
                similar[doc_id] = nearest
        exempt = (self.exempt_doc_ids | similar.keys()) - added.doc_ids
        return replace(added, exempt_doc_ids=exempt), sorted(similar.values())

    def reason(self, doc_id: str, text: str) -> str | None:
        """Why a document must not come in; None if it may."""
        if doc_id in self.doc_ids:
            return f"document {doc_id!r} was forgotten"
        if doc_id in self.exempt_doc_ids or not self.texts:
            return None
        if similar := self.nearest(doc_id, text):
            return f"{similar.overlap:.0%} of its text is that of document {similar.forgotten!r}, which was forgotten"
        return None

    def nearest(self, doc_id: str, text: str) -> Similar | None:
        """The forgotten document with the most similar text; None if none has an overlap of NEARLY_EQUAL."""
        own = self._sketch(text)
        candidates = Counter(place for value in own for place in self._index.get(value, ()))
        found = [
            Similar(doc_id, self._versions[place][0], overlap(own, self._versions[place][1])) for place in candidates
        ]
        best = max(found, key=lambda similar: (similar.overlap, similar.forgotten), default=None)
        return best if best and best.overlap >= NEARLY_EQUAL else None

    def _sketch(self, text: str) -> Sketch:
        return sketch(text, salt=bytes.fromhex(self.salt))

    @cached_property
    def _versions(self) -> list[tuple[str, Sketch]]:
        """Every sketch with its doc_id."""
        return [(name, version) for name, versions in self.texts.items() for version in versions]

    @cached_property
    def _index(self) -> dict[int, list[int]]:
        """Hash → places in `_versions` of the sketches that have it."""
        index: dict[int, list[int]] = {}
        for place, (_, values) in enumerate(self._versions):
            for value in values:
                index.setdefault(value, []).append(place)
        return index


def leave_out(documents: Checked, questions: Checked, forgotten: Forgotten) -> tuple[Checked, Checked]:
    """The rows of a source without forgotten documents and questions about them, which are rejected without content."""
    if not forgotten.doc_ids:
        return documents, questions
    columns = (documents.table[name].to_pylist() for name in ("doc_id", "text"))
    reasons = {row: forgotten.reason(*document) for row, document in enumerate(zip(*columns, strict=True))}
    refused = {row: reason for row, reason in reasons.items() if reason}
    out = forgotten.doc_ids.union(documents.table["doc_id"].take(pa.array(refused, pa.int64())).to_pylist())
    asked = {
        row: f"its document, {name!r}, was forgotten"
        for row, name in enumerate(questions.table["doc_id"].to_pylist())
        if name in out
    }
    left_documents, left_questions = (
        _without_content(rows, forgotten).without(reasons, with_content=False)
        for rows, reasons in ((documents, refused), (questions, asked))
    )
    return left_documents, left_questions


def _without_content(checked: Checked, forgotten: Forgotten) -> Checked:
    """`checked`, of which no rejected row keeps the content of a forgotten document."""
    rejected = [replace(row, raw="") if _doc_id_in(row.raw) in forgotten.doc_ids else row for row in checked.rejected]
    return replace(checked, rejected=rejected)


def _doc_id_in(raw: str) -> str | None:
    """The doc_id in a row as the quarantine keeps it."""
    found = _DOC_ID.search(raw)
    return str(json.loads(found[1], strict=False)) if found else None


def _read_doc_ids(path: Path) -> list[str]:
    """The forgotten doc_ids in `path`; none if there is no such file. Raises StreamError if it is damaged."""
    with suppress(OSError, ValueError):
        doc_ids: list[str] = read_json(path, list[str])  # of version 0.1.0, without a checksum
        return doc_ids
    stored: _DocIds | None = _read(path, _DocIds)
    return stored.doc_ids if stored else []


def _read(path: Path, expected: Any) -> Any:
    """The sealed JSON in `path`; None if there is no such file. Raises StreamError if it is damaged."""
    try:
        return read_sealed(path, expected)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StreamError(f"{path} cannot be read ({error}): restore it from a backup or DVC") from None
