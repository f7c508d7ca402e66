import hashlib
from pathlib import Path

import pytest

from cmt.common.digests import sha256_file, sha256_hex


def test_parts_are_joined_with_nul_and_text_counts_as_utf8() -> None:
    assert sha256_hex("café", "θ") == sha256_hex("café".encode(), "θ") == hashlib.sha256("café\0θ".encode()).hexdigest()
    assert sha256_hex() == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("data", [b"", b"a\0b", b"x" * 1_000_000])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == sha256_hex(data)
