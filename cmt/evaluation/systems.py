"""The systems that are compared: one function each, from questions to answers.

All use the same LM: alone (closed-book), with retrieved texts (RAG), with the right text, or with the memory (CMT).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cmt.answering import prompting
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import Passage, Prediction
from cmt.evaluation.comparison_data import ComparisonData
from cmt.evaluation.cost import TokenMeter


@dataclass(frozen=True)
class SystemRun:
    """The answers of a system, with the resources that they took."""

    predictions: Sequence[Prediction]
    """In the order of the questions."""
    recall_depth: int | None
    """Number of retrieved documents that count for recall; None if nothing is retrieved."""
    adapt_seconds: float | None
    """Wall-clock seconds to process all documents; None if the rounds did not record them."""
    stored_bytes: int
    """Bytes stored beside the frozen LM, without search indexes."""
    seconds: float
    """Wall-clock seconds of answering."""
    tokens: int
    """Prompt positions that the LM read, over all questions."""
    answers: Sequence[Answer] = ()
    """Only for the memory: the answers with confidence and sources."""


@dataclass
class SystemInput:
    """The input of every system: the data, the memory's answerer, and the questions as columns."""

    data: ComparisonData
    meter: TokenMeter = field(default_factory=TokenMeter)

    def __post_init__(self) -> None:
        self.answerer = self.data.answerer
        self.progress = self.data.progress
        self.questions: list[str] = self.data.asked["question"].to_pylist()
        self.as_of = self.data.asked["asked_at"].to_pylist()
        self.gold_documents: list[str] = self.data.asked["doc_id"].to_pylist()

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the functions in `prompting`."""
        answering = self.answerer.params.answering
        return {
            "max_new_tokens": answering.max_new_tokens,
            "batch_size": answering.batch_size,
            "complete": self.meter.complete(self.answerer.lm),
            "on_progress": self.progress.advance,
        }

    def memory(self) -> Answerer:
        """The memory's answerer, metered."""
        return self.answerer.with_params(generate=self.meter.generate)

    def timed(
        self,
        ask: Callable[[], list[Prediction] | None],
        *,
        adapt_seconds: float | None,
        recall_depth: int | None = None,
        stored_bytes: int = 0,
    ) -> SystemRun | None:
        """Call `ask` and record its time and tokens; None if it returns None, because the bank keeps no texts."""
        self.meter.tokens_read, started = 0, time.perf_counter()
        predictions = ask()
        seconds = time.perf_counter() - started
        if predictions is None:
            return None
        return SystemRun(predictions, recall_depth, adapt_seconds, stored_bytes, seconds, self.meter.tokens_read)


def closed_book(given: SystemInput) -> SystemRun | None:
    """The LM without any document."""
    given.progress.stage("closed", len(given.questions))
    return given.timed(
        lambda: prompting.closed_book(given.answerer.lm, given.questions, **given.options), adapt_seconds=0.0
    )


def full_text(given: SystemInput) -> SystemRun | None:
    """The LM with the right document in the prompt: an upper bound of RAG."""
    given.progress.stage("full", len(given.questions))
    texts = dict(zip(*(given.data.documents[name].to_pylist() for name in ("doc_id", "text")), strict=True))
    passages = [[Passage(doc_id, texts[doc_id])] for doc_id in given.gold_documents]
    return given.timed(
        lambda: prompting.given_text(given.answerer.lm, given.questions, passages, **given.options),
        adapt_seconds=0.0,
        stored_bytes=sum(len(text.encode()) for text in texts.values()),
    )


def rag(given: SystemInput, *, retriever: str, top_k: int) -> SystemRun | None:
    """Retrieval-augmented generation with `top_k` texts; `retriever` is bm25, dense or hybrid. None without texts."""
    given.progress.stage(f"rag-{retriever}-{top_k}", len(given.questions))
    lexical = retriever == "bm25"

    def ask() -> list[Prediction] | None:
        return prompting.rag(
            given.answerer.lm,
            given.answerer.bank,
            given.questions,
            given.as_of,
            top_k=top_k,
            keys=None if lexical else given.answerer.keys(given.questions),
            words=retriever != "dense",
            **given.options,
        )

    stages = ("bank",) if lexical else ("compress", "bank")
    return given.timed(
        ask,
        recall_depth=top_k,
        adapt_seconds=given.data.spent(*stages),
        stored_bytes=given.data.bytes_to_search(keys=not lexical),
    )


def memory(given: SystemInput) -> SystemRun | None:
    """CMT: the project's bank and compressor."""
    given.progress.stage("cmt", len(given.questions))
    answers: list[Answer] = []

    def ask() -> list[Prediction]:
        answers.extend(_ask(given, given.memory()))
        return [Prediction.of(answer) for answer in answers]

    run = given.timed(
        ask,
        recall_depth=given.answerer.params.selection.top_k,
        adapt_seconds=given.data.spent("compress", "bank"),
        stored_bytes=int(given.answerer.bank.stats()["bytes"]),
    )
    return run and replace(run, answers=answers)


RAG_SYSTEMS: Mapping[str, Callable[[SystemInput], SystemRun | None]] = {
    f"rag-{retriever}-{top_k}": partial(rag, retriever=retriever, top_k=top_k)
    for retriever in ("bm25", "dense", "hybrid")
    for top_k in (1, 3)
}
SYSTEMS: Mapping[str, Callable[[SystemInput], SystemRun | None]] = {
    "closed": closed_book,
    "full": full_text,
    **RAG_SYSTEMS,
    "cmt": memory,
}
"""By the name that `cmt baselines --rows` takes, in the order in which they are measured."""


def _ask(given: SystemInput, answerer: Answerer) -> list[Answer]:
    return answerer.answer(given.questions, as_of=given.as_of, on_progress=given.progress.advance)
