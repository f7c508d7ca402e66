"""Dynamic batching: questions that arrive while a batch is being answered go into the next batch.

Answers do not depend on the batch. The LM answers one batch at a time; a streaming request is a
batch of its own.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

import anyio
from anyio import from_thread, to_thread
from starlette.exceptions import HTTPException

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.answering.dated_values import FactHistory
from cmt.answering.fact_history import fact_history
from cmt.project import Project
from cmt.serving._metrics import Metrics
from cmt.serving._schemas import Answered


@dataclass(frozen=True)
class ServedAnswer:
    """The body of a response, the number of tokens of the question, and the end of each token of
    the answer in characters.
    """

    answered: Answered
    question_tokens: int
    answer_ends: tuple[int, ...]


@dataclass(eq=False)
class _Request:
    """A question in the queue, and its outcome."""

    question: str
    as_of: datetime | None
    # receives the answer in pieces; None: not a streaming request
    on_text: Callable[[str], None] | None = None
    outcome: Future[ServedAnswer] = field(default_factory=Future)


class DynamicBatcher:
    """Answers from one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._queue: deque[_Request] = deque()
        self.metrics = Metrics(
            rows=lambda: project.active.bank().count_rows(), waiting=lambda: len(self._queue)
        )
        self._turn = anyio.Lock()
        self._streams: set[asyncio.Task[ServedAnswer]] = set()
        self._seconds = 1.0  # of an answer in the latest batch

    def check_queue(self) -> None:
        """Raise HTTPException 429, with the seconds to wait, if `serving.queue_length` questions
        wait already.
        """
        waiting, limit = len(self._queue), self.project.params.serving.queue_length
        if limit and waiting >= limit:
            wait = math.ceil(waiting * self._seconds)
            message = (
                f"{waiting} questions are waiting: try again in {wait} s, or raise "
                "serving.queue_length"
            )
            raise HTTPException(429, message, {"Retry-After": str(wait)})

    async def answer(self, question: str, as_of: datetime | None) -> ServedAnswer:
        """Answer a question in one of the next batches. BankError when there is no bank to answer
        from.
        """
        return await self._process(_Request(question, as_of))

    async def stream(
        self, question: str, as_of: datetime | None
    ) -> AsyncGenerator[str | ServedAnswer, None]:
        """Yield pieces of the answer's text while the LM generates it, then the whole answer;
        BankError as above.

        A disconnecting client does not affect others: the LM finishes the answer.
        """
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def on_done(task: asyncio.Task[ServedAnswer]) -> None:
            self._streams.discard(task)
            pieces.put_nowait(None)
            if not task.cancelled():
                task.exception()  # marks it as retrieved, else asyncio logs it

        request = _Request(question, as_of, pieces.put_nowait)
        # its own task: it may answer a batch of other requests first, and a disconnect must not
        # cancel these
        task = asyncio.create_task(self._process(request))
        self._streams.add(task)
        task.add_done_callback(on_done)
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await task
        finally:
            self._withdraw(request)

    async def history(self, question: str, as_of: datetime | None) -> FactHistory:
        """The history of a question, between two batches. Raises BankError as above."""

        def read() -> FactHistory:
            return fact_history(self.project.active.answerer(), question, as_of=as_of)

        async with self._turn:
            return await to_thread.run_sync(read)

    async def _process(self, request: _Request) -> ServedAnswer:
        """Queue a request and answer batches until it is done; the holder of the lock answers for
        all.
        """
        started = perf_counter()
        self._queue.append(request)
        try:
            async with self._turn:
                while request in self._queue:
                    await self._answer_next_batch()
        finally:
            self._withdraw(request)
        served = request.outcome.result(timeout=0)  # raises the error of its batch
        self.metrics.count_answer(served.answered, seconds=perf_counter() - started)
        return served

    async def _answer_next_batch(self) -> None:
        """Answer the oldest request and the following ones for the same batch; a streaming request
        is a batch.
        """
        batch = [self._queue.popleft()]
        size = 1 if batch[0].on_text else self.project.params.answering.batch_size
        while len(batch) < size and self._queue and not self._queue[0].on_text:
            batch.append(self._queue.popleft())
        started = perf_counter()
        try:
            answers = await to_thread.run_sync(self._answer_batch, batch)
        except Exception as error:
            for request in batch:
                request.outcome.set_exception(error)
        else:
            for request, answer in zip(batch, answers, strict=True):
                request.outcome.set_result(answer)
            self._seconds = (perf_counter() - started) / len(batch)

    def _answer_batch(self, batch: Sequence[_Request]) -> list[ServedAnswer]:
        """Runs in a worker thread; the event loop receives the pieces of a streamed answer."""
        questions = [request.question for request in batch]
        dates = [request.as_of for request in batch]
        answerer = self.project.active.answerer()
        # 1. questions over time, each by itself
        found: dict[int, Answer] = {}
        for number, (question, date) in enumerate(zip(questions, dates, strict=True)):
            if of_form := answer_by_form(answerer, question, as_of=date):
                found[number] = of_form
        # 2. the plain ones
        plain = [number for number in range(len(batch)) if number not in found]
        if on_text := batch[0].on_text:

            def send(piece: str) -> None:
                from_thread.run_sync(on_text, piece)

            if plain:
                found[0] = answerer.stream(questions[0], as_of=dates[0], on_text=send)
            else:
                send(found[0].text)
        else:
            given = answerer.answer(
                [questions[number] for number in plain], as_of=[dates[number] for number in plain]
            )
            found |= dict(zip(plain, given, strict=True))
        answers = [found[number] for number in range(len(batch))]
        lm = self.project.lm  # in this thread: its tokenizer is not thread-safe
        answered = [
            Answered.of(answer, as_of, compressor=answerer.model.digest)
            for answer, as_of in zip(answers, dates, strict=True)
        ]
        return [
            ServedAnswer(
                one,
                question_tokens=len(lm.tokenize(one.question)),
                answer_ends=tuple(last for _, last in lm.offsets(one.answer)),
            )
            for one in answered
        ]

    def _withdraw(self, request: _Request) -> None:
        """Remove a request whose client has disconnected."""
        if request in self._queue:
            self._queue.remove(request)
