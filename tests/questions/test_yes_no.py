"""What a yes-or-no question asserts, and which sentences are about it."""

import pytest

from cmt.questions.yes_no import are_about, asserted


@pytest.mark.parametrize(
    ("question", "sentences", "about"),
    [
        ("Has Bessie had a calf?", ["Rain fell.", "Bessie was seen with a calf."], True),
        ("Does a ticket cost 1500 crowns?", ["Tickets cost 1,500 crowns."], True),
        ("Has Bessie had a calf?", ["Bessie was seen near Saltby."], False),
        ("Is the inn open?", [], False),
    ],
)
def test_sentences_with_the_words_of_a_question_are_about_it(
    question: str, sentences: list[str], about: bool
) -> None:
    assert are_about(question, sentences) == about


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        (
            "Does Mia Larsen play for Saltby?",
            [
                ("Mia Larsen", "Who does play for Saltby?"),
                ("Saltby", "Who does Mia Larsen play for?"),
            ],
        ),
        ("does the ferry cost 5 crowns", [("5 crowns", "How many crowns does the ferry cost?")]),
        ("Does the plant have 30 turbines?", [("30", "How many turbines does the plant have?")]),
        ("Was the mill built in 1843?", [("1843", "When was the mill built?")]),
        ("Did the ferry cost more than 5 crowns?", []),  # a limit
        ("is the bridge open", []),
    ],
)
def test_each_name_and_number_is_asked_for(question: str, terms: list[tuple[str, str]]) -> None:
    assert asserted(question) == terms
