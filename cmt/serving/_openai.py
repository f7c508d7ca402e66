"""The part of OpenAI's HTTP interface that chat clients use: `/v1/models` and
`/v1/chat/completions`.

The last user message is the question; earlier questions and answers complete a follow-up. Sampling
options are ignored. Sources and the completed question are extra fields of the response.
"""

import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel, Field, model_validator

from cmt.answering.answer import clean_question
from cmt.modeling.checkpoint import WEIGHTS
from cmt.questions.follow_up import Turn
from cmt.serving._batching import DynamicBatcher, ServedAnswer
from cmt.serving._errors import UnknownModelError, stream_message
from cmt.serving._openai_options import Options
from cmt.serving._routes import Batcher, ReadyBatcher, check_request
from cmt.serving._schemas import AsOf, Fault, Problem
from cmt.text.display import plain

MODEL = "cmt"

router = APIRouter(
    prefix="/v1", tags=["OpenAI"], responses={code: {"model": Problem} for code in ("4XX", 503)}
)


class Part(BaseModel):
    """A part of a message."""

    type: str
    text: str | None = ""


class Message(BaseModel):
    """A message of the conversation."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """The text of the message, its text parts joined."""
        if isinstance(self.content, str):
            return self.content
        return " ".join(part.text or "" for part in self.content or [] if part.type == "text")


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool | None = False


class Completion(Options):
    """A request as OpenAI's clients send it; unknown fields are ignored, and null is a missing
    field.
    """

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    as_of: AsOf = None

    @model_validator(mode="after")
    def _has_a_question(self) -> "Completion":
        _ = self.question
        [*_, asked] = [message for message in self.messages if message.role == "user"]
        for part in asked.content if isinstance(asked.content, list) else []:
            if part.type != "text":
                raise ValueError(
                    f"the question has a part of the type {part.type[:40]!r}, and only text is "
                    "read: leave it out"
                )
        return self

    @property
    def question(self) -> str:
        """The last user message on one line. Raises ValueError if it is empty."""
        texts = [message.text for message in self.messages if message.role == "user"]
        return clean_question(texts[-1] if texts else "")

    @property
    def previous(self) -> list[Turn]:
        """The user messages before the last one, each with the message of the assistant behind
        it.
        """
        turns: list[Turn] = []
        for message in self.messages:
            if message.role == "user":
                turns.append((plain(message.text), ""))
            elif message.role == "assistant" and turns:
                turns[-1] = (turns[-1][0], plain(message.text))
        return turns[:-1]


class Model(BaseModel):
    """An entry of `/v1/models`."""

    id: str = MODEL
    object: Literal["model"] = "model"
    created: int
    owned_by: str = MODEL


class Models(BaseModel):
    """The list of models, with one entry."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def models(batcher: Batcher) -> Models:
    """The only model, created when its compressor was written."""
    return Models(data=[_model(batcher)])


@router.get("/models/{name:path}")
def model(name: str, batcher: Batcher) -> Model:
    """The model of that name."""
    _check_name(name)
    return _model(batcher)


@router.post("/chat/completions", response_model=None)
async def complete(request: Completion, http_request: Request, batcher: ReadyBatcher) -> Response:
    """Answer the last user message; `as_of` in the body sets the date."""
    _check_name(request.model)
    question = check_request(
        http_request, batcher, request.question, field="messages", previous=request.previous
    )
    if request.stream:
        headers = {"X-Accel-Buffering": "no"}  # /ask/stream has it, too
        return EventSourceResponse(_stream(request, question, batcher), headers=headers)
    served = await batcher.answer(question, request.as_of)
    content, finish = request.cut(served.answered.answer, served.answer_ends)
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    extra = {"usage": _usage(served, content), **_provenance(served)}
    return JSONResponse({**_header(), "object": "chat.completion", "choices": [choice], **extra})


async def _stream(
    request: Completion, question: str, batcher: DynamicBatcher
) -> AsyncGenerator[bytes, None]:
    """The answer as OpenAI's chunks: role, pieces of text, end with sources, usage if asked for,
    [DONE].
    """
    header, with_usage = _header(), request.stream_options and request.stream_options.include_usage
    if with_usage:
        header["usage"] = None  # of all chunks but the last one

    def chunk(
        delta: dict[str, Any] | None = None, *, finish: str | None = None, **extra: Any
    ) -> bytes:
        choices = (
            []
            if delta is None
            else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        )
        return _event({**header, "object": "chat.completion.chunk", "choices": choices, **extra})

    yield chunk({"role": "assistant", "content": ""})
    text, sent = "", 0  # of the answer so far, and its characters that the client has
    try:
        async with aclosing(batcher.stream(question, request.as_of)) as parts:
            async for part in parts:
                if isinstance(part, str):
                    text += part
                    if piece := text[sent : request.settled(text)]:
                        yield chunk({"content": piece})
                        sent += len(piece)
                    continue
                content, finish = request.cut(part.answered.answer, part.answer_ends)
                if rest := content[sent:]:
                    yield chunk({"content": rest})
                yield chunk({}, finish=finish, **_provenance(part))
                if with_usage:
                    yield chunk(usage=_usage(part, content))
                yield format_sse_event(data_str="[DONE]")
    except Exception as error:
        yield _event(
            Problem(error=Fault(message=stream_message(error), type="server_error")).model_dump()
        )


def _header() -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}


def _provenance(served: ServedAnswer) -> dict[str, Any]:
    """Fields beyond OpenAI's interface."""
    answered = served.answered.model_dump(mode="json")
    names = ("question", "verdict", "known", "confidence", "as_of", "sources", "compressor")
    return {"answer_id": answered["id"], **{name: answered[name] for name in names}}


def _usage(served: ServedAnswer, content: str) -> dict[str, int]:
    """Tokens of the question and of the sent `content`, without those of memories that the LM
    reads.
    """
    prompt = served.question_tokens
    completion = sum(end <= len(content) for end in served.answer_ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _event(value: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(value))


def _model(batcher: DynamicBatcher) -> Model:
    return Model(created=int((batcher.project.params.compressor.path / WEIGHTS).stat().st_mtime))


def _check_name(name: str) -> None:
    if name != MODEL:
        raise UnknownModelError(404, f"model {name!r} is not served here: ask for {MODEL!r}")
