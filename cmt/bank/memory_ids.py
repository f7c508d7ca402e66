"""Ids of memories: `<doc_id>#<chunk>`, with `@<date>` for an earlier version of the document."""

import re
from datetime import datetime

from cmt.common.dates import iso


def memory_id(doc_id: str, chunk: int, version: datetime | None = None) -> str:
    """The memory_id of a chunk of a document in the `version` of that date; None: in the latest
    one.
    """
    return f"{doc_id}#{chunk}" + (f"@{iso(version)}" if version else "")


def chunk_number(memory_id: str) -> int:
    """The number of the chunk in a memory_id; a doc_id may have the signs # and @, too."""
    return int(re.fullmatch(r"(?s).*#(\d+)(@\d{4}-\d\d-\d\dT[\d:.]+Z)?", memory_id)[1])  # type: ignore[index]
