"""Routes of the web page and of `curl`: questions, documents, health and metrics."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST

from cmt import __version__
from cmt.answering import answer as answers
from cmt.answering.dated_values import FactHistory
from cmt.questions.follow_up import Turn, complete
from cmt.serving._batching import DynamicBatcher
from cmt.serving._documents import DocumentBrowser
from cmt.serving._errors import stream_message
from cmt.serving._schemas import (
    Alive,
    Answered,
    Ask,
    AsOf,
    ChangedSince,
    ChangedUntil,
    ChangeEntry,
    Document,
    Health,
    Page,
    Problem,
    QuestionText,
    Range,
    Since,
    Until,
)

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {
        "model": Problem,
        "description": "The server needs a token, which is missing or not valid.",
    },
    422: {"model": Problem, "description": "The question or a date is invalid."},
    429: {
        "model": Problem,
        "description": "Too many requests or waiting questions; Retry-After has the seconds to "
        "wait.",
    },
    503: {"model": Problem, "description": "There is no bank to answer from yet."},
}
router = APIRouter(responses=ERROR_RESPONSES)


def _batcher(request: Request) -> DynamicBatcher:
    batcher: DynamicBatcher = request.app.state.batcher
    return batcher


def _browser(request: Request) -> DocumentBrowser:
    browser: DocumentBrowser = request.app.state.browser
    return browser


def _batcher_with_bank(batcher: Annotated[DynamicBatcher, Depends(_batcher)]) -> DynamicBatcher:
    """The batcher of a server with a bank. Raises BankError without one, before a stream starts."""
    batcher.project.active.bank()
    return batcher


Batcher = Annotated[DynamicBatcher, Depends(_batcher)]
ReadyBatcher = Annotated[DynamicBatcher, Depends(_batcher_with_bank)]
Browser = Annotated[DocumentBrowser, Depends(_browser)]


def check_request(
    request: Request,
    batcher: DynamicBatcher,
    question: str,
    *,
    field: str,
    previous: Sequence[Turn] = (),
) -> str:
    """The question, completed from the `previous` ones. Raises RequestValidationError if it is too
    long or incomplete, and HTTPException 429 if the queue is full.

    Checked before a stream starts, because its status cannot change later. Keeps the question for
    the request log.
    """
    try:
        answers.check_length(question, longest=batcher.project.params.serving.question_characters)
        question = complete(question, previous)
    except ValueError as error:
        raise RequestValidationError(
            [{"loc": ("body", field), "msg": str(error), "type": "value_error"}]
        ) from None
    batcher.check_queue()
    request.state.question = question
    return question


def _checked(request: Ask, http_request: Request, batcher: Batcher) -> Ask:
    turns = [(turn.question, turn.answer) for turn in request.previous]
    completed = check_request(
        http_request, batcher, request.question, field="question", previous=turns
    )
    return request.model_copy(update={"question": completed})


Question = Annotated[Ask, Depends(_checked)]


@router.post("/ask", tags=["answers"])
async def ask(request: Question, batcher: Batcher) -> Answered:
    """Answer from memory, with the source documents and the windows that the LM read."""
    return (await batcher.answer(request.question, request.as_of)).answered


@router.post("/ask/stream", tags=["answers"], response_class=EventSourceResponse)
async def ask_stream(request: Question, batcher: ReadyBatcher) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events: `text` events with pieces of the answer, then one `answer`
    event, or `error`.

    Pieces are sent while the answer is generated. Whether it is "not in memory" is decided before
    the first piece.
    """
    try:
        async with aclosing(batcher.stream(request.question, request.as_of)) as parts:
            async for part in parts:
                if isinstance(part, str):
                    yield _event("text", part)
                else:
                    yield _event("answer", part.answered.model_dump(mode="json"))
    except Exception as error:
        yield _event("error", {"message": stream_message(error)})


def _event(name: str, data: Any) -> ServerSentEvent:
    """An event in ASCII, because some clients end a line at every line separator of Unicode."""
    return ServerSentEvent(event=name, raw_data=json.dumps(data))


@router.get("/history", tags=["answers"])
async def history(
    request: Request, batcher: Batcher, question: QuestionText, as_of: AsOf = None
) -> FactHistory:
    """The values that answered a question over time, each with the dates between which it holds."""
    check_request(request, batcher, question, field="question")
    return await batcher.history(question, as_of)


@router.get("/range", tags=["bank"])
def date_range(browser: Browser) -> Range:
    """First and last date of publication in the bank."""
    return browser.date_range()


@router.get("/documents", tags=["bank"])
def documents(
    browser: Browser,
    since: Since = None,
    until: Until = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page:
    """Documents in the bank, newest first."""
    return browser.page(since=since, until=until, offset=offset, limit=limit)


@router.get(
    "/document",
    tags=["bank"],
    responses={404: {"model": Problem, "description": "No such document."}},
)
def document(browser: Browser, doc_id: str) -> Document:
    """One document with the texts of its memories. The id is a query parameter because it may
    contain any character.
    """
    document = browser.document(doc_id)
    if document is None:
        raise HTTPException(404, f"document {doc_id!r} is not in the bank")
    return document


@router.get("/changes", tags=["bank"])
def changes(
    browser: Browser,
    doc_id: str | None = None,
    subject: str = "",
    since: ChangedSince = None,
    until: ChangedUntil = None,
) -> list[ChangeEntry]:
    """The changes that rounds found, of one document or of all, rejected ones included. `subject`:
    only changes between documents of which one has every one of these words.
    """
    doc_ids = None if doc_id is None else [doc_id]
    return browser.changes(doc_ids, subject=subject, since=since, until=until)


@router.get("/healthz", tags=["server"])
async def healthz() -> Alive:
    """200 as long as the server runs; needs no token."""
    return Alive(status="ok")


@router.get("/health", tags=["server"])
def health(batcher: Batcher) -> Health:
    """200 if the server can answer questions, else 503, or 500 if the compressor is damaged."""
    bank, digest = batcher.project.active.bank(), batcher.project.model.digest
    rows = bank.count_rows()
    return Health(
        status="ok", version=__version__, compressor=digest, bank_version=bank.version, rows=rows
    )


@router.get(
    "/metrics",
    tags=["server"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(batcher: Batcher) -> Response:
    """Requests, seconds to an answer, abstentions and rows of the bank in Prometheus' format."""
    return Response(batcher.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
