"""Markdown as the words that a person reads."""

import time

import pytest

from cmt.text.markdown import is_sentence, prose, without_marks


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# The *Alder* bridge #1", "The Alder bridge #1"),
        ("- [x] **Done**\n  * `cmt ask`\n+ more", "Done\n  cmt ask\nmore"),
        ("See [the page](a.md \"Page\"), ![a boat](b.png) and [[Team|our team]].",
         "See the page, a boat and our team."),
        ("One\n---\nTwo\n***\n", "One\nTwo"),
        ("snake_case_name, 2 * 3 * 4, **7**, -5, a_b", "snake_case_name, 2 * 3 * 4, 7, -5, a_b"),
        ("Text\n```\n# code **here**\n```\n**more**", "Text\n```\n# code **here**\n```\nmore"),
    ],
)  # fmt: skip
def test_marks_are_removed_and_words_stay(text: str, plain: str) -> None:
    assert without_marks(text) == plain


def test_prose_has_no_headings_tables_and_code() -> None:
    text = "# Tolls\n\n- The toll is **6** crowns.\n\n| a | b |\n|---|---|\n\n```\ncode\n```\nEnd."
    assert list(prose(text)) == ["The toll is 6 crowns.", "End."]


def test_a_label_and_a_line_without_an_end_are_no_sentences() -> None:
    assert is_sentence("He said: “Go.”") is False
    assert is_sentence("The ferry leaves at 8:30.") and is_sentence("It costs 6 crowns (1 euro).")
    assert not is_sentence("Opening hours") and not is_sentence("Lisbon: opened in May.")


@pytest.mark.parametrize("part", ["#", "[", "![", "[[", "*", "_", "`", "- ", " ", "```\n", "=\n"])
def test_no_text_takes_more_than_linear_time(part: str) -> None:
    started = time.process_time()
    without_marks(part * (100_000 // len(part)))
    without_marks(f"{part}a" * (100_000 // (len(part) + 1)))
    list(prose(part * (100_000 // len(part))))
    assert time.process_time() - started < 1
