"""What the memory is measured against: the same frozen LM without it, with retrieved text, with the right text.

Every row gets two worked examples unless told otherwise, greedy decoding and a cut at the line's end, nothing else. The
wording was chosen on questions of SQuAD train.
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
from cmt.lm import decoding

if TYPE_CHECKING:
    from cmt.bank.bank import Bank
    from cmt.lm.decoding import Complete
    from cmt.lm.model import FrozenLM

Keys = NDArray[np.float32]

FUSED, RANK_CONSTANT = 20, 10  # candidates of reciprocal-rank fusion and its constant, as in method §7

# positions kept free in the LM's context: its first token, and what cutting a text may shift at the seam
_MARGIN = 8


class Example(NamedTuple):
    """A worked example of the prompts; nothing in it is true."""

    text: str
    question: str
    answer: str


EXAMPLES = (
    Example(
        "Tarrock beetles live under the bark of silver firs. In spring each female lays about forty eggs, and the "
        "young feed on fungus until the autumn rain drives them out.",
        "What do young tarrock beetles feed on?",
        "fungus",
    ),
    Example(
        "The Harlow lighthouse was built in 1874 by the engineer Tomas Brenning. It is 31 metres high and guided ships "
        "into Port Aldney until the harbour closed in 1969.",
        "Who built the Harlow lighthouse?",
        "Tomas Brenning",
    ),
)


@dataclass(frozen=True)
class Passage:
    """A text that goes into a prompt, and the document it is from."""

    doc_id: str
    text: str


@dataclass(frozen=True)
class Prediction:
    """An answer and the documents in its prompt, best first (none: closed-book)."""

    text: str
    doc_ids: tuple[str, ...]


def closed_book(
    lm: "FrozenLM",
    questions: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    examples: Sequence[Example] = EXAMPLES,
    complete: "Complete | None" = None,
    on_progress: OnProgress | None = None,
) -> list[Prediction]:
    """The LM alone: what it knew before the stream began."""
    return given_text(
        lm,
        questions,
        [()] * len(questions),
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        examples=examples,
        complete=complete,
        on_progress=on_progress,
    )


def rag(
    lm: "FrozenLM",
    bank: "Bank",
    questions: Sequence[str],
    as_of: Sequence[datetime | None],
    *,
    top_k: int = 1,
    keys: Keys | None = None,
    words: bool = True,
    max_new_tokens: int,
    batch_size: int,
    complete: "Complete | None" = None,
    on_progress: OnProgress | None = None,
) -> list[Prediction] | None:
    """The LM with the `top_k` texts of the bank that search finds; closed-book where it finds none.

    By BM25 (`words`), by `keys` (n, p) of the questions, or by both, fused. None when none is found at all,
    as in a bank that keeps no text: there is no such row then.
    """
    passages = [
        _passages(_search(bank, question, moment, None if keys is None else keys[place], words, top_k))
        for place, (question, moment) in enumerate(zip(questions, as_of, strict=True))
    ]
    if questions and not any(passages):
        return None
    return given_text(
        lm,
        questions,
        passages,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        complete=complete,
        on_progress=on_progress,
    )


def _search(bank: "Bank", question: str, moment: datetime | None, key: Any, words: bool, top_k: int) -> pa.Table:
    if key is None:
        return bank.full_text(text=question, k=top_k, as_of=moment)
    if not words:
        return bank.search(key=key, text=None, k=top_k, as_of=moment)
    found = bank.search(key=key, text=question, k=FUSED, as_of=moment)
    ranks = sum(1 / (RANK_CONSTANT + _ranks(found[name].to_numpy())) for name in ("similarity", "bm25"))
    return found.take(pa.array(np.argsort(-np.asarray(ranks), kind="stable")[:top_k]))


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each score, the highest 1."""
    return np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1


def given_text(
    lm: "FrozenLM",
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    *,
    max_new_tokens: int,
    batch_size: int,
    examples: Sequence[Example] = EXAMPLES,
    complete: "Complete | None" = None,
    on_progress: OnProgress | None = None,
) -> list[Prediction]:
    """The LM with each question's own passages in its prompt, best first; the right document's are the upper line.

    Passages are cut where they do not fit into the LM's context. Without `examples` it is asked zero-shot.
    """
    complete = complete or partial(decoding.complete, lm)
    answers = [""] * len(questions)
    for with_text in (False, True):
        rows = [row for row, found in enumerate(passages) if bool(found) == with_text]
        if not rows:
            continue
        head = _head(examples, with_text=with_text)
        prompts = [_fitted(lm, passages[row], questions[row], head=head, reserve=max_new_tokens) for row in rows]
        replies = complete(
            prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, shared=head, on_progress=on_progress
        )
        for row, reply in zip(rows, replies, strict=True):
            answers[row] = reply.partition("\n")[0].strip()
    return [
        Prediction(answer, tuple(dict.fromkeys(passage.doc_id for passage in found)))
        for answer, found in zip(answers, passages, strict=True)
    ]


def _head(examples: Sequence[Example], *, with_text: bool) -> str:
    """The worked examples, ending at a line's end: there the LM's tokens are the same in one piece or in two."""
    return "\n".join(
        _prompt([example.text] if with_text else [], example.question) + f" {example.answer}\n" for example in examples
    )


def _prompt(texts: Sequence[str], question: str) -> str:
    lines = [f"Text: {_line(text)}\n" for text in texts]
    return "".join(lines) + f"Question: {_line(question)}\nAnswer:"


def _line(text: str) -> str:
    return " ".join(text.split())


def _fitted(lm: "FrozenLM", passages: Sequence[Passage], question: str, *, head: str, reserve: int) -> str:
    """The prompt, a long question cut, and each text to its share of what the LM's context leaves beside the rest."""
    texts = [_line(passage.text) for passage in passages]
    if len(asked := lm.tokenize(question)) > MAX_QUESTION_TOKENS:
        question = lm.decode(asked[:MAX_QUESTION_TOKENS])
    between = "\n" if head else ""
    fixed = len(lm.tokenize(head + between + _prompt([""] * len(texts), question))) + reserve + _MARGIN
    share = max(0, lm.model.config.max_position_embeddings - fixed) // max(1, len(texts))
    # a token is a byte at least: short texts need no counting
    cut = [text if len(text.encode()) <= share else lm.decode(lm.tokenize(text)[:share]) for text in texts]
    return between + _prompt(cut, question)


def _passages(found: pa.Table) -> tuple[Passage, ...]:
    return tuple(map(Passage, found["doc_id"].to_pylist(), found["text"].to_pylist()))
