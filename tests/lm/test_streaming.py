"""What is said of an answer while its tokens come."""

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
    """Its vocabulary has letters and bytes: what is not ASCII takes several tokens a character."""
    return build("llama")


def said(lm: FrozenLM, tokens: Sequence[int]) -> list[str]:
    heard: list[str] = []
    voice = StreamingDetokenizer(lm, heard.append)
    for token in tokens:
        voice.put(0, token)
    voice.end()
    return heard


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text_and_whole_characters(lm: FrozenLM, text: str) -> None:
    tokens = lm.tokenize(text)
    pieces = said(lm, tokens)
    assert "".join(pieces) == lm.decode(tokens) == text.strip()
    assert all(pieces)
    assert text.count("\ufffd") == sum(piece.count("\ufffd") for piece in pieces)


def test_what_ends_in_half_a_character_is_said_as_it_is_decoded(lm: FrozenLM) -> None:
    tokens = lm.tokenize("one 🦆")[:-1]
    pieces = said(lm, tokens)
    assert "".join(pieces) == lm.decode(tokens)
    assert pieces[-1].strip("\ufffd ") == ""


def test_a_character_is_said_with_its_last_byte(lm: FrozenLM) -> None:
    heard: list[str] = []
    voice = StreamingDetokenizer(lm, heard.append)
    duck = lm.tokenize("🦆")
    assert len(duck) == 4
    for token in duck[:-1]:
        voice.put(0, token)
    assert heard == []
    voice.put(0, duck[-1])
    assert heard == ["🦆"]
