"""`lm.source`: its forms, and the name of the folder that a source is installed in."""

import re

from cmt.common.digests import sha256_hex
from cmt.errors import ConfigError

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FORMS = {
    "pypi": (
        re.compile(
            rf"(?P<package>{_NAME})==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+]*)/(?P<file>{_NAME}\.gguf)"
        ),
        "pypi:<package>==<version>/<file.gguf>",
    ),
    "hub": (
        re.compile(rf"(?P<repository>{_NAME}/{_NAME})@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*)"),
        "hub:<org>/<name>@<revision>",
    ),
    "path": (re.compile(r"(?P<path>.+)"), "path:<folder or file.gguf>"),
}


def parse_source(source: str) -> tuple[str, dict[str, str]]:
    """The scheme of `source` and its parts. Raises ConfigError if it is malformed."""
    scheme, _, rest = source.partition(":")
    if scheme not in _FORMS:
        forms = ", ".join(form for _, form in _FORMS.values())
        raise ConfigError(f"lm.source {source!r} has no known scheme: write one of {forms}")
    pattern, form = _FORMS[scheme]
    if not (match := pattern.fullmatch(rest)):
        raise ConfigError(f"lm.source {source!r} is not of the form {form}")
    return scheme, match.groupdict()


def folder_name(source: str) -> str:
    """Name of the folder for `source`, readable and unique. Raises ConfigError if `source` is
    malformed.
    """
    parse_source(source)
    readable = source.partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    readable = re.sub(r"[^a-z0-9._-]+", "-", readable.lower()).strip(".-")
    return f"{readable or 'lm'}-{sha256_hex(source)[:8]}"
