"""Questions, documents and the server's own state: what the web page and `curl` use."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST

from cmt.errors import CmtError
from cmt.serving.batching import DynamicBatcher
from cmt.serving.documents import DocumentBrowser
from cmt.serving.identity import answering_digest, project_digest
from cmt.serving.schemas import Answered, Ask, Document, Health, Page, Problem, Range, Since, Until

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "The question or a date cannot be used."},
    503: {"model": Problem, "description": "There is no bank to answer from yet."},
}
router = APIRouter(responses=REFUSALS)


def _desk(request: Request) -> DynamicBatcher:
    desk: DynamicBatcher = request.app.state.desk
    return desk


def _catalogue(request: Request) -> DocumentBrowser:
    catalogue: DocumentBrowser = request.app.state.catalogue
    return catalogue


def _ready(desk: Annotated[DynamicBatcher, Depends(_desk)]) -> DynamicBatcher:
    """The desk of a server that has a bank: what fails later could no longer have a status of its own."""
    desk.bank()
    return desk


TheDesk = Annotated[DynamicBatcher, Depends(_desk)]
ReadyDesk = Annotated[DynamicBatcher, Depends(_ready)]
TheCatalogue = Annotated[DocumentBrowser, Depends(_catalogue)]


@router.post("/ask", tags=["answers"])
async def ask(asked: Ask, desk: TheDesk) -> Answered:
    """Answer from memory, with the documents that the answer rests on and the windows of them that were read."""
    reply = await desk.answer(asked.question, asked.as_of)
    return Answered.of(reply.answer, asked.as_of)


@router.post("/ask/stream", tags=["answers"], response_class=EventSourceResponse)
async def ask_stream(asked: Ask, desk: ReadyDesk) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events: `text` with a piece of the answer each, then `answer` with all, or `error`.

    Pieces come while the answer is written; that something is "not in memory" is known before the first of them.
    """
    try:
        async with aclosing(desk.stream(asked.question, asked.as_of)) as said:
            async for part in said:
                if isinstance(part, str):
                    yield _event("text", part)
                else:
                    yield _event("answer", Answered.of(part.answer, asked.as_of).model_dump(mode="json"))
    except CmtError as error:
        yield _event("error", {"message": str(error)})


def _event(name: str, data: Any) -> ServerSentEvent:
    """ASCII alone: some clients end a line at every character that Unicode calls an end of line."""
    return ServerSentEvent(event=name, raw_data=json.dumps(data))


@router.get("/range", tags=["bank"])
def range_(catalogue: TheCatalogue) -> Range:
    """First and last date of publication in the bank."""
    return catalogue.range()


@router.get("/documents", tags=["bank"])
def documents(
    catalogue: TheCatalogue,
    since: Since = None,
    until: Until = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page:
    """Documents in the bank, newest first."""
    return catalogue.page(since=since, until=until, offset=offset, limit=limit)


@router.get("/document", tags=["bank"], responses={404: {"model": Problem, "description": "No such document."}})
def document(catalogue: TheCatalogue, doc_id: str) -> Document:
    """One document with the texts of its memories. The id is a parameter, as it may hold any character."""
    found = catalogue.document(doc_id)
    if found is None:
        raise HTTPException(404, f"document {doc_id!r} is not in the bank")
    return found


@router.get("/health", tags=["server"])
def health(desk: TheDesk) -> Health:
    """200 when questions can be answered, 503 when not."""
    from cmt import __version__

    bank, digest = desk.bank(), desk.workspace.model.digest
    rows = bank.count_rows()
    identity = {
        "project": project_digest(desk.workspace.root),
        "params": answering_digest(desk.workspace.params),
    }
    return Health(status="ok", version=__version__, compressor=digest, bank_version=bank.version, rows=rows, **identity)


@router.get("/metrics", tags=["server"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(desk: TheDesk) -> Response:
    """Requests, seconds to an answer, abstentions and rows of the bank, for Prometheus."""
    return Response(desk.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
