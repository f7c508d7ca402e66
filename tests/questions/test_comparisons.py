"""Questions that compare two things by a number."""

from datetime import date

import pytest

from cmt.questions._comparisons import comparison_of
from cmt.questions.forms import form_of


@pytest.mark.parametrize(
    ("question", "first", "second", "asked", "largest"),
    [
        (
            "Which ship is heavier: the Bright or the Marigold?",
            "the Bright",
            "the Marigold",
            "How much does the Bright ship weigh?",
            True,
        ),
        ("Who is younger, Vale or Moss?", "Vale", "Moss", "How old is Vale?", False),
        (
            "What cost more, the lift or the crane?",
            "the lift",
            "the crane",
            "How much did the lift cost?",
            True,
        ),
        ("lift or crane, which cost less?", "lift", "crane", "How much did lift cost?", False),
        (
            "Is the Heron boat or the Withy boat longer?",
            "the Heron boat",
            "the Withy boat",
            "How long is the Heron boat?",
            True,
        ),
        (
            "who got more per head the drivers or the cooks",
            "the drivers",
            "the cooks",
            "How much did the drivers get per head?",
            True,
        ),
        (
            "Which fair had more kites, Dunlin or Gallows Down?",
            "Dunlin",
            "Gallows Down",
            "How many kites did Dunlin have?",
            True,
        ),
        (
            "What is nearer, the mill or the quay?",
            "the mill",
            "the quay",
            "How far is the mill?",
            False,
        ),
    ],
)
def test_a_comparison_asks_for_the_number_of_each_option(
    question: str, first: str, second: str, asked: str, largest: bool
) -> None:
    comparison = comparison_of(question)
    assert comparison
    assert comparison.options == (first, second)
    assert comparison.questions == (asked, asked.replace(first, second))
    assert comparison.largest == largest
    assert form_of(question, date(2031, 9, 1)).form == "compare"


@pytest.mark.parametrize(
    "question",
    [
        "Who is older than Vale?",
        "Does the ferry or the bus run on Sundays?",
        "Is it more like a plant or an animal?",
        "Which group is more likely to vote: farmers or shopkeepers?",
        "Was it important before or after the war?",
        "What is the toll for cars or lorries?",
    ],
)
def test_other_questions(question: str) -> None:
    assert comparison_of(question) is None
