"""Text of an answer while its tokens are generated."""

from collections.abc import Sequence

import pytest

from cmt.lm.model import FrozenLM
from cmt.lm.streaming import StreamingDetokenizer
from tests.helpers.lms import build

TEXTS = [
    "",
    " ",
    "six crowns",
    "  two  words ",
    "Žluťoučký kůň",
    "🦆 and 🦆",
    "half \ufffd there",
    "三\u3000四\u3000",
    "a\n b ",
]


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    """An LM whose vocabulary has letters and bytes: a character outside of ASCII takes several
    tokens.
    """
    return build("llama")


def stream(lm: FrozenLM, tokens: Sequence[int]) -> list[str]:
    """The pieces of text that `tokens` make."""
    pieces: list[str] = []
    detokenizer = StreamingDetokenizer(lm, pieces.append)
    for token in tokens:
        detokenizer.put(0, token)
    detokenizer.end()
    return pieces


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_add_up_to_the_text_and_hold_whole_characters(lm: FrozenLM, text: str) -> None:
    tokens = lm.tokenize(text)
    pieces = stream(lm, tokens)
    assert "".join(pieces) == lm.decode(tokens) == text.strip()
    assert all(pieces)
    assert text.count("\ufffd") == sum(piece.count("\ufffd") for piece in pieces)


def test_a_character_is_emitted_with_its_last_byte_and_a_part_of_one_as_it_is_decoded(
    lm: FrozenLM,
) -> None:
    tokens = lm.tokenize("one 🦆")[:-1]
    assert "".join(stream(lm, tokens)) == lm.decode(tokens)
    pieces: list[str] = []
    detokenizer = StreamingDetokenizer(lm, pieces.append)
    duck = lm.tokenize("🦆")
    assert len(duck) == 4
    for token in duck[:-1]:
        detokenizer.put(0, token)
    assert pieces == []
    detokenizer.put(0, duck[-1])
    assert pieces == ["🦆"]
