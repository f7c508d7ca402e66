"""A source's text, cut where the windows that an answer rests on begin and end."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from cmt.answering.answer import Source


class Span(Protocol):
    """A window in characters of a text, `first` up to but not with `last`, and the probability that ψ gave it."""

    @property
    def first(self) -> int: ...

    @property
    def last(self) -> int: ...

    @property
    def probability(self) -> float: ...


class Piece(NamedTuple):
    """A stretch of a text; `probability` is None outside all windows."""

    text: str
    probability: float | None
    quoted: bool = False
    """Whether it was quoted to the LM as the likeliest answer."""

    @property
    def read(self) -> bool:
        """Whether the LM read it."""
        return self.quoted or self.probability is not None


class Highlights(NamedTuple):
    """A source as people read it: what it is called, and its text without that name before it."""

    heading: list[Piece]
    body: list[Piece]

    @property
    def windows(self) -> list[str]:
        """What was read of it, in the order of the text."""
        return [
            "".join(piece.text for piece in run)
            for part in (self.heading, self.body)
            for read, run in groupby(part, key=lambda piece: piece.read)
            if read
        ]


def passage(source: "Source") -> Highlights:
    """The text of `source` in pieces; a memory's text begins with the title of its document."""
    cut = pieces(source.text or "", source.spans, source.quote)
    if source.title and (source.text or "").startswith(f"{source.title}\n"):
        heading, rest = _split(cut, len(source.title))
        return Highlights(heading, _split(rest, 1)[1])
    return Highlights([Piece(source.title or source.doc_id, None)], cut)


def pieces(text: str, spans: Sequence[Span], quote: Span | None = None) -> list[Piece]:
    """All of `text` in order. Where windows overlap the likelier one counts; what reaches over an end is cut."""
    ends = {0, len(text)}
    for span in (*spans, *([quote] if quote else [])):
        ends |= {min(max(span.first, 0), len(text)), min(max(span.last, 0), len(text))}
    found: list[Piece] = []
    places = sorted(ends)
    for first, last in zip(places, places[1:], strict=False):
        over = [span.probability for span in spans if span.first <= first and last <= span.last]
        quoted = quote is not None and quote.first <= first and last <= quote.last
        piece = Piece(text[first:last], max(over, default=None), quoted)
        if found and found[-1][1:] == piece[1:]:
            piece = piece._replace(text=found.pop().text + piece.text)
        found.append(piece)
    return found


def _split(cut: Sequence[Piece], place: int) -> tuple[list[Piece], list[Piece]]:
    """What stands before and what from character `place` on."""
    before: list[Piece] = []
    after: list[Piece] = []
    for piece in cut:
        parts = piece._replace(text=piece.text[:place]), piece._replace(text=piece.text[place:])
        place = max(0, place - len(piece.text))
        for side, part in zip((before, after), parts, strict=True):
            side += [part] if part.text else []
    return before, after
