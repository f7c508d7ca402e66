"""What measurements work on: the bank's memories, to be banked again elsewhere, and the questions of its stream."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict, cast

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.common.arrow import is_in, replace_column, rows_with
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import git_commit
from cmt.errors import StreamError
from cmt.evaluation.evaluate import evaluate
from cmt.evaluation.sampling import sample_by_hash

if TYPE_CHECKING:
    from cmt.resources import Resources

LIMIT = 200
"""Default of the maximum number of questions of a point."""


class BankedDocument(TypedDict):
    """What the bank's rows say of a document."""

    doc_id: str
    published_at: datetime
    title: str | None
    supersedes: str | None


@dataclass(frozen=True)
class BankTestbed:
    """A bank with its answerer, and questions about its documents."""

    answerer: Answerer
    questions: pa.Table
    """QUESTION_SCHEMA; may hold questions about documents that are not in the bank."""
    lineage: Mapping[str, Any]
    """The inputs of a measurement: digests of slices, compressor, LM, params and bank, and the git commit."""
    progress: Progress

    @classmethod
    def of(cls, resources: "Resources", *, progress: Progress | None = None) -> "BankTestbed":
        """The bank of `resources` and all questions of the stream. Raises BankError without a bank."""
        resources.answering_bank()
        return cls(
            resources.answerer, resources.store.all_questions(), bank_lineage(resources), progress or NullProgress()
        )

    @cached_property
    def memories(self) -> pa.Table:
        """All rows of the bank, by date of publication."""
        bank = self.answerer.bank
        rows = bank.rows(bank.schema.names).cast(bank.schema)
        return rows.sort_by([("published_at", "ascending"), ("memory_id", "ascending")])

    @cached_property
    def documents(self) -> dict[str, BankedDocument]:
        """doc_id → document, by date of publication."""
        rows = self.memories.select(["doc_id", "published_at", "title", "supersedes"]).to_pylist()
        return {row["doc_id"]: row for row in rows}

    @cached_property
    def end(self) -> datetime:
        """The date of the last document or question."""
        dates = [row["published_at"] for row in self.documents.values()]
        return cast(datetime, max(dates + self.questions["asked_at"].to_pylist()))

    @contextmanager
    def temporary_bank(self) -> Iterator[Bank]:
        """An empty bank with the schema of the project's bank; deleted at the end."""
        schema = self.answerer.bank.schema
        with TemporaryDirectory() as folder:
            yield Bank.open(uri=folder, schema=schema, exact_below=self.answerer.params.bank.exact_below)

    def add(self, bank: Bank, doc_ids: Iterable[str]) -> None:
        """Copy the memories of `doc_ids` into `bank`."""
        rows = rows_with(self.memories, "doc_id", doc_ids)
        if rows.num_rows:
            bank.upsert(rows)

    def asked(self, doc_ids: Iterable[str]) -> pa.Table:
        """The questions about those of `doc_ids` that are banked, each as of its own date."""
        return rows_with(self.questions, "doc_id", set(doc_ids) & self.documents.keys())

    def current(self, doc_ids: Iterable[str], *, among: Iterable[str]) -> pa.Table:
        """Questions about those of `doc_ids` that no document in `among` supersedes, as of the end of the stream."""
        superseded = {self.documents[doc_id]["supersedes"] for doc_id in among}
        questions = self.asked(set(doc_ids) - superseded)
        return as_of(questions, [self.end] * questions.num_rows)

    def sample(self, questions: pa.Table, limit: int) -> pa.Table:
        """At most `limit` of `questions`, drawn by seed and question_id. Raises StreamError if `questions` is empty."""
        if not questions.num_rows:
            raise StreamError("the stream has no question that fits this curve: `cmt ingest` more, and `cmt update`")
        return sample_by_hash(questions, limit=limit, seed=self.answerer.params.seed)

    def answerer_for(self, bank: Bank, **selection: int | float) -> Answerer:
        """An answerer over `bank`, with some values of the parameters' section `selection` replaced."""
        answerer = self.answerer
        section = answerer.params.selection.model_copy(update=selection)
        params = answerer.params.model_copy(update={"selection": section})
        return answerer.with_params(params, bank=bank)

    def ask(self, answerer: Answerer, questions: pa.Table) -> tuple[pa.Table, float]:
        """The answers to `questions` (RECORD_SCHEMA, in their order), and the wall-clock seconds of all of them."""
        result = evaluate(answerer, questions, on_progress=self.progress.advance)
        return result.records, result.systems[0].seconds


def bank_lineage(resources: "Resources") -> dict[str, Any]:
    """The inputs of a measurement on the bank: digests of slices, compressor, LM, params and bank, and the commit."""
    return {
        "slices": {slice_.slice_id: slice_.digest for slice_ in resources.store.slices()},
        "compressor": resources.model.digest,
        "lm": resources.lm.digest,
        "params": resources.params.digest("seed", "selection", "answering", "bank"),
        "bank": resources.bank.digest(),
        "git_commit": git_commit(resources.root),
    }


def as_of(questions: pa.Table, dates: Sequence[datetime]) -> pa.Table:
    """`questions` with their `asked_at` replaced by `dates`."""
    return replace_column(questions, "asked_at", dates)


@dataclass(frozen=True)
class ComparisonData:
    """The data that all systems of a comparison share."""

    testbed: BankTestbed
    texts: Mapping[str, str]
    """doc_id → full text of each banked document, by date of publication."""
    documents: pa.Table
    """DOCUMENT_SCHEMA; the banked documents."""
    asked: pa.Table
    """QUESTION_SCHEMA; questions about banked documents, each asked as of its own date."""
    absent: pa.Table
    """QUESTION_SCHEMA; questions about documents that are not in the bank, to measure abstention."""
    seconds: Mapping[str, float]
    """Stage → wall-clock seconds, summed over all committed rounds."""

    @classmethod
    def of(cls, resources: "Resources", *, limit: int, progress: Progress | None = None) -> "ComparisonData":
        """The bank of `resources` and at most `limit` questions about its documents.

        Raises BankError without a bank and StreamError without questions.
        """
        testbed = BankTestbed.of(resources, progress=progress)
        documents = rows_with(resources.store.all_documents(), "doc_id", testbed.documents)
        texts = dict(zip(documents["doc_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
        has_document = is_in(testbed.questions["doc_id"], testbed.documents)
        asked, absent = testbed.questions.filter(has_document), testbed.questions.filter(pc.invert(has_document))
        seconds: dict[str, float] = {}
        for round_ in resources.rounds():
            if round_.state == "committed":
                for stage, stage_seconds in round_.seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + stage_seconds
        absent = testbed.sample(absent, limit) if absent.num_rows else absent
        return cls(testbed, texts, documents, testbed.sample(asked, limit), absent, seconds)

    def spent(self, *stages: str) -> float | None:
        """Seconds of the rounds in `stages`; None if one of them was not recorded."""
        return sum(self.seconds[stage] for stage in stages) if set(stages) <= self.seconds.keys() else None

    def bytes_to_search(self, *, keys: bool) -> int:
        """Bytes of the banked texts and, with `keys`, of their keys in float32."""
        memories = self.testbed.memories
        text = sum(len(text.encode()) for text in memories["text"].to_pylist() if text)
        return text + (4 * memories.num_rows * memories.schema.field("key").type.list_size if keys else 0)
