"""The one place where the server's model is: questions come in as they like and are answered a batch at a time.

Whoever asks while a batch is being answered waits, and goes into the next one with everybody else who waits: answers
are the same whatever the batch, and the LM is never used by two at once. Who wants to hear the answer while it is
written gets it alone: what has been said cannot wait for others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING

import anyio
from anyio import from_thread, to_thread

from cmt.bank.bank import Bank
from cmt.serving.metrics import Metrics

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.workspace import Workspace


@dataclass(frozen=True)
class ServedAnswer:
    """An answer, and how many tokens question and answer have."""

    answer: "Answer"
    question_tokens: int
    answer_tokens: int


@dataclass(eq=False)
class _Asked:
    question: str
    as_of: datetime | None
    say: Callable[[str], None] | None = None
    reply: ServedAnswer | None = None
    error: Exception | None = None


class DynamicBatcher:
    """Answers over one workspace, whose LM and compressor are loaded by `load()`."""

    def __init__(self, workspace: "Workspace") -> None:
        self.workspace = workspace
        self.metrics = Metrics(rows=lambda: self.bank().count_rows())
        self._waiting: deque[_Asked] = deque()
        self._turn = anyio.Lock()
        self._replying: set[asyncio.Task[ServedAnswer]] = set()

    def load(self) -> None:
        """Load LM and compressor, so that the first question need not wait. ModelError when one is missing."""
        _ = self.workspace.model

    def bank(self) -> Bank:
        """The bank that answers. BankError when it cannot; see `Workspace.answering_bank`."""
        return self.workspace.answering_bank()

    async def answer(self, question: str, as_of: datetime | None) -> ServedAnswer:
        """The answer, as soon as it is this question's turn. BankError when there is no bank to answer from."""
        return await self._reply(_Asked(question, as_of))

    async def stream(self, question: str, as_of: datetime | None) -> AsyncGenerator[str | ServedAnswer, None]:
        """The answer's text in pieces while the LM writes it, then the whole; BankError as above.

        Who stops listening changes nothing for the others: an answer that is being written is written to its end.
        """
        heard: asyncio.Queue[str | None] = asyncio.Queue()
        asked = _Asked(question, as_of, heard.put_nowait)
        # a task of its own: whoever asks may have to see to a batch of others, which must not be left half done
        replying = asyncio.create_task(self._reply(asked))
        self._replying.add(replying)
        replying.add_done_callback(self._replied)
        replying.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (piece := await heard.get()) is not None:
                yield piece
            yield await replying
        finally:
            self._leave(asked)

    async def _reply(self, asked: _Asked) -> ServedAnswer:
        started = perf_counter()
        self._waiting.append(asked)
        try:
            async with self._turn:
                while asked in self._waiting:
                    await self._answer_some()
        finally:
            self._leave(asked)
        if asked.reply is None:
            raise asked.error or RuntimeError("a question was lost")
        self.metrics.answered(asked.reply.answer, seconds=perf_counter() - started)
        return asked.reply

    def _replied(self, replying: "asyncio.Task[ServedAnswer]") -> None:
        self._replying.discard(replying)
        if not replying.cancelled():
            replying.exception()  # or asyncio complains where nobody listens any more

    def _leave(self, asked: _Asked) -> None:
        """Whoever goes away need not be answered."""
        if asked in self._waiting:
            self._waiting.remove(asked)

    async def _answer_some(self) -> None:
        batch = self._next()
        answering = self._aloud if batch[0].say else self._replies
        try:
            replies = await to_thread.run_sync(answering, batch)
        except Exception as error:
            for asked in batch:
                asked.error = error
        else:
            for asked, reply in zip(batch, replies, strict=True):
                asked.reply = reply

    def _next(self) -> list[_Asked]:
        """The one who waits longest, and as many of the next ones as can be answered together with it."""
        batch = [self._waiting.popleft()]
        most = 1 if batch[0].say else self.workspace.params.answering.batch_size
        while len(batch) < most and self._waiting and not self._waiting[0].say:
            batch.append(self._waiting.popleft())
        return batch

    def _aloud(self, batch: Sequence[_Asked]) -> list[ServedAnswer]:
        self.bank()
        (asked,) = batch
        listener = asked.say

        def say(piece: str) -> None:
            if listener:
                from_thread.run_sync(listener, piece)

        answer = self.workspace.answerer.stream(asked.question, as_of=asked.as_of, say=say)
        return [self._counted(answer)]

    def _replies(self, batch: Sequence[_Asked]) -> list[ServedAnswer]:
        self.bank()
        questions, dates = [asked.question for asked in batch], [asked.as_of for asked in batch]
        answers = self.workspace.answerer.answer(questions, as_of=dates)
        return [self._counted(answer) for answer in answers]

    def _counted(self, answer: "Answer") -> ServedAnswer:
        # where the LM is used, as its tokenizer is for one thread at a time
        return ServedAnswer(answer, *(len(self.workspace.lm.tokenize(text)) for text in (answer.question, answer.text)))
