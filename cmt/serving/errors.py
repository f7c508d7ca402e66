"""Errors as responses of one shape."""

from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cmt.errors import BankError, CmtError, ConfigError
from cmt.serving.schemas import Fault, Problem, explain

if TYPE_CHECKING:
    pass


def problem(
    status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None
) -> JSONResponse:
    return JSONResponse(Problem(error=Fault(message=message, type=kind, param=param)).model_dump(), status)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    message, param = explain(error.errors())
    # OpenAI's clients know 400 as the request that cannot be used
    return problem(400 if request.url.path.startswith("/v1/") else 422, message, param=param)


async def _refused(_: Request, error: Any) -> JSONResponse:
    if isinstance(error, ConfigError):
        return problem(422, str(error))
    return problem(503 if isinstance(error, BankError) else 500, str(error), kind="server_error")


async def _http(_: Request, error: Any) -> JSONResponse:
    return problem(error.status_code, str(error.detail))


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    said = f"{type(error).__name__} in cmt, which is a fault of it: its log has the place"
    return problem(500, said, kind="server_error")


HANDLERS: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    CmtError: _refused,
    HTTPException: _http,
    Exception: _unexpected,
}
