"""Requests to a running server, and the contents of its responses."""

import json
import re
from typing import Any

import httpx

MAYOR = "Who is the mayor of Port Ellery?"
FERRY = "What does the ferry to Saltby cost?"
UNANSWERABLE = "Which comet outshone Jupiter?"
BEFORE_STREAM = "2030-12-31"  # a date before the first document of the tiny project


def ask(client: httpx.Client, question: str, **fields: Any) -> dict[str, Any]:
    """The response of `/ask`, which must succeed."""
    response = client.post("/ask", json={"question": question, **fields})
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


def chat_body(content: Any, **fields: Any) -> dict[str, Any]:
    """A request body for `/v1/chat/completions` with one user message of that content."""
    return {"model": "cmt", "messages": [{"role": "user", "content": content}], **fields}


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """Name and data of each server-sent event."""
    pairs = re.findall(r"event: (.+)\ndata: (.+)\n\n", response.text)
    return [(name, json.loads(data)) for name, data in pairs]


def doc_ids(answered: dict[str, Any]) -> set[str]:
    """The source documents of an answer."""
    return {source["doc_id"] for source in answered["sources"]}


def error_message(response: httpx.Response) -> str:
    """The message of an error response."""
    return str(response.json()["error"]["message"])
