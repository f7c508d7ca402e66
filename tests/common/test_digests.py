import hashlib

from cmt.common.digests import sha256_hex


def test_parts_are_joined_with_nul_and_text_counts_as_utf8() -> None:
    assert (
        sha256_hex("café", "θ")
        == sha256_hex("café".encode(), "θ")
        == hashlib.sha256("café\0θ".encode()).hexdigest()
    )
    assert sha256_hex() == hashlib.sha256(b"").hexdigest()
