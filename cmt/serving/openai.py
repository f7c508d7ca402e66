"""The part of OpenAI's HTTP interface that chat clients use: `/v1/models` and `/v1/chat/completions`.

The last message of the user is the question; what was said before it and how to sample have no influence, for the
memory answers a question, not a conversation. Sources come in fields of their own, which clients pass on or ignore.
"""

import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel, Field, model_validator

from cmt.errors import CmtError
from cmt.modeling.checkpoint import WEIGHTS
from cmt.serving.batching import DynamicBatcher, ServedAnswer
from cmt.serving.routes import ReadyDesk, TheDesk
from cmt.serving.schemas import Answered, AsOf, Problem, question_of

MODEL = "cmt"

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses={code: {"model": Problem} for code in ("4XX", 503)})


class Part(BaseModel):
    """A part of a message; only texts are read."""

    type: str
    text: str = ""


class Message(BaseModel):
    """Something that was said."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What of it can be read."""
        if isinstance(self.content, str):
            return self.content
        return " ".join(part.text for part in self.content or [] if part.type == "text")


class StreamOptions(BaseModel):
    """What else a stream is to have."""

    include_usage: bool = False


class Completion(BaseModel):
    """A request as OpenAI's clients send it; what does not matter here is ignored."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    as_of: AsOf = None

    @model_validator(mode="after")
    def _has_a_question(self) -> "Completion":
        question_of(self.question)
        return self

    @property
    def question(self) -> str:
        """The last message of the user."""
        said = [message.text for message in self.messages if message.role == "user"]
        return said[-1] if said else ""


class Model(BaseModel):
    """An entry of `/v1/models`."""

    id: str = MODEL
    object: Literal["model"] = "model"
    created: int
    owned_by: str = MODEL


class Models(BaseModel):
    """The list of models: the memory is one."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def models(desk: TheDesk) -> Models:
    """The one model, created when its compressor was written."""
    return Models(data=[_model(desk)])


@router.get("/models/{name:path}")
def model(name: str, desk: TheDesk) -> Model:
    """The model of that name."""
    _check(name)
    return _model(desk)


@router.post("/chat/completions", response_model=None)
async def complete(asked: Completion, desk: ReadyDesk) -> Response:
    """Answer the last message of the user; `as_of` in the body sets the date."""
    _check(asked.model)
    written = _Written(asked, desk)
    if asked.stream:
        return EventSourceResponse(written.stream(), headers={"Cache-Control": "no-cache"})
    return JSONResponse(written.whole(await written.reply()))


class _Written:
    """One answer in OpenAI's words."""

    def __init__(self, asked: Completion, desk: DynamicBatcher) -> None:
        self._asked, self._desk = asked, desk
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}

    async def reply(self) -> ServedAnswer:
        return await self._desk.answer(question_of(self._asked.question), self._asked.as_of)

    def whole(self, reply: ServedAnswer) -> dict[str, Any]:
        message = {"role": "assistant", "content": reply.answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        extra = {"usage": _usage(reply), **self._extra(reply)}
        return {**self._common, "object": "chat.completion", "choices": [choice], **extra}

    async def stream(self) -> AsyncGenerator[bytes, None]:
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async with aclosing(self._desk.stream(question_of(self._asked.question), self._asked.as_of)) as said:
                async for part in said:
                    for chunk in [self._chunk({"content": part})] if isinstance(part, str) else self._end(part):
                        yield chunk
        except CmtError as error:
            yield _event({"error": {"message": str(error), "type": "server_error", "param": None, "code": None}})

    def _end(self, reply: ServedAnswer) -> Iterator[bytes]:
        yield self._chunk({}, finish="stop", **self._extra(reply))
        if self._asked.stream_options and self._asked.stream_options.include_usage:
            yield self._chunk(usage=_usage(reply))
        yield format_sse_event(data_str="[DONE]")

    def _chunk(self, delta: dict[str, Any] | None = None, *, finish: str | None = None, **extra: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return _event({**self._common, "object": "chat.completion.chunk", "choices": choices, **extra})

    def _extra(self, reply: ServedAnswer) -> dict[str, Any]:
        said = Answered.of(reply.answer, self._asked.as_of).model_dump(mode="json")
        return {name: said[name] for name in ("known", "confidence", "as_of", "sources")}


def _usage(reply: ServedAnswer) -> dict[str, int]:
    """Tokens of the question and of the answer; what the LM read of its memories is not the caller's."""
    asked, said = reply.question_tokens, reply.answer_tokens
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _event(value: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(value))


def _model(desk: DynamicBatcher) -> Model:
    return Model(created=int((desk.workspace.params.compressor.path / WEIGHTS).stat().st_mtime))


def _check(name: str) -> None:
    if name != MODEL:
        raise HTTPException(404, f"model {name!r} is not served here: ask for {MODEL!r}")
