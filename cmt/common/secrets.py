"""Credentials in addresses: found, to be refused, or masked before a text is shown, logged or
stored.
"""

import re

MASK = "***"
TOKEN_PREFIX = "cmt_"  # noqa: S105 - prefix of the tokens of `cmt serve`, by which they are recognised

# User and password before the host. A secret key of S3 may hold `/`, so behind `user:` everything
# up to the `@` counts, except where that is a port and a path.
_USER = re.compile(
    r"(?P<kept>[a-z][a-z0-9+.-]{0,30}://)(?:[^\s/:@?#]*:(?!\d+(?:/|\s|$))[^\s@]*|[^\s/@?#]+)(?:@[^\s/@]*)*@",
    re.IGNORECASE,
)
# `?X-Amz-Signature=…`, `&sig=…`, `password=…` of a connection string; not `memory_tokens=16`
_NAMED = re.compile(
    r"(?P<kept>(?:token|secret|passw(?:or)?d|pwd|api[_-]?key|access[_-]?key|signature|credential|\bsig)=)"
    r"[^\s&;,#'\"<>)\]}]+",
    re.IGNORECASE,
)
# `Authorization: Bearer …`, and a token of `cmt serve` anywhere: 43 characters stand for 256 bits
_TOKEN = re.compile(
    rf"(?P<kept>\bBearer\s+)[\w.~+/=-]{{16,}}|\b{TOKEN_PREFIX}[\w-]{{43}}", re.IGNORECASE
)


def mask_secrets(text: str) -> str:
    """`text` with `***` in place of the credentials in its addresses and connection strings, and of
    bearer tokens.
    """
    text = _TOKEN.sub(lambda match: f"{match['kept'] or ''}{MASK}", text)
    return _NAMED.sub(rf"\g<kept>{MASK}", _USER.sub(rf"\g<kept>{MASK}@", text))


def has_secrets(address: str) -> bool:
    """Whether `address` holds a user, a password, a key or a token."""
    return mask_secrets(address) != address
