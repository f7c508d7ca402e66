"""Routes that change the memory: `/ingest` and `/forget`. They exist only on a server with tokens.

Neither runs a round, which takes minutes; `cmt update` or a flow does.
"""

import json
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from cmt.common.scratch import scratch_folder
from cmt.errors import StreamError, UnknownDocumentError
from cmt.project import Project
from cmt.serving._auth import admin_token
from cmt.serving._errors import public_message
from cmt.serving._schemas import Forget, Forgotten, Ingest, Ingested, Problem
from cmt.serving.tokens import Token
from cmt.workspace import Workspace

INGEST = "/ingest"
_JSON_LINES = ("application/x-ndjson", "application/jsonl")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Ingest.model_json_schema()},
            _JSON_LINES[0]: {"schema": {"type": "string"}},
        },
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The token is missing or not valid."},
    403: {"model": Problem, "description": "The token has another scope."},
    422: {"model": Problem, "description": "No row of the request is valid."},
}


class Admin:
    """Changes of the memory of `project`: one ingest and one forget at a time. A forget may
    wait for a round.
    """

    def __init__(self, project: Project) -> None:
        # its own project: that of the batcher has open tables
        self.workspace = Workspace(Project(project.declared, project.root, follow=True))
        self.ingesting, self.forgetting = CapacityLimiter(1), CapacityLimiter(1)

    def ingest(self, files: dict[str, bytes], name: str, source: str) -> Ingested:
        """Add the rows of `files` (name → JSON lines) to the stream. `name`: owner of the rows,
        after whom the quarantine is named. `source`: their publisher.

        HTTPException (422) if no row is valid, without the path of the temporary folder.
        """
        with scratch_folder(self.workspace.project.state) as temporary:
            folder = temporary / name
            folder.mkdir()
            for file, content in files.items():
                (folder / file).write_bytes(content)
            rows = folder if len(files) > 1 else folder / next(iter(files))
            try:
                report = self.workspace.ingest(source=rows, file_format="jsonl", publisher=source)
            except StreamError as error:
                if not any(
                    part in str(error) for part in (str(temporary), *files)
                ):  # it is about the stream
                    raise
                raise HTTPException(422, public_message(error)) from None
        return Ingested.of(report)

    def forget(self, doc_ids: list[str], everywhere: bool) -> Forgotten:
        """Forget documents. HTTPException (404) if one is unknown; then none is forgotten."""
        try:
            report = self.workspace.forget_all(doc_ids, everywhere=everywhere)
        except UnknownDocumentError as error:
            raise HTTPException(404, public_message(error)) from None
        return Forgotten(doc_ids=list(report.doc_ids), rows=report.rows)


AdminToken = Annotated[Token, Depends(admin_token)]
router = APIRouter(tags=["admin"], dependencies=[Depends(admin_token)], responses=_RESPONSES)


@router.post(INGEST, openapi_extra=_BODY)
async def ingest(request: Request, token: AdminToken) -> Ingested:
    """Add documents and questions to the stream, as JSON, or as JSON lines (application/x-ndjson).

    Each row is validated on its own; `rejected` lists the invalid ones. The next rounds adapt the
    new slices.
    """
    admin: Admin = request.app.state.admin
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "the client disconnected before the end of the body") from None
    files = _files(request.headers.get("content-type", ""), body)
    return await to_thread.run_sync(
        admin.ingest, files, token.name, token.source, limiter=admin.ingesting
    )


@router.post("/forget")
async def forget(request: Forget, http_request: Request) -> Forgotten:
    """Remove the memories of documents from all banks for good. Waits for a running round."""
    admin: Admin = http_request.app.state.admin
    return await to_thread.run_sync(
        admin.forget, request.doc_ids, request.everywhere, limiter=admin.forgetting
    )


def _files(content_type: str, body: bytes) -> dict[str, bytes]:
    """The body of an ingest as files of JSON lines. HTTPException (415) or RequestValidationError
    for another body.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _JSON_LINES:
        return {"body.jsonl": body}
    if kind != "application/json":
        raise HTTPException(
            415, f"send application/json or {_JSON_LINES[0]}, not {kind or 'a body without a type'}"
        )
    try:
        rows = Ingest.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    parts = {"documents.jsonl": rows.documents, "questions.jsonl": rows.questions}
    return {
        name: b"".join(json.dumps(row).encode() + b"\n" for row in part)
        for name, part in parts.items()
    }
