"""The one place where the server's model is: questions come in as they like and are answered a batch at a time.

Whoever asks while a batch is being answered waits, and goes into the next one with everybody else who waits: answers
are the same whatever the batch, and the LM is never used by two at once.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from cmt.bank import Bank
from cmt.bank_rows import schema_value
from cmt.errors import BankError
from cmt.serving.metrics import Metrics

if TYPE_CHECKING:
    from cmt.answering import Answer
    from cmt.workspace import Workspace


def fitting_bank(workspace: "Workspace") -> Bank:
    """The bank of the compressor in use. BankError when there is none, or when it is that of another compressor."""
    stored, digest = workspace.stored_bank, workspace.model.digest
    written_by = schema_value(stored.schema, "compressor")
    if written_by != digest:
        raise BankError(
            f"the bank is that of compressor {written_by[:12]}, and {digest[:12]} is in use: "
            "run `cmt update --all` with it, or put compressor.path back, and start again"
        )
    return stored


@dataclass(frozen=True)
class Reply:
    """An answer, and how many tokens question and answer have."""

    answer: "Answer"
    question_tokens: int
    answer_tokens: int


@dataclass(eq=False)
class _Asked:
    question: str
    as_of: datetime | None
    reply: Reply | None = None
    error: Exception | None = None


class Desk:
    """Answers over one workspace, whose LM and compressor are loaded by `load()`."""

    def __init__(self, workspace: "Workspace") -> None:
        self.workspace = workspace
        self.metrics = Metrics(rows=lambda: self.bank().count_rows())
        self._waiting: deque[_Asked] = deque()
        self._turn = anyio.Lock()

    def load(self) -> None:
        """Load LM and compressor, so that the first question need not wait. ModelError when one is missing."""
        _ = self.workspace.model

    def bank(self) -> Bank:
        """The bank that answers; see `fitting_bank`."""
        return fitting_bank(self.workspace)

    async def answer(self, question: str, as_of: datetime | None) -> Reply:
        """The answer, as soon as it is this question's turn. BankError when there is no bank to answer from."""
        started, asked = perf_counter(), _Asked(question, as_of)
        self._waiting.append(asked)
        try:
            async with self._turn:
                while asked in self._waiting:
                    await self._answer_some()
        finally:  # whoever goes away need not be answered
            if asked in self._waiting:
                self._waiting.remove(asked)
        if asked.reply is None:
            raise asked.error or RuntimeError("a question was lost")
        self.metrics.answered(asked.reply.answer, seconds=perf_counter() - started)
        return asked.reply

    async def _answer_some(self) -> None:
        most = self.workspace.params.answering.batch_size
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        try:
            replies = await to_thread.run_sync(self._replies, batch)
        except Exception as error:
            for asked in batch:
                asked.error = error
        else:
            for asked, reply in zip(batch, replies, strict=True):
                asked.reply = reply

    def _replies(self, batch: Sequence[_Asked]) -> list[Reply]:
        self.bank()
        questions, dates = [asked.question for asked in batch], [asked.as_of for asked in batch]
        answers = self.workspace.answerer.answer(questions, as_of=dates)
        # counted here, as the tokenizer is for one thread at a time
        count = [[len(self.workspace.lm.encode(text)) for text in (a.question, a.text)] for a in answers]
        return [Reply(answer, *tokens) for answer, tokens in zip(answers, count, strict=True)]
