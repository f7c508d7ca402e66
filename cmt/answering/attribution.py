"""Attribution: which documents, and which spans of them, an answer comes from."""

from typing import Any

from cmt.answering.answer import Source, Span


def source_of(row: dict[str, Any], weight: float, spans: tuple[Span, ...], quote: Span | None) -> Source:
    place = row["doc_id"], row["title"], row["published_at"]
    scores = round(row["similarity"], 4), round(weight, 4)
    return Source(*place, *scores, row["text"], spans, quote, row["supersedes"])
