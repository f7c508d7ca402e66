"""Digests in hexadecimal."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_hex(*parts: str | bytes) -> str:
    """Hex SHA-256 of `parts` joined with NUL; text is encoded as UTF-8."""
    return hashlib.sha256(
        b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    ).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the bytes of the file `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_checksum(content: Mapping[str, Any]) -> str:
    """Hex BLAKE2b of 16 bytes over the values of `content` as JSON, in any order. Raises
    TypeError.
    """
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
