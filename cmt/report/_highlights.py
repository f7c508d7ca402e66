"""A source's text in pieces: the windows that the LM read, the span that was quoted to it, and the
rest.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from cmt.answering.answer import Source, Span


class Piece(NamedTuple):
    """A range of a text."""

    text: str
    probability: float | None  # probability of its window; None outside all windows
    quoted: bool = False  # whether it was quoted to the LM as the likeliest answer

    @property
    def read(self) -> bool:
        """Whether the LM read it."""
        return self.quoted or self.probability is not None


class Highlights(NamedTuple):
    """A source as it is shown: its heading, and its text without the heading, both in pieces."""

    heading: list[Piece]
    body: list[Piece]

    @property
    def windows(self) -> list[str]:
        """The ranges of text that the LM read, in the order of the text."""
        return [
            "".join(piece.text for piece in run)
            for pieces in (self.heading, self.body)
            for read, run in groupby(pieces, key=lambda piece: piece.read)
            if read
        ]


def passage(source: Source) -> Highlights:
    """The text of `source` in pieces. A memory's text begins with the heading of its document,
    which is split off.
    """
    text, title = source.text or "", source.title or ""
    line, end, _ = text.partition("\n")
    if title and end and line.endswith(title):
        heading = pieces(line, source.spans, source.quote)
        return Highlights(heading, pieces(text, source.spans, source.quote, start=len(line) + 1))
    return Highlights(
        [Piece(title or source.doc_id, None)], pieces(text, source.spans, source.quote)
    )


def pieces(
    text: str, spans: Sequence[Span], quote: Span | None = None, *, start: int = 0
) -> list[Piece]:
    """`text` from `start` on, cut at the ends of `spans` and `quote`; of overlapping spans the
    likeliest counts.
    """
    # 1. the positions of all cuts
    ends = {start, len(text)}
    for span in (*spans, *([quote] if quote else [])):
        ends |= {min(max(end, start), len(text)) for end in (span.first, span.last)}
    cuts = sorted(ends)
    # 2. a piece between each two, joined to the piece before if both are marked alike
    result: list[Piece] = []
    for first, last in zip(cuts, cuts[1:], strict=False):
        covering = [span.probability for span in spans if span.first <= first and last <= span.last]
        quoted = quote is not None and quote.first <= first and last <= quote.last
        piece = Piece(text[first:last], max(covering, default=None), quoted)
        if result and result[-1][1:] == piece[1:]:
            piece = piece._replace(text=result.pop().text + piece.text)
        result.append(piece)
    return result
