"""`cmt token`, and `cmt serve` without tokens."""

from pathlib import Path

import pytest

from cmt.serving.tokens import TokenFile
from tests.helpers.cli import read, run


def test_a_token_is_made_listed_and_revoked(tiny_workspace: Path) -> None:
    option = ("--set", "serving.token_file=tokens.json")
    added = run(
        tiny_workspace, *option, "token", "add", "desk", "--scope", "admin", "--source", "The Desk"
    )
    file = TokenFile(tiny_workspace / "tokens.json")
    token = file.find(added.stdout.strip())
    assert token and (token.name, token.scope, token.source) == ("desk", "admin", "The Desk")
    assert "it is not shown again" in added.stderr
    secret = read(tiny_workspace, *option, "token", "add", "ann")["token"]
    listed = run(tiny_workspace, *option, "token", "list").output
    assert "The Desk" in listed and secret not in listed and token.sha256 not in listed
    assert [
        entry["scope"] for entry in read(tiny_workspace, *option, "token", "list")["tokens"]
    ] == ["ask", "admin"]
    run(tiny_workspace, *option, "token", "revoke", "desk")
    assert [entry.name for entry in file.tokens()] == ["ann"]
    assert (
        "no token 'desk'"
        in run(tiny_workspace, *option, "token", "revoke", "desk", status=1).stderr
    )


def test_without_a_file_the_message_names_its_parameter(tiny_workspace: Path) -> None:
    assert (
        "serving.token_file names no file"
        in run(tiny_workspace, "token", "add", "ann", status=2).stderr
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - refused
def test_without_tokens_no_server_listens_beyond_loopback(tiny_workspace: Path, host: str) -> None:
    refused = run(tiny_workspace, "serve", "--host", host, "--port", "0", status=1)
    [line] = refused.stderr.splitlines()
    assert f"anyone who reaches {host} can read every document: set serving.token_file" in line
