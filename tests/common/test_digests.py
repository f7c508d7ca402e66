import hashlib
from pathlib import Path

import pytest

from cmt.common.digests import sha256_file, sha256_hex


def test_parts_are_joined_with_nul() -> None:
    assert sha256_hex("a", "b") == hashlib.sha256(b"a\0b").hexdigest()
    assert sha256_hex("ab") == hashlib.sha256(b"ab").hexdigest()
    assert sha256_hex() == hashlib.sha256(b"").hexdigest()


def test_text_and_its_utf8_bytes_have_one_digest() -> None:
    assert sha256_hex("café", "θ") == sha256_hex("café".encode(), "θ") == hashlib.sha256("café\0θ".encode()).hexdigest()


def test_where_a_part_ends_changes_the_digest() -> None:
    assert len({sha256_hex("ab", "c"), sha256_hex("a", "bc"), sha256_hex("abc"), sha256_hex("abc", "")}) == 4


@pytest.mark.parametrize("data", [b"", b"a\0b", b"x" * 1_000_000])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == sha256_hex(data)
