"""A source's text, cut where the windows that an answer rests on begin and end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from cmt.answering import Source


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


class Passage(NamedTuple):
    """A source as people read it: what it is called, and its text without that name before it."""

    heading: list[Piece]
    body: list[Piece]

    @property
    def windows(self) -> list[str]:
        """What was read of it, in the order of the text."""
        return [piece.text for piece in (*self.heading, *self.body) if piece.probability is not None]


def passage(source: "Source") -> Passage:
    """The text of `source` in pieces; a memory's text begins with the title of its document."""
    cut = pieces(source.text or "", source.spans)
    if source.title and (source.text or "").startswith(f"{source.title}\n"):
        heading, rest = _split(cut, len(source.title))
        return Passage(heading, _split(rest, 1)[1])
    return Passage([Piece(source.title or source.doc_id, None)], cut)


def pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    """All of `text` in order. Where windows overlap the likelier one counts; what reaches over an end is cut."""
    ends = {0, len(text)}
    for span in spans:
        ends |= {min(max(span.first, 0), len(text)), min(max(span.last, 0), len(text))}
    found: list[Piece] = []
    places = sorted(ends)
    for first, last in zip(places, places[1:], strict=False):
        over = [span.probability for span in spans if span.first <= first and last <= span.last]
        piece = Piece(text[first:last], max(over, default=None))
        if found and found[-1].probability == piece.probability:
            piece = Piece(found.pop().text + piece.text, piece.probability)
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
