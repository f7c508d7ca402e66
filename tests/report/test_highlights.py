"""Texts in pieces: windows, quote and title."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cmt.answering.answer import Source, Span
from cmt.report._highlights import passage, pieces
from tests.helpers.reports import MOMENT

spans = st.builds(Span, st.integers(-5, 30), st.integers(-5, 30), st.floats(0, 1))


@given(text=st.text(max_size=25), windows=st.lists(spans, max_size=5))
def test_pieces_are_all_of_the_text_with_every_window_marked(
    text: str, windows: list[Span]
) -> None:
    cut = pieces(text, windows)
    assert "".join(piece.text for piece in cut) == text
    probabilities = [piece.probability for piece in cut for _ in piece.text]
    for index, probability in enumerate(probabilities):
        covering = [span.probability for span in windows if span.first <= index < span.last]
        assert probability == (max(covering) if covering else None)


def test_a_title_before_a_text_becomes_its_heading() -> None:
    source = Source("sky", "A sky", MOMENT, 0.5, 0.9, "A sky\nof blue.", (Span(2, 8, 0.9),))
    heading, body = passage(source)
    assert [(piece.text, piece.probability) for piece in heading] == [("A ", None), ("sky", 0.9)]
    assert [(piece.text, piece.probability) for piece in body] == [("of", 0.9), (" blue.", None)]
    assert passage(source).windows == ["sky", "of"]
    for untitled in (replace(source, title=None), replace(source, title="A s")):
        assert "".join(piece.text for piece in passage(untitled).body) == source.text
    assert passage(replace(source, title=None, text=None, spans=())) == ([("sky", None, False)], [])


def test_the_publisher_before_a_title_is_part_of_the_heading() -> None:
    source = Source("sky", "A sky", MOMENT, 0.5, 0.9, "Dusk: A sky\nof blue.", (Span(8, 14, 0.9),))
    heading, body = passage(source)
    assert [piece.text for piece in heading] == ["Dusk: A ", "sky"]
    assert [piece.text for piece in body] == ["of", " blue."]


def test_the_quote_is_a_separate_piece_and_does_not_split_its_window() -> None:
    source = Source(
        "sky",
        "A sky",
        MOMENT,
        0.5,
        0.9,
        "A sky\nof deep blue.",
        (Span(6, 18, 0.9),),
        Span(9, 13, 0.4),
    )
    assert [tuple(piece) for piece in passage(source).body] == [
        ("of ", 0.9, False),
        ("deep", 0.9, True),
        (" blue", 0.9, False),
        (".", None, False),
    ]
    assert passage(source).windows == ["of deep blue"]


def test_neighbouring_pieces_differ() -> None:
    cut = pieces(
        "one two three", [Span(0, 3, 0.5), Span(3, 7, 0.5), Span(8, 13, 0.2), Span(20, 30, 0.9)]
    )
    assert [(piece.text, piece.probability) for piece in cut] == [
        ("one two", 0.5),
        (" ", None),
        ("three", 0.2),
    ]
