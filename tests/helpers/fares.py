"""Texts that state the fare of a ferry, and what ψ could read in them."""

from datetime import UTC, datetime

from cmt.answering.judge import Statement

MARCH = datetime(2031, 3, 1, tzinfo=UTC)
JULY = datetime(2031, 7, 6, tzinfo=UTC)
QUESTION = "What does a single ticket on the Saltby ferry cost?"
OLD = "Fares\nA single ticket on the Saltby ferry costs 8 crowns. Children travel free."
NEW = (
    "Fares rise\nFrom today a single ticket on the Saltby ferry costs 11 crowns. Children travel"
    " free."
)
RUMOUR = (
    "Quay\nA cousin of the skipper swears that a single ticket on the Saltby ferry costs 11 crowns."
    " He sells fish."
)


def stated(text: str, answer: str, published_at: datetime, score: float = 3.0) -> Statement:
    """The statement `answer` of `text`."""
    first = text.index(answer)
    return Statement(text, first, first + len(answer), score, published_at)
