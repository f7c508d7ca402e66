"""The file of tokens: its contents and its permissions."""

import json
import stat
from pathlib import Path

import pytest

from cmt.errors import CmtError, ConfigError
from cmt.serving.tokens import TokenFile


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "folder/tokens.json")


def test_a_token_is_stored_as_a_digest_in_a_private_file(file: TokenFile) -> None:
    secret = file.add("ann", scope="admin", source="The Courier")
    assert len(secret) == 4 + 43
    assert secret not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    token = file.find(secret)
    assert token and (token.name, token.scope, token.source) == ("ann", "admin", "The Courier")
    assert [
        file.find(wrong) for wrong in ("", "cmt_", secret[:-1], f"{secret}x", token.sha256)
    ] == [None] * 5
    assert file.add("bob", scope="ask") != secret
    assert [(entry.name, entry.source) for entry in file.tokens()] == [
        ("ann", "The Courier"),
        ("bob", "bob"),
    ]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(file: TokenFile, mode: int) -> None:
    secret = file.add("ann", scope="ask")
    file.path.chmod(mode)
    for read in (
        lambda: file.find(secret),
        lambda: file.add("bob", scope="admin"),
        TokenFile(file.path).tokens,
    ):
        with pytest.raises(CmtError, match="can be written by other users"):
            read()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "5",
        '[{"name": "ann"}]',
        '[{"name":"a","scope":"root","source":"a","sha256":"x","created_at":""}]',
    ],
)
def test_a_damaged_file_is_refused_and_kept(file: TokenFile, content: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(content)
    for read in (file.tokens, lambda: file.add("ann", scope="ask")):
        with pytest.raises(CmtError, match="cannot be read .*: restore the file"):
            read()
    assert file.path.read_text() == content


def test_names_are_checked_and_unique(file: TokenFile) -> None:
    for name in ("", "a b", "../x", "x" * 65, "ann\n"):
        with pytest.raises(ConfigError, match="is not a valid token name"):
            file.add(name, scope="ask")
    for source in ("", " ", "two\nlines"):
        with pytest.raises(ConfigError, match="is not a valid source"):
            file.add("ann", scope="ask", source=source)
    with pytest.raises(CmtError, match="no tokens in .*cmt token add"):
        file.tokens()
    file.add("ann", scope="ask")
    with pytest.raises(CmtError, match="has a token 'ann': revoke it first"):
        file.add("ann", scope="admin")
    with pytest.raises(CmtError, match="no token 'bob' in .*; there are: ann"):
        file.revoke("bob")
    assert len(json.loads(file.path.read_text())) == 1
