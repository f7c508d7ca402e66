"""Ends of sentences, and full stops that are none."""

import pytest

from cmt.text.sentences import sentence_starts, sentences


@pytest.mark.parametrize(
    "parts",
    [
        ["The ferry is late.", "Who is to blame?", "Nobody!", "40 people wait."],
        ["He met Dr. Moss of Mt. Ellery at No. 5.", "Mrs. Vell was ill."],
        ["J. H. Moss lives in the U.S. Navy's town.", "He was born on Sept. 11 there."],
        ["“The ferry sank.”", "“All are safe,” she said."],
        ["He asked “Why?” and left (at 6 p.m.).", "Then it rained…"],
        ["It costs 3.", "The old fare was 2.50 crowns."],
        ["He said no.", "Moss did not."],
        ["A heading without a mark", "A sentence."],
    ],
)
def test_a_text_falls_into_its_sentences(parts: list[str]) -> None:
    separator = "\n" if "mark" in parts[0] else " "
    assert list(sentences(separator.join(parts))) == parts


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_a_text_without_words_has_no_sentence(text: str) -> None:
    assert list(sentences(text)) == []


def test_a_sentence_starts_behind_the_mark_and_a_line_at_its_break() -> None:
    assert sentence_starts("He ate. “Fine,” he said.\nShe left.") == {7, 24}
