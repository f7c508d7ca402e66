"""The identity of a project in `/health`; `cmt ask` recognises the server of its own project with it.

It opens no bank and reads no weights.
"""

from pathlib import Path

from cmt.common.digests import sha256_hex
from cmt.config import Params

_ANSWERING = ("lm", "compressor", "aggregator", "alignment", "bank", "selection", "answering")


def project_digest(root: Path) -> str:
    """Digest of the address of a project folder."""
    return sha256_hex(str(root.resolve()))


def answering_digest(params: Params) -> str:
    """Digest of all parameters that affect answers, including the address of the bank."""
    return params.digest(*_ANSWERING)
