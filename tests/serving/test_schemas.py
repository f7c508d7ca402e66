"""Requests that are refused with the reason, dates, and the response form of answers."""

from typing import Any

import httpx
import pytest

from tests.helpers.http import MAYOR, error_message

INVALID_QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "question: Field required"),
    ({"question": ""}, "question: the question is empty: write one"),
    ({"question": " \n\x1b"}, "question: the question is empty: write one"),
    ({"question": "x" * 2001}, "question: the question has 2,001 characters: shorten it to 2,000"),
    (
        {"question": MAYOR, "as_of": "2031-02-30"},
        "as_of: '2031-02-30' is not a date-time; write 2031-02-15T06:00:00Z",
    ),
    (
        {"question": MAYOR, "as_of": "2031-02-15T06:00:00"},
        "as_of: 2031-02-15T06:00:00 has no time zone",
    ),
    ({"question": MAYOR, "as_of": 7}, "as_of: '7' is not a date-time"),
    ({"question": MAYOR, "asof": "2031-02-15"}, "asof: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("body", "reason"), INVALID_QUESTIONS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("path", ["/ask", "/ask/stream"])
def test_an_invalid_question_is_refused_with_the_reason(
    client: httpx.Client, path: str, body: dict[str, Any], reason: str
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 422
    assert error_message(response).startswith(reason)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=soon", "since"),
        ("until=2031", "until"),
        ("limit=0", "limit"),
        ("offset=-1", "offset"),
    ],
)
def test_an_invalid_filter_is_named(client: httpx.Client, query: str, field: str) -> None:
    response = client.get(f"/documents?{query}")
    assert response.status_code == 422
    assert response.json()["error"]["param"] == field
