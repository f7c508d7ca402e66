"""OpenAI's interface with OpenAI's own client."""

import re
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from cmt.serving._openai import Completion
from tests.helpers.http import FERRY, MAYOR, ask, chat_body
from tests.helpers.paused import PausedServer


def test_pieces_are_sent_to_openais_client_while_the_answer_is_generated(
    paused: PausedServer,
) -> None:
    messages: list[Any] = [{"role": "user", "content": FERRY}]
    with OpenAI(base_url=f"{paused.url}/v1", api_key="none", max_retries=0) as chat:
        with chat.chat.completions.create(model="cmt", messages=messages, stream=True) as stream:
            pieces = [next(stream).choices[0].delta.content, next(stream).choices[0].delta.content]
            assert pieces[0] == "" and pieces[1]
            assert paused.tokens == 1
            paused.resume()
            pieces += [chunk.choices[0].delta.content for chunk in stream]
        complete = (
            chat.chat.completions.create(model="cmt", messages=messages).choices[0].message.content
        )
    assert len(pieces) > 4
    assert "".join(piece or "" for piece in pieces) == complete


def test_a_completion_is_the_answer_to_the_last_user_message_with_sources(
    chat: OpenAI, client: httpx.Client
) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Answer like a pirate."},
        {"role": "user", "content": FERRY},
        {"role": "assistant", "content": "six crowns"},
        {"role": "user", "content": [{"type": "text", "text": MAYOR}]},
    ]
    completion = chat.chat.completions.create(
        model="cmt", messages=messages, temperature=0.7, max_tokens=5
    )
    answered = ask(client, MAYOR)
    assert completion.choices[0].message.content == answered["answer"]
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.object, completion.model) == ("chat.completion", "cmt")
    extra = completion.model_extra or {}
    assert (extra["sources"], extra["known"]) == (answered["sources"], True)
    assert completion.usage
    assert (
        completion.usage.total_tokens
        == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert completion.usage.prompt_tokens > 5
    early = chat.chat.completions.create(
        model="cmt", messages=messages[3:], extra_body={"as_of": "2031-02-15"}
    )
    assert {source["doc_id"] for source in (early.model_extra or {})["sources"]} & {
        "mayor-1",
        "mayor-2",
    } == {"mayor-1"}


def test_a_streamed_completion_ends_with_sources_and_usage(
    chat: OpenAI, client: httpx.Client
) -> None:
    answered = ask(client, MAYOR)
    with chat.chat.completions.create(
        model="cmt",
        messages=[{"role": "user", "content": MAYOR}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == answered["answer"]
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert (last.model_extra or {})["sources"] == answered["sources"]
    assert usage.usage
    assert usage.usage.prompt_tokens > 0
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_no_proxy_holds_a_streamed_completion_back(client: httpx.Client) -> None:
    for path, body in (
        ("/ask/stream", {"question": MAYOR}),
        ("/v1/chat/completions", chat_body(MAYOR, stream=True)),
    ):
        headers = client.post(path, json=body).headers
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


def test_the_one_model_is_cmt(chat: OpenAI) -> None:
    (model,) = chat.models.list()
    assert (model.id, chat.models.retrieve("cmt")) == ("cmt", model)
    with pytest.raises(openai.NotFoundError, match="model 'gpt' is not served here: ask for 'cmt'"):
        chat.models.retrieve("gpt")
    with pytest.raises(openai.NotFoundError) as refused:
        chat.chat.completions.create(model="gpt", messages=[{"role": "user", "content": MAYOR}])
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("messages", "fields", "reason"),
    [
        ([], {}, "messages: List should have at least 1 item"),
        ([{"role": "user", "content": " "}], {}, "the question is empty"),
        ([{"role": "system", "content": "Be kind."}], {}, "the question is empty"),
        (
            [{"role": "user", "content": "x" * 2001}],
            {},
            "messages: the question has 2,001 characters",
        ),
        (
            [{"role": "user", "content": MAYOR}],
            {"as_of": "soon"},
            "as_of: 'soon' is not a date-time",
        ),
    ],
)
def test_an_invalid_completion_is_refused_with_the_reason(
    chat: OpenAI, messages: Any, fields: dict[str, str], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(reason)):
        chat.chat.completions.create(model="cmt", messages=messages, extra_body=fields)


def test_the_text_parts_of_a_message_are_joined() -> None:
    parts = [
        {"type": "text", "text": "Who is"},
        {"type": "image_url"},
        {"type": "text", "text": "the mayor?"},
    ]
    assert Completion.model_validate(chat_body(parts)).question == "Who is the mayor?"


def test_null_is_a_missing_field() -> None:
    parts = [{"type": "text", "text": None}, {"type": "text", "text": MAYOR}]
    fields: dict[str, Any] = {
        "stream": None,
        "stream_options": {"include_usage": None},
        "as_of": None,
    }
    request = Completion.model_validate(chat_body(parts, **fields))
    assert (request.question, request.stream, request.as_of) == (MAYOR, None, None)
