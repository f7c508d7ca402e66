"""Error responses: every error has the body of `schemas.Problem`."""

import logging
import re
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cmt.errors import BankError, CmtError, ConfigError
from cmt.serving._schemas import Fault, Problem, explain

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"  # header with the id of the request, which the request log repeats
_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"`]+/)+([^\s/:'\"`]*)")


class UnknownModelError(HTTPException):
    """A request names a model that is not served; OpenAI's clients know it by its code."""

    code = "model_not_found"


def problem(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> JSONResponse:
    """An error response; `kind`, `param` and `code` as in OpenAI's errors."""
    return JSONResponse(
        Problem(error=Fault(message=message, type=kind, param=param, code=code)).model_dump(),
        status,
    )


async def _invalid(request: Request, error: Any) -> JSONResponse:
    message, param = explain(error.errors())
    # OpenAI's clients expect 400 for an invalid request
    return problem(400 if request.url.path.startswith("/v1/") else 422, message, param=param)


def public_message(error: CmtError) -> str:
    """The message of `error`, each absolute path cut to its last name: clients learn no folders of
    the server.
    """
    return _PATH.sub(r"\1", str(error))


def stream_message(error: Exception) -> str:
    """The message of an error after a response has begun; the log gets the paths, or the
    traceback.
    """
    if isinstance(error, CmtError):
        log.warning("%s", error)
        return public_message(error)
    log.error("a stream ended early", exc_info=error)
    return _internal(error)


async def _cmt_error(_: Request, error: Any) -> JSONResponse:
    log.warning("%s", error)  # with its paths
    if isinstance(error, ConfigError):
        return problem(422, public_message(error))
    return problem(
        503 if isinstance(error, BankError) else 500, public_message(error), kind="server_error"
    )


async def _http_error(request: Request, error: Any) -> JSONResponse:
    if isinstance(
        error.__cause__, (ValueError, RecursionError)
    ):  # a body that FastAPI cannot decode
        fault = {
            "loc": ("body",),
            "type": "json_invalid",
            "msg": "",
            "ctx": {"error": str(error.__cause__)},
        }
        return await _invalid(request, RequestValidationError([fault]))
    kind = {403: "permission_error", 429: "rate_limit_error"}.get(
        error.status_code, "invalid_request_error"
    )
    response = problem(
        error.status_code, str(error.detail), kind=kind, code=getattr(error, "code", None)
    )
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    response = problem(500, _internal(error), kind="server_error")
    if request_id := getattr(request.state, "request_id", None):
        response.headers[REQUEST_ID] = request_id  # this response passes no middleware
    return response


def _internal(error: Exception) -> str:
    return f"internal error ({type(error).__name__}): the server's log has the traceback"


HANDLERS: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    CmtError: _cmt_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}
