"""OpenAI's interface with OpenAI's own client."""

import json
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from cmt.serving._openai import Completion
from cmt.serving._openai_options import Options
from cmt.serving.app import create_app
from cmt.serving.tokens import TokenFile
from tests.helpers.http import FERRY, MAYOR, ask, chat_body
from tests.helpers.paused import PausedServer
from tests.helpers.projects import open_workspace
from tests.helpers.servers import running, serving_client


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
        model="cmt", messages=messages, temperature=0.7, max_tokens=500
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
    parts = [{"type": "text", "text": "Who is"}, {"type": "text", "text": "the mayor?"}]
    assert Completion.model_validate(chat_body(parts)).question == "Who is the mayor?"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("logit_bias", {"50256": -100}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
        ("max_tokens", 0),
        ("stop", [1]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(chat: OpenAI, field: str, value: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": MAYOR}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=f"{field}.*: ") as refused:
            chat.chat.completions.create(
                model="cmt", messages=messages, stream=stream, extra_body={field: value}
            )
        assert str(refused.value.param).startswith(field)


def test_an_image_in_the_question_is_refused_and_one_before_it_is_not(chat: OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    seen: Any = {"role": "user", "content": [{"type": "text", "text": FERRY}, image]}
    with pytest.raises(openai.BadRequestError, match="part of the type 'image_url'"):
        chat.chat.completions.create(model="cmt", messages=[seen])
    chat.chat.completions.create(model="cmt", messages=[seen, {"role": "user", "content": MAYOR}])


def test_what_clients_always_send_is_accepted(chat: OpenAI) -> None:
    completion = chat.chat.completions.create(
        model="cmt",
        messages=[{"role": "user", "content": MAYOR}],
        n=1,
        temperature=0.7,
        top_p=0.9,
        seed=1,
        user="reader",
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logprobs=False,
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={"type": "text"},
        stop=[],
        store=False,
        metadata={"chat": "1"},
        reasoning_effort="low",
    )
    assert completion.choices[0].finish_reason == "stop"


def test_an_answer_ends_at_the_number_of_tokens_or_before_a_stop_also_in_a_stream(
    project: Path,
) -> None:
    app = create_app(
        open_workspace(project, answering__max_new_tokens=12, selection__abstain_below=-1.0).project
    )
    messages: list[Any] = [{"role": "user", "content": FERRY}]
    with (
        running(app) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as chat,
    ):

        def answer(**options: Any) -> tuple[str, str, int]:
            """Content, reason of the end, and tokens, which a stream has, too."""
            whole = chat.chat.completions.create(model="cmt", messages=messages, **options)
            [choice] = whole.choices
            usage: Any = {"include_usage": True}
            with chat.chat.completions.create(
                model="cmt", messages=messages, stream=True, stream_options=usage, **options
            ) as stream:
                *chunks, last = stream
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert streamed == choice.message.content
            assert chunks[-1].choices[0].finish_reason == choice.finish_reason
            assert last.usage == whole.usage
            return streamed, str(choice.finish_reason), whole.usage.completion_tokens

        full, reason, tokens = answer()
        assert reason == "stop" and tokens > 3
        for name in ("max_tokens", "max_completion_tokens"):
            short, reason, number = answer(**{name: 2})
            assert full.startswith(short) and len(short) < len(full)
            assert (reason, number) == ("length", 2)
        assert answer(max_tokens=tokens) == (full, "stop", tokens)
        word = full[len(full) // 2 :][:3]
        before = full[: full.index(word)]
        assert answer(stop=word)[:2] == answer(stop=["\n\n", word])[:2] == (before, "stop")
        assert answer(stop=word, max_tokens=1)[1] == "length"
        assert answer(stop=full[0], max_tokens=1)[:2] == ("", "stop")


@given(
    pieces=st.lists(st.text(alphabet="ab é", max_size=3), max_size=8),
    limit=st.integers(1, 12) | st.none(),
    stop=st.lists(st.text(alphabet="ab ", min_size=1, max_size=3), max_size=2),
)
def test_a_stream_never_sends_what_a_limit_takes_away(
    pieces: list[str], limit: int | None, stop: list[str]
) -> None:
    options = Options(max_tokens=limit, stop=stop)
    text, sizes = "".join(pieces), (1, 2, 1, 3)
    ends = [end for end in accumulate(sizes * len(text)) if end < len(text)] + [len(text)]
    content, _ = options.cut(text, ends if text else [])
    lengths = [options.settled("".join(pieces[:number])) for number in range(len(pieces) + 1)]
    assert lengths == sorted(lengths)
    assert lengths[-1] <= len(content)


def test_the_calls_of_open_webui(project: Path, tmp_path: Path) -> None:
    """Checking a connection, the model list, and a chat."""
    file = TokenFile(tmp_path / "tokens.json")
    headers = {
        "Authorization": f"Bearer {file.add('webui', scope='ask')}",
        "Content-Type": "application/json",
        "X-OpenWebUI-User-Name": "Ada",
    }
    with serving_client(project, serving__token_file=str(file.path)) as client:
        assert client.get("/v1/models").status_code == 401
        listed = client.get("/v1/models", headers=headers).json()
        assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["cmt"])
        body = chat_body(
            MAYOR,
            stream=True,
            stream_options={"include_usage": True},
            temperature=0.8,
            max_tokens=128,
            stop=["\nUser:"],
        )
        body["messages"].insert(0, {"role": "system", "content": "Be brief."})
        with client.stream("POST", "/v1/chat/completions", headers=headers, json=body) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in response.iter_lines() if line]
        answered = client.post("/ask", headers=headers, json={"question": MAYOR}).json()["answer"]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == answered
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_null_is_a_missing_field() -> None:
    parts = [{"type": "text", "text": None}, {"type": "text", "text": MAYOR}]
    fields: dict[str, Any] = {
        "stream": None,
        "stream_options": {"include_usage": None},
        "as_of": None,
    }
    request = Completion.model_validate(chat_body(parts, **fields))
    assert (request.question, request.stream, request.as_of) == (MAYOR, None, None)
