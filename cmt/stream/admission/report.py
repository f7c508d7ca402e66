"""The report of an ingest: its counts, the reasons of its rejections, and its notices."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from cmt.common.arrow import rows_of
from cmt.config import Column
from cmt.stream._languages import SAMPLE, language_notice
from cmt.stream.admission.authority import series
from cmt.stream.admission.intake import Intake
from cmt.stream.columns import Columns
from cmt.stream.readers._squad import RELEASED_AT
from cmt.stream.rows import ValidatedRows
from cmt.stream.schema import Notes, Rejected
from cmt.stream.slices import Slice
from cmt.text.display import FILE_PREFIX, counted
from cmt.text.shingles import shingles, words

_LISTED = 3  # files in a notice
_MOST_COMPARED = 1_000  # pairs of texts that are compared to recognise row numbers
_QUOTED = r"""(?<!\w)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_VALUES = re.compile(rf"""{_QUOTED}|\{{.*\}}|\[.*\]|\d(?:[\d,.:TZ+-]*[\dZ])?""")
"""The values in a reason; reasons of one kind differ only in them."""


@dataclass(frozen=True)
class IngestReport:
    """Result of one ingest, counted as in `Intake`."""

    slices: tuple[Slice, ...]
    accepted: int
    versions: int
    repeats: int
    duplicates: int
    questions: int
    question_duplicates: int
    rejected: tuple[Rejected, ...]
    quarantine: Path | None  # the file with the rejected rows; None if no row was rejected
    # the instant at which `stream.clock` is fixed; None if the computer's clock counts
    clock: str | None
    waiting: int = 0
    # the columns that were matched and the forms of their dates; blank for those of the schema
    matched: str = ""
    columns: Mapping[Column, str] = field(default_factory=dict)
    files: tuple[tuple[str, str, str], ...] = ()
    """Of a dry run, name, format and encoding of each file; a blank encoding is declared by the
    file itself.
    """
    notices: tuple[str, ...] = ()
    parts: tuple[
        tuple[str, int, int], ...
    ] = ()  # period, documents, questions of each slice, also of a dry run
    preview: tuple[Mapping[str, Any], ...] = ()
    dry_run: bool = False

    def summary(self) -> str:
        """The result in one line."""
        documents = counted(self.accepted, "document")
        questions = counted(self.questions, "question")
        kinds = [
            counted(n, noun)
            for n, noun in ((self.versions, "new version"), (self.repeats, "repeat"))
            if n
        ]
        notes = f" ({', '.join(kinds)})" if kinds else ""
        taken = "would be taken" if self.dry_run else "taken"
        new = f"{documents}{notes} and {questions} {taken} into {counted(len(self.parts), 'slice')}"
        documents = counted(self.duplicates, "document")
        questions = counted(self.question_duplicates, "question")
        rejected = f"; {counted(len(self.rejected), 'row')} rejected" if self.rejected else ""
        rejected += f", see {self.quarantine}" if self.quarantine else ""
        return (
            f"{new if self.parts else 'nothing new'}; {documents} and {questions} already "
            f"there{rejected}"
        )

    @property
    def rejected_fraction(self) -> float:
        """Rejected rows ÷ all rows, 0–1."""
        rows = (
            self.accepted
            + self.duplicates
            + self.questions
            + self.question_duplicates
            + len(self.rejected)
        )
        return len(self.rejected) / rows if rows else 0.0

    def first_reasons(self, limit: int) -> list[str]:
        """A line for each of the `limit` commonest kinds of reason."""
        return [
            f"{row.file}:{row.row}: {row.reason}"
            + (f" (and {count - 1:,} more)" if count > 1 else "")
            for _, count, row in self.reasons()[:limit]
        ]

    def reasons(self) -> list[tuple[str, int, Rejected]]:
        """Each kind of reason, its values left out, with its number of rows and its first row; the
        commonest first.
        """
        first = {without_values(row.reason): row for row in reversed(self.rejected)}
        counts = Counter(without_values(row.reason) for row in self.rejected)
        return [(kind, count, first[kind]) for kind, count in counts.most_common()]


def without_values(reason: str) -> str:
    """`reason` without quoted text, lists and numbers, for places where a purge does not look for
    texts.
    """
    return _VALUES.sub("…", reason)


def notices(
    documents: ValidatedRows, intake: Intake, columns: Columns, notes: Notes, *, waiting: int
) -> Iterator[str]:
    odd = [
        f"{name} ({encoding})"
        for name, (_, encoding) in notes.files.items()
        if encoding not in ("", "utf-8")
    ]
    if odd:
        yield f"not UTF-8: {', '.join(odd[:_LISTED])}" + (
            f" and {len(odd) - _LISTED:,} more" if len(odd) > _LISTED else ""
        )
    yield from columns.notices(notes)
    if undated := pc.sum(pc.equal(intake.documents["published_at"], RELEASED_AT)).as_py():
        yield (
            f"{counted(undated, 'document')} of SQuAD without a date, dated {RELEASED_AT.date()}: "
            "see --published-at"
        )
    if intake.dangling:
        doc_id, target = intake.dangling[0]
        links = (
            "link of supersedes leads" if len(intake.dangling) == 1 else "links of supersedes lead"
        )
        yield f"{len(intake.dangling):,} {links} to no document, such as {target!r} in {doc_id!r}"
    if waiting:
        yield (
            f"{counted(waiting, 'row')} dated ahead of the clock: a later ingest takes them when "
            "their time has come"
        )
    texts = intake.documents["text"]
    sample = [texts[row].as_py() for row in range(0, len(texts), len(texts) // SAMPLE + 1)]
    if notice := language_notice(sample, sampled=len(texts) > SAMPLE):
        yield notice
    if len({origin.file for origin in documents.origins}) > 1:
        yield from _shared_ids(documents)


def file_publishers(added: Collection[str], files: Collection[str]) -> Iterator[str]:
    """How `added` files without a publisher were taken, if there are other such `files`."""
    own = min(added)
    alike = sorted(file for file in files if series(file) == series(own) and file != own)
    others = alike or sorted(set(files) - {own})
    if others:
        names = [name.removeprefix(FILE_PREFIX) for name in (own, others[0])]
        yield (
            f"{' and '.join(names)} have no --source: "
            + (
                "they count as files of one publisher, and correct each other's documents"
                if alike
                else "a later one may change what the other states"
            )
            + "; if that is wrong, name their publishers with --source"
        )


def _shared_ids(documents: ValidatedRows) -> Iterator[str]:
    """A notice if two files name texts without a common run of words by one doc_id, such as the
    number of a row.
    """
    first, compared = dict[str, tuple[str, str]](), 0
    for origin, (doc_id, text) in zip(
        documents.origins, rows_of(documents.table, "doc_id", "text"), strict=True
    ):
        file, other = first.setdefault(doc_id, (origin.file, text))
        if file == origin.file or text == other:
            continue
        compared += 1
        if different := shingles(words(text)).isdisjoint(shingles(words(other))):
            yield (
                f"doc_ids with different texts in several files, such as {doc_id!r} in {file} and "
                f"{origin.file}: each "
                "text replaces the one before it; if the ids are row numbers, leave them out with "
                "--map doc_id="
            )
        if different or compared == _MOST_COMPARED:
            return
