"""A bank and a reader of facts: each document answers some questions, each with a confidence."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from cmt.answering.answer import Answer, Source, Span, Verdict
from cmt.answering.judge import Statement
from cmt.config import Params
from cmt.modeling.cross_encoder import Odds
from cmt.retrieval.selector import Selection
from tests.helpers.encoders import FixedEncoder

DATE = datetime(2031, 1, 1, tzinfo=UTC)
Facts = Mapping[str, tuple[str, float]]  # question → answer and confidence
SCHEMA = pa.schema(
    dict.fromkeys(("memory_id", "doc_id", "title", "source", "text"), pa.string())
    | {"superseded_at": pa.date32()}
)
# a text that asks changes nothing, any other text changes what the earlier one says
ASSERTIONS = FixedEncoder(
    holds=4.0, changed=4.0, of_text=lambda text: Odds(4.0, -4.0 if "?" in text else 4.0)
)
ROW = {"published_at": DATE, "supersedes": None, "text": "", "prior": 0.0}


@dataclass(frozen=True)
class FactBank:
    """Documents with their texts, some of them excluded."""

    texts: Mapping[str, str]
    excluded_doc_ids: frozenset[str] = frozenset()
    schema: pa.Schema = SCHEMA

    def excluding(self, doc_ids: Collection[str]) -> "FactBank":
        return replace(self, excluded_doc_ids=frozenset(doc_ids))

    def documents(self, doc_ids: Collection[str]) -> pa.Table:
        texts = {
            name: text
            for name, text in self.texts.items()
            if name in {*doc_ids} - self.excluded_doc_ids
        }
        rows = [
            {"memory_id": f"{name}#0", "doc_id": name, "text": text} for name, text in texts.items()
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def rows(self, _columns: Sequence[str], memory_ids: Collection[str]) -> pa.Table:
        return self.documents({name.removesuffix("#0") for name in memory_ids})


@dataclass(frozen=True)
class FactReader:
    """Answers from the visible document that is surest; selects the `top_k` surest ones."""

    facts: Mapping[str, Facts]  # doc_id → what it answers
    bank: FactBank
    top_k: int = 3
    asked: list[str] = field(default_factory=list)
    model: Any = field(default_factory=lambda: SimpleNamespace(cross_encoder=ASSERTIONS))
    params: Params = field(default_factory=Params)
    confidence_is_probability: bool = True

    @classmethod
    def of(cls, facts: Mapping[str, Facts], texts: Mapping[str, str]) -> Any:
        return cls(facts, FactBank({name: texts.get(name, name) for name in facts}))

    def answer(self, questions: Sequence[str], **_options: Any) -> list[Answer]:
        self.asked.extend(questions)
        visible = self.facts.keys() - self.bank.excluded_doc_ids
        return [self._answer(question, visible) for question in questions]

    def select(self, questions: Sequence[str], **_options: Any) -> list[Selection]:
        visible = self.facts.keys() - self.bank.excluded_doc_ids
        found = [
            [source.doc_id for source in self._answer(question, visible).sources]
            for question in questions
        ]
        return [
            Selection([ROW | {"memory_id": name, "doc_id": name} for name in names])
            for names in found
        ]

    def answer_from(
        self, questions: Sequence[str], memories: Sequence[Sequence[Mapping[str, Any]]]
    ) -> list[Answer]:
        pairs = zip(questions, memories, strict=True)
        return [self._answer(question, {row["doc_id"] for row in rows}) for question, rows in pairs]

    def statements(
        self, questions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[Statement]:
        statements = []
        for question, row in zip(questions, rows, strict=True):
            answer, _ = self.facts[row["doc_id"]].get(question, ("", 0.0))
            first = max(0, row["text"].find(answer))
            statements.append(Statement(row["text"], first, first + len(answer), 3.0, DATE))
        return statements

    def _answer(self, question: str, doc_ids: Collection[str]) -> Answer:
        found = {
            name: self.facts[name][question] for name in doc_ids if question in self.facts[name]
        }
        order = sorted(found, key=lambda name: (-found[name][1], name))[: self.top_k]
        text, confidence = found[order[0]] if order else ("", 0.0)
        quote = Span(0, 1, 1.0) if text else None
        sources = tuple(
            Source(name, None, DATE, 0, 0, None, quote=quote if name == order[0] else None)
            for name in order
        )
        verdict: Verdict = "likely" if text else "not_in_memory"
        return Answer(question, text, verdict, confidence, sources, uncalibrated=confidence)
