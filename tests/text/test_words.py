"""Words, stems and function words."""

import pytest

from cmt.text.words import FREQUENT_WORDS, FUNCTION_WORDS, is_function_word, stems, words


def test_a_separator_between_digits_belongs_to_the_word() -> None:
    assert words("Moss's fee: 1,500.50 crowns, at 10:30, on_foot 3-4.") == [
        *("Moss", "s", "fee", "1,500.50", "crowns", "at", "10:30", "on", "foot", "3", "4")
    ]


def test_stems_are_cut_words_without_function_words() -> None:
    assert stems("The Mayors' mayoralty, in 1987, for 1,234,567!") == [
        *("mayors", "mayora", "1987", "1234567")
    ]
    assert stems("") == stems("Who was it?") == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [("The", True), ("them", True), ("US", False), ("NOT", True), ("I", True)],
)
def test_an_acronym_is_no_function_word(word: str, expected: bool) -> None:
    assert is_function_word(word) == expected


def test_the_words_that_sketches_leave_out_are_function_words() -> None:
    assert FREQUENT_WORDS < FUNCTION_WORDS
