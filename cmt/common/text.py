"""Text from other people's documents, made safe to print."""

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def plain(text: object) -> str:
    """`text` in one line without control characters; direction marks and emoji stay."""
    kept = (
        character for character in " ".join(str(text).split()) if unicodedata.category(character) not in ("Cc", "Cs")
    )
    return "".join(kept)
