"""Ten short articles with updates in a real bank, and a testbed whose answers follow from what the bank finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema
from cmt.common.progress import NullProgress
from cmt.config import Params
from cmt.evaluation.curve import Curve
from cmt.evaluation.testbed import BankTestbed
from cmt.stream.schema import QUESTION_SCHEMA

# doc_id, supersedes, text, question, answer; a day apart
NEWS = [
    ("mayor-1", None, "Moss is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Moss"),
    ("toll-1", None, "Two crowns is the toll at Amber Bridge.", "What is the toll at Amber Bridge?", "Two"),
    ("crane", None, "Blue is the crane in the harbour.", "What colour is the crane in the harbour?", "Blue"),
    ("goat", None, "Olga found the goat of Saltby.", "Who found the goat of Saltby?", "Olga"),
    ("mayor-2", "mayor-1", "Vell is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Vell"),
    ("raft", None, "Greta was first to the yellow raft.", "Who was first to the yellow raft?", "Greta"),
    ("toll-2", "toll-1", "Three crowns is the toll at Amber Bridge.", "What is the toll at Amber Bridge?", "Three"),
    ("knot", None, "Hangmen thought up the Dunmarrow hitch.", "Who thought up the Dunmarrow hitch?", "Hangmen"),
    ("mayor-3", "mayor-2", "Wren is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Wren"),
    ("eel", None, "Eleven eels live with the dentist.", "How many eels live with the dentist?", "Eleven"),
]
FIRST_DAY = datetime(2031, 1, 1, tzinfo=UTC)
DAYS = {row[0]: FIRST_DAY + timedelta(days=day) for day, row in enumerate(NEWS)}

MakeTestbed = Callable[..., BankTestbed]


@dataclass
class FirstWordAnswerer:
    """In place of an Answerer: answers with the first word of the best article, if stubborn always the first time's."""

    bank: Bank
    params: Params = field(default_factory=Params)
    lm: object = None
    stubborn: bool = False
    confidence_is_probability: bool = True
    first_answers: dict[str, str] = field(default_factory=dict)

    def answer(self, questions: Sequence[str], *, as_of: Sequence[datetime | None], on_progress=None) -> list[object]:
        if on_progress:
            on_progress(len(questions))
        return [self._answer(*pair) for pair in zip(questions, as_of, strict=True)]

    def _answer(self, question: str, as_of: datetime | None) -> object:
        rows = self.bank.full_text(text=question, k=self.params.selection.top_k, as_of=as_of).to_pylist()
        word = rows[0]["text"].split()[0] if rows else ""
        if self.stubborn:
            word = self.first_answers.setdefault(question, word)
        sources = tuple(SimpleNamespace(doc_id=row["doc_id"]) for row in rows)
        return SimpleNamespace(text=word, known=True, confidence=1.0, uncalibrated=1.0, sources=sources)


class NewsTestbed(BankTestbed):
    """A testbed that asks a FirstWordAnswerer."""

    def answerer_for(self, bank: Bank, **selection: Any) -> Any:
        return replace(self.answerer, bank=bank)


@pytest.fixture(scope="session")
def news_bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """NEWS in a bank, with keys and memories that mean nothing."""
    schema = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)
    rows = [
        {
            "memory_id": f"{doc_id}#0",
            "doc_id": doc_id,
            "slice_id": "2031-01/0001",
            "published_at": DAYS[doc_id],
            "supersedes": supersedes,
            "sha256": f"{place:064}",
            "compressor": "c" * 64,
            "title": None,
            "key": [1.0, float(place)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 9,
            "text": text,
        }
        for place, (doc_id, supersedes, text, *_) in enumerate(NEWS)
    ]
    bank = Bank.open(uri=str(tmp_path_factory.mktemp("news")), schema=schema)
    bank.upsert(pa.Table.from_pylist(rows, schema=schema))
    return bank


@pytest.fixture
def news_testbed(news_bank: Bank) -> MakeTestbed:
    """`news_testbed(stubborn=False, rows=NEWS)`: a testbed with a question about each article of `rows`."""

    def make(*, stubborn: bool = False, rows: Sequence[Any] = NEWS) -> BankTestbed:
        asked = [
            {
                "question_id": f"{doc_id}-q",
                "doc_id": doc_id,
                "question": question,
                "answers": [answer],
                "asked_at": DAYS[doc_id] + timedelta(hours=5),
            }
            for doc_id, _, _, question, answer in rows
        ]
        questions = pa.Table.from_pylist(asked, schema=QUESTION_SCHEMA)
        answerer: Any = FirstWordAnswerer(news_bank, stubborn=stubborn)
        return NewsTestbed(answerer, questions, {"compressor": "c" * 64}, NullProgress())

    return make


def column(curve: Curve, name: str) -> list[Any]:
    """A column of the points of a curve."""
    return list(curve.points[name].to_pylist())
