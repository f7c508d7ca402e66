"""SHA-256 digests in hexadecimal."""

import hashlib
from pathlib import Path


def sha256_hex(*parts: str | bytes) -> str:
    """Hex SHA-256 of `parts` joined with NUL; text is encoded as UTF-8."""
    return hashlib.sha256(b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the bytes of the file `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
