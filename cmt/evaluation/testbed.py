"""What curves are measured on: a bank whose memories go into scratch banks again, and the questions of its stream."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import git_commit
from cmt.errors import StreamError
from cmt.evaluation.evaluate import evaluate
from cmt.evaluation.finetuning import Recipe
from cmt.stream.schema import INSTANT

if TYPE_CHECKING:
    from cmt.resources import Resources

LIMIT = 200
"""Most questions of a point."""


@dataclass(frozen=True)
class BankTestbed:
    """A bank with its way of answering, and questions about its documents."""

    answerer: Answerer
    questions: pa.Table
    """QUESTION_SCHEMA; those on documents that are not in the bank are never asked."""
    lineage: Mapping[str, Any]
    """What a curve rests on: digests of slices, compressor, LM, params and bank, and the git commit."""
    progress: Progress

    @classmethod
    def of(cls, resources: "Resources", *, progress: Progress | None = None) -> "BankTestbed":
        """The resources's bank and questions. BankError when there is no bank."""
        resources.answering_bank()
        lineage = {
            "slices": {slice_.slice_id: slice_.digest for slice_ in resources.store.slices()},
            "compressor": resources.model.digest,
            "lm": resources.lm.digest,
            "params": resources.params.digest("seed", "selection", "answering", "bank"),
            "bank": resources.bank.digest(),
            "git_commit": git_commit(resources.root),
        }
        return cls(resources.answerer, resources.store.all_questions(), lineage, progress or NullProgress())

    @cached_property
    def memories(self) -> pa.Table:
        """Every row of the bank, by date."""
        bank = self.answerer.bank
        rows = bank.rows(bank.schema.names).cast(bank.schema)
        return rows.sort_by([("published_at", "ascending"), ("memory_id", "ascending")])

    @cached_property
    def documents(self) -> dict[str, dict[str, Any]]:
        """published_at, title and supersedes of each banked document, by date."""
        rows = self.memories.select(["doc_id", "published_at", "title", "supersedes"]).to_pylist()
        return {row["doc_id"]: row for row in rows}

    @cached_property
    def end(self) -> datetime:
        """When the last document and the last question are out."""
        dates = [row["published_at"] for row in self.documents.values()]
        return cast(datetime, max(dates + self.questions["asked_at"].to_pylist()))

    @contextmanager
    def scratch(self) -> Iterator[Bank]:
        """An empty bank for the same memories."""
        live = self.answerer.bank
        with TemporaryDirectory() as folder:
            yield Bank.open(uri=folder, schema=live.schema, exact_below=self.answerer.params.bank.exact_below)

    def add(self, bank: Bank, doc_ids: Iterable[str]) -> None:
        """Bank the memories of these documents."""
        rows = _of(self.memories, doc_ids)
        if rows.num_rows:
            bank.upsert(rows)

    def asked(self, doc_ids: Iterable[str]) -> pa.Table:
        """The questions on these documents, each as of its own date."""
        return _of(self.questions, set(doc_ids) & self.documents.keys())

    def standing(self, doc_ids: Iterable[str], *, among: Iterable[str]) -> pa.Table:
        """Questions on those of `doc_ids` that none of the documents `among` supersedes, as of the stream's end."""
        gone = {self.documents[name]["supersedes"] for name in among}
        questions = self.asked(set(doc_ids) - gone)
        return at(questions, [self.end] * questions.num_rows)

    def sample(self, questions: pa.Table, limit: int) -> pa.Table:
        """At most `limit` of them, drawn by the seed and their own ids. StreamError when there is none to draw."""
        names = questions["question_id"].to_pylist()
        if not names:
            raise StreamError("the stream has no question that fits this curve: `cmt ingest` more, and `cmt update`")
        seed = self.answerer.params.seed
        lots = [hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names]
        drawn = sorted(range(len(names)), key=lots.__getitem__)[:limit]
        return questions.take(pa.array(sorted(drawn), pa.int64()))

    def through(self, bank: Bank, **selection: int | float) -> Answerer:
        """Answers from `bank`, some values of the section `selection` replaced."""
        one = self.answerer
        section = one.params.selection.model_copy(update=selection)
        params = one.params.model_copy(update={"selection": section})
        return Answerer(model=one.model, lm=one.lm, bank=bank, params=params)

    def ask(self, answerer: Answerer, questions: pa.Table) -> tuple[pa.Table, float]:
        """A record a question (protocol.RECORD_SCHEMA), in their order, and the wall-clock seconds of them all."""
        result = evaluate(
            answerer=answerer,
            lm=answerer.lm,
            bank=answerer.bank,
            questions=questions,
            params=answerer.params,
            baselines=False,
            on_progress=self.progress.advance,
        )
        return result.records, result.systems[0].seconds


def at(questions: pa.Table, moments: Sequence[datetime]) -> pa.Table:
    """`questions`, each asked at a moment of its own."""
    place = questions.schema.get_field_index("asked_at")
    return questions.set_column(place, questions.schema.field(place), pa.array(moments, INSTANT))


def _of(table: pa.Table, doc_ids: Iterable[str]) -> pa.Table:
    return table.filter(pc.is_in(table["doc_id"], value_set=pa.array(sorted(doc_ids), pa.string())))


@dataclass(frozen=True)
class ComparisonData:
    """The same for every row."""

    testbed: BankTestbed
    texts: Mapping[str, str]
    """doc_id → whole text of each banked document, by date of publication."""
    documents: pa.Table
    """DOCUMENT_SCHEMA; the banked documents."""
    asked: pa.Table
    """QUESTION_SCHEMA; questions on banked documents, each asked as of its own date."""
    absent: pa.Table
    """QUESTION_SCHEMA; questions on documents that the bank does not have, for abstention alone."""
    seconds: Mapping[str, float]
    """Stage of the rounds → what it took, over all committed rounds."""
    recipe: Recipe = Recipe()

    @classmethod
    def of(cls, resources: "Resources", *, limit: int, progress: Progress | None = None) -> "ComparisonData":
        """The resources's bank and at most `limit` of its questions. BankError or StreamError when there are none."""
        testbed = BankTestbed.of(resources, progress=progress)
        banked = pa.array(list(testbed.documents), pa.string())
        documents = resources.store.all_documents()
        documents = documents.filter(pc.is_in(documents["doc_id"], value_set=banked))
        texts = dict(zip(documents["doc_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
        here = pc.is_in(testbed.questions["doc_id"], value_set=banked)
        asked, absent = testbed.questions.filter(here), testbed.questions.filter(pc.invert(here))
        seconds: dict[str, float] = {}
        for round_ in resources.rounds():
            if round_.state == "committed":
                for stage, took in round_.seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + took
        refused = testbed.sample(absent, limit) if absent.num_rows else absent
        return cls(testbed, texts, documents, testbed.sample(asked, limit), refused, seconds)

    def spent(self, *stages: str) -> float | None:
        """Seconds of the rounds in `stages`; None where one of them was not noted."""
        return sum(self.seconds[stage] for stage in stages) if set(stages) <= self.seconds.keys() else None

    def bytes_to_search(self, *, keys: bool) -> int:
        """Bytes of the banked texts, and of their keys in float32."""
        memories = self.testbed.memories
        text = sum(len(text.encode()) for text in memories["text"].to_pylist() if text)
        return text + (4 * memories.num_rows * memories.schema.field("key").type.list_size if keys else 0)
