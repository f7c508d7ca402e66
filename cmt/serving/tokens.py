"""The bearer tokens of `cmt serve`: a file with their names, scopes and SHA-256 digests, but not
the tokens.

A token has 256 random bits, too many to guess, so a fast digest is as safe as a slow one.
"""

import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from cmt.common.digests import sha256_hex
from cmt.common.secrets import TOKEN_PREFIX
from cmt.common.storage import atomic_path, read_json
from cmt.errors import CmtError, ConfigError

Scope = Literal[
    "ask", "admin"
]  # `ask`: ask questions and read the bank; `admin`: also ingest and forget documents

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RANDOM_BYTES = 32
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Token:
    """An entry of the file."""

    name: str  # the owner of the token; the request log has this name
    scope: Scope
    source: str  # the publisher of the documents that it ingests
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: str


class TokenFile:
    """The file `path` of tokens; the next request reads a changed file.

    Methods raise CmtError if it is missing, damaged or not private, and ConfigError for a malformed
    name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, ...] = ()  # of the file when it was last read
        self._tokens: list[Token] = []

    def tokens(self) -> list[Token]:
        """All tokens, sorted by name. CmtError if the file is missing, damaged, or writable by
        other users.
        """
        try:
            info = self.path.stat()
            state = info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
            if state != self._state:
                if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or info.st_uid not in (
                    0,
                    os.geteuid(),
                ):
                    raise CmtError(
                        f"{self.path} can be written by other users: make it your own (chown, "
                        "chmod 600), and look for "
                        "tokens that you did not make with `cmt token list`"
                    )
                self._tokens, self._state = read_json(self.path, list[Token]), state
        except FileNotFoundError:
            raise CmtError(
                f"no tokens in {self.path}: make one with `cmt token add NAME`"
            ) from None
        except (OSError, ValueError) as error:
            raise CmtError(
                f"the tokens in {self.path} cannot be read ({error}): restore the file"
            ) from None
        return self._tokens

    def find(self, secret: str) -> Token | None:
        """The token with this `secret`; compares every entry in constant time."""
        digest, found = sha256_hex(secret), None
        for token in self.tokens():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def add(self, name: str, *, scope: Scope, source: str | None = None) -> str:
        """Add a token and return its secret, which is stored nowhere. `source`: by default
        `name`.
        """
        source = name if source is None else source
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} is not a valid token name: use up to 64 letters, digits, dots, "
                "dashes, underscores"
            )
        if not source.strip() or not source.isprintable():
            raise ConfigError(f"{source!r} is not a valid source: write one line of text")
        secret = TOKEN_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        token = Token(
            name, scope, source, sha256_hex(secret), datetime.now(UTC).isoformat(timespec="seconds")
        )
        with self._changing() as tokens:
            if any(other.name == name for other in tokens):
                raise CmtError(
                    f"{self.path} has a token {name!r}: revoke it first, or take another name"
                )
            tokens.append(token)
        return secret

    def revoke(self, name: str) -> None:
        """Remove the token `name`."""
        with self._changing() as tokens:
            found = next((token for token in tokens if token.name == name), None)
            if found is None:
                names = ", ".join(token.name for token in tokens) or "none"
                raise CmtError(f"no token {name!r} in {self.path}; there are: {names}")
            tokens.remove(found)

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Yield the tokens as a list to change, and write it; one process at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=_LOCK_SECONDS):
                tokens = list(self.tokens()) if self.path.exists() else []
                yield tokens
                entries = [asdict(token) for token in sorted(tokens, key=lambda token: token.name)]
                with atomic_path(self.path) as temporary:
                    temporary.unlink(missing_ok=True)
                    temporary.touch(mode=0o600)
                    temporary.write_text(json.dumps(entries, indent=1) + "\n")
        except Timeout:
            raise CmtError(
                f"another process is changing {self.path}: wait for it and repeat"
            ) from None
        except OSError as error:
            raise CmtError(
                f"{self.path} cannot be written: {error.strerror}; check space and rights"
            ) from None
