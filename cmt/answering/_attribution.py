"""Attribution: the documents behind an answer, and the spans of them that the LM read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from cmt.answering.answer import Source, Span
from cmt.modeling.span_decoding import AnswerSpan, TokenSpan

Offsets = Callable[[str], Sequence[tuple[int, int]]]
"""A text → the first and the last character (excluded) of each of its tokens:
`FrozenLM.offsets`.
"""


def attribute_sources(
    rows: Sequence[Mapping[str, Any]],
    begin_probability: Tensor | None,
    spans: Sequence[TokenSpan],
    quote: AnswerSpan | None,
    offsets: Offsets,
) -> tuple[Source, ...]:
    """The documents of the selected `rows` of the bank as sources: the quoted one first,
    then the best.

    `begin_probability` (S, n) is the probability that the answer begins with each token; without it
    (the published ψ scores no tokens) rows are ordered only by `prior`. `spans`: the spans that
    the LM read. `quote`: the likeliest answer.
    """
    # 1. rank the memories: the answer's first, then by the probability that they hold
    #    it, then as selected
    weights = [0.0] * len(rows) if begin_probability is None else begin_probability.sum(1).tolist()
    quoted = quote.span.memory if quote else None
    order = sorted(range(len(rows)), key=lambda i: (i != quoted, -weights[i], -rows[i]["prior"]))
    # 2. one source a document: several memories of a document are represented by the best one
    sources: dict[str, Source] = {}
    for i in order:
        row = rows[i]
        if row["doc_id"] in sources:
            continue
        shown_spans, shown_quote = tuple[Span, ...](), None
        if begin_probability is not None and row["text"] is not None:
            memory_spans = [span for span in spans if span.memory == i]
            shown_spans = text_spans(row["text"], memory_spans, begin_probability[i], offsets)
            if quote and quote.span.memory == i:
                shown_quote = quote_span(row["text"], quote.span, begin_probability[i], offsets)
        sources[row["doc_id"]] = Source(
            doc_id=row["doc_id"],
            title=row["title"],
            published_at=row["published_at"],
            similarity=round(row["similarity"], 4),
            weight=round(weights[i], 4),
            text=row["text"],
            spans=shown_spans,
            quote=shown_quote,
            supersedes=row["supersedes"],
        )
    return tuple(sources.values())


def text_spans(
    text: str, spans: Sequence[TokenSpan], begin_probability: Tensor, offsets: Offsets
) -> tuple[Span, ...]:
    """Token spans of one memory as character spans of its `text`, in the order of the text.

    `begin_probability` (n,): probability that the answer begins with each token of the memory.
    """
    if not spans:
        return ()
    token_offsets = offsets(text)
    return tuple(
        Span(
            token_offsets[span.first][0],
            token_offsets[min(span.last, len(token_offsets) - 1)][1],
            round(float(begin_probability[span.first : span.last + 1].sum()), 4),
        )
        for span in sorted(spans, key=lambda span: span.first)
    )


def quote_span(
    text: str, span: TokenSpan, begin_probability: Tensor, offsets: Offsets
) -> Span | None:
    """The quoted token span as a character span without surrounding blanks; None if it is blank.

    The blanks are stripped because a token includes the blank before its word.
    """
    (quoted,) = text_spans(text, [span], begin_probability, offsets)
    words = text[quoted.first : quoted.last]
    if not words.strip():
        return None
    first = quoted.first + len(words) - len(words.lstrip())
    return Span(first, first + len(words.strip()), quoted.probability)
