"""The systems that are compared: one function each, from questions to answers.

All use the same LM: without a text (closed-book), with retrieved texts (RAG), with the right text,
or with the memory (CMT).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cmt.answering import prompting
from cmt.answering.prompting import Passage, Prediction
from cmt.evaluation.baseline_data import ComparisonData
from cmt.lm import decoding
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt


@dataclass(frozen=True)
class SystemRun:
    """The answers of a system, with the resources that they took."""

    predictions: Sequence[Prediction]  # in the order of the questions
    # number of retrieved documents that count for recall; None if nothing is retrieved
    recall_depth: int | None
    # wall-clock seconds to process all documents; None if the rounds did not record them
    adapt_seconds: float | None
    stored_bytes: int  # bytes stored in addition to the frozen LM, without search indexes
    seconds: float  # wall-clock seconds of answering
    tokens: int  # prompt positions that the LM read, over all questions


class TokenMeter:
    """Versions of `generate` and `complete` that count the prompt positions that the LM reads in
    `tokens_read`.
    """

    def __init__(self) -> None:
        self.tokens_read = 0

    def generate(self, lm: FrozenLM, prompt: Prompt, **options: Any) -> decoding.Generation:
        """`decoding.generate`, metered; a shared head counts for every question."""
        self.tokens_read += int(prompt.whole_mask.sum())
        return decoding.generate(lm, prompt, **options)

    def complete(self, lm: FrozenLM) -> decoding.Complete:
        """`decoding.complete` of `lm`, metered."""
        return partial(decoding.complete, lm, generate=self.generate)


def closed_book(data: ComparisonData, **options: Any) -> SystemRun | None:
    """The LM without any document. `options`: see `prompting.given_text`."""
    data.progress.stage("closed", len(data.questions))
    return _timed(
        data,
        partial(prompting.closed_book, data.answerer.lm, data.questions, **options),
        adapt_seconds=0.0,
    )


def full_text(data: ComparisonData, **options: Any) -> SystemRun | None:
    """The LM with the right document in the prompt: an upper bound of RAG. `options`: see
    `prompting.given_text`.
    """
    data.progress.stage("full", len(data.questions))
    texts = dict(
        zip(*(data.documents[name].to_pylist() for name in ("doc_id", "text")), strict=True)
    )
    passages = [[Passage(doc_id, texts[doc_id])] for doc_id in data.gold_documents]
    return _timed(
        data,
        partial(prompting.given_text, data.answerer.lm, data.questions, passages, **options),
        adapt_seconds=0.0,
        stored_bytes=sum(len(text.encode()) for text in texts.values()),
    )


def rag(data: ComparisonData, *, retriever: str, top_k: int) -> SystemRun | None:
    """Retrieval-augmented generation with `top_k` texts; `retriever` is bm25, dense or hybrid. None
    without texts.
    """
    texts, lexical = data.memories["text"], retriever == "bm25"
    if texts.null_count == len(texts):
        return None
    data.progress.stage(f"rag-{retriever}-{top_k}", len(data.questions))

    def ask(**options: Any) -> list[Prediction] | None:
        answerer, keys = data.answerer, None if lexical else data.answerer.keys(data.questions)
        search = answerer.bank, data.questions, data.as_of
        return prompting.rag(
            answerer.lm, *search, top_k=top_k, keys=keys, words=retriever != "dense", **options
        )

    stages = ("bank",) if lexical else ("compress", "bank")
    stored_bytes = sum(len(text.encode()) for text in texts.to_pylist() if text)
    if not lexical:
        stored_bytes += (
            4 * len(texts) * data.memories.schema.field("key").type.list_size
        )  # keys in float32
    return _timed(
        data, ask, adapt_seconds=data.spent(*stages), recall_depth=top_k, stored_bytes=stored_bytes
    )


def memory(data: ComparisonData) -> SystemRun | None:
    """CMT: the project's bank and compressor."""
    data.progress.stage("cmt", len(data.questions))
    meter, started = TokenMeter(), time.perf_counter()
    answerer = replace(data.answerer, generate=meter.generate)
    answers = answerer.answer(data.questions, as_of=data.as_of, on_progress=data.progress.advance)
    seconds = time.perf_counter() - started
    return SystemRun(
        predictions=[Prediction.of(answer) for answer in answers],
        recall_depth=answerer.params.selection.top_k,
        adapt_seconds=data.spent("compress", "bank"),
        stored_bytes=int(answerer.bank.stats()["bytes"]),
        seconds=seconds,
        tokens=meter.tokens_read,
    )


System = Callable[[ComparisonData], SystemRun | None]
RAG_SYSTEMS: Mapping[str, System] = {
    f"rag-{retriever}-{top_k}": partial(rag, retriever=retriever, top_k=top_k)
    for retriever in ("bm25", "dense", "hybrid")
    for top_k in (1, 3)
}
SYSTEMS: Mapping[str, System] = {
    "closed": closed_book,
    "full": full_text,
    **RAG_SYSTEMS,
    "cmt": memory,
}
"""By the name that `cmt baselines --rows` takes, in the order in which they are measured."""


def _timed(
    data: ComparisonData,
    ask: Callable[..., list[Prediction] | None],
    *,
    adapt_seconds: float | None,
    recall_depth: int | None = None,
    stored_bytes: int = 0,
) -> SystemRun | None:
    """Call `ask` with the options of `prompting`, and record its time and tokens; None if it finds
    no text.
    """
    answering, meter, started = data.answerer.params.answering, TokenMeter(), time.perf_counter()
    predictions = ask(
        answering=answering,
        complete=meter.complete(data.answerer.lm),
        on_progress=data.progress.advance,
    )
    seconds = time.perf_counter() - started
    if predictions is None:
        return None
    return SystemRun(
        predictions, recall_depth, adapt_seconds, stored_bytes, seconds, meter.tokens_read
    )
