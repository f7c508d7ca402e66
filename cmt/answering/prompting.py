"""Baselines that use the frozen LM with plain prompts: closed-book, RAG, and any given text.

Prompts have two worked examples unless others are given. Decoding is greedy and answers end with
their line. The wording was chosen on questions of SQuAD train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cmt.answering.answer import MAX_QUESTION_TOKENS
from cmt.common.progress import OnProgress
from cmt.config import AnsweringParams
from cmt.lm import decoding

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.bank.bank import Bank
    from cmt.lm.decoding import Complete
    from cmt.lm.model import FrozenLM

Keys = NDArray[np.float32]

FUSED, RANK_CONSTANT = (
    20,
    10,
)  # candidates and constant of reciprocal rank fusion (Cormack et al., SIGIR 2009)
# positions of the context left free for BOS and for tokens that change where a text is cut
_MARGIN = 8


class Example(NamedTuple):
    """A worked example of the prompts; its content is fictitious."""

    text: str
    question: str
    answer: str


EXAMPLES = (
    Example(
        "Tarrock beetles live under the bark of silver firs. In spring each female lays about "
        "forty eggs, and the "
        "young feed on fungus until the autumn rain drives them out.",
        "What do young tarrock beetles feed on?",
        "fungus",
    ),
    Example(
        "The Harlow lighthouse was built in 1874 by the engineer Tomas Brenning. It is 31 metres "
        "high and guided ships "
        "into Port Aldney until the harbour closed in 1969.",
        "Who built the Harlow lighthouse?",
        "Tomas Brenning",
    ),
)


@dataclass(frozen=True)
class Passage:
    """A text for a prompt, and its document."""

    doc_id: str
    text: str


@dataclass(frozen=True)
class Prediction:
    """An answer and the documents in its prompt, best first; closed-book has none."""

    text: str
    doc_ids: tuple[str, ...]

    @classmethod
    def of(cls, answer: "Answer") -> "Prediction":
        """An answer of the memory and its sources; the text is empty for "not in memory"."""
        return Prediction(
            answer.text if answer.known else "", tuple(source.doc_id for source in answer.sources)
        )


def closed_book(lm: "FrozenLM", questions: Sequence[str], **options: Any) -> list[Prediction]:
    """Answers of the LM without any document. `options`: see `given_text`."""
    return given_text(lm, questions, [()] * len(questions), **options)


def rag(
    lm: "FrozenLM",
    bank: "Bank",
    questions: Sequence[str],
    as_of: Sequence[datetime | None],
    *,
    top_k: int = 1,
    keys: Keys | None = None,
    words: bool = True,
    **options: Any,
) -> list[Prediction] | None:
    """Answers of the LM with the best `top_k` texts of the bank in the prompt; closed-book where
    search finds none.

    Search is by BM25 (`words`), by the search keys (n, p) of the questions, or by both with
    reciprocal rank fusion. Returns None if no question finds a text, as in a bank without text.
    `options`: see `given_text`.
    """
    passages = []
    for row, (question, date) in enumerate(zip(questions, as_of, strict=True)):
        best = _search(bank, question, date, None if keys is None else keys[row], words, top_k)
        passages.append(list(map(Passage, best["doc_id"].to_pylist(), best["text"].to_pylist())))
    if questions and not any(passages):
        return None
    return given_text(lm, questions, passages, **options)


def _search(
    bank: "Bank",
    question: str,
    as_of: datetime | None,
    key: NDArray[np.float32] | None,
    words: bool,
    top_k: int,
) -> pa.Table:
    """The best `top_k` rows of the bank for a question, by BM25, by `key` (p,), or by both."""
    if key is None:
        return bank.full_text(text=question, k=top_k, as_of=as_of)
    if not words:
        return bank.search(key=key, text=None, k=top_k, as_of=as_of)
    # reciprocal rank fusion: Σ 1 / (constant + rank), where the highest score has rank 1
    candidates = bank.search(key=key, text=question, k=FUSED, as_of=as_of)
    scores = [candidates[name].to_numpy() for name in ("similarity", "bm25")]
    ranks = [1 + np.argsort(np.argsort(-values, kind="stable"), kind="stable") for values in scores]
    fused = sum(1 / (RANK_CONSTANT + rank) for rank in ranks)
    return candidates.take(pa.array(np.argsort(-np.asarray(fused), kind="stable")[:top_k]))


def given_text(
    lm: "FrozenLM",
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    *,
    answering: AnsweringParams,
    examples: Sequence[Example] = EXAMPLES,
    complete: "Complete | None" = None,
    on_progress: OnProgress | None = None,
) -> list[Prediction]:
    """Answers of the LM with each question's own passages in its prompt, best first.

    With the right document's text this is the upper bound of RAG. Passages are cut to fit the LM's
    context. Without `examples` the prompt is zero-shot.
    """
    complete = complete or partial(decoding.complete, lm)
    answers = [""] * len(questions)
    for with_text in (False, True):  # questions with and without text have different examples
        rows = [row for row, given in enumerate(passages) if bool(given) == with_text]
        if not rows:
            continue
        # the examples end with a line break, so that tokenizing both parts gives the tokens of the
        # whole prompt
        examples_text = "\n".join(
            _prompt([example.text] if with_text else [], example.question) + f" {example.answer}\n"
            for example in examples
        )
        prompts = [
            _fitted_prompt(
                lm,
                passages[row],
                questions[row],
                shared=examples_text,
                reserve=answering.max_new_tokens,
            )
            for row in rows
        ]
        replies = complete(
            prompts,
            **answering.model_dump(),
            shared=examples_text,
            on_progress=on_progress,
        )
        for row, reply in zip(rows, replies, strict=True):
            answers[row] = reply.partition("\n")[0].strip()
    return [
        Prediction(answer, tuple(dict.fromkeys(passage.doc_id for passage in given)))
        for answer, given in zip(answers, passages, strict=True)
    ]


def _prompt(texts: Sequence[str], question: str) -> str:
    lines = [f"Text: {_one_line(text)}\n" for text in texts]
    return "".join(lines) + f"Question: {_one_line(question)}\nAnswer:"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fitted_prompt(
    lm: "FrozenLM", passages: Sequence[Passage], question: str, *, shared: str, reserve: int
) -> str:
    """The prompt behind `shared`, cut so that both and `reserve` new tokens fit into the LM's
    context.

    A long question is cut to MAX_QUESTION_TOKENS, and each text to an equal share of the remaining
    positions.
    """
    texts = [_one_line(passage.text) for passage in passages]
    if len(question_tokens := lm.tokenize(question)) > MAX_QUESTION_TOKENS:
        question = lm.decode(question_tokens[:MAX_QUESTION_TOKENS])
    separator = "\n" if shared else ""
    fixed = (
        len(lm.tokenize(shared + separator + _prompt([""] * len(texts), question)))
        + reserve
        + _MARGIN
    )
    share = max(0, lm.model.config.max_position_embeddings - fixed) // max(1, len(texts))
    # a token is at least one byte, so short texts need not be tokenized
    cut = [
        text if len(text.encode()) <= share else lm.decode(lm.tokenize(text)[:share])
        for text in texts
    ]
    return separator + _prompt(cut, question)
