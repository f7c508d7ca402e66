"""Middleware: the limit on request bodies and the security headers."""

import json

import httpx
import pytest

from tests.helpers.http import error_message


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_with_and_without_its_length(
    client: httpx.Client, declared: bool
) -> None:
    body = json.dumps({"question": "who? " * 2_000_000}).encode()
    content = body if declared else (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    response = client.post("/ask", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert "more than 1,000,000 bytes" in error_message(response)


def test_every_response_has_the_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/openapi.json", "/web/style.css", "/nothing", "/range"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
