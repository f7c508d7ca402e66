"""What sentences say about a yes-or-no question, and what it asserts."""

import pytest

from cmt.questions.yes_no import asserted, decide


@pytest.mark.parametrize(
    ("question", "sentence", "holds"),
    [
        # opposites
        ("Is the inn open on Wednesdays?", "Closed on Wednesdays.", False),
        ("Is the inn shut on Wednesdays?", "Closed on Wednesdays.", True),
        ("Can I pay by card at the Oar?", "Dinner costs 45 crowns, in cash.", False),
        ("Do dogs ride free on the lift?", "Residents ride free, as do dogs.", True),
        ("does the bus charge a fare", "There are no fares on the bus.", False),
        (
            "do cyclists pay on the bridge",
            "Motorcycles are charged 2 crowns and cyclists nothing at all.",
            False,
        ),
        ("Is hosing allowed in Saltby?", "Saltby has lifted the ban on hosing.", True),
        # numbers
        ("Did Osei win more than half the vote?", "Osei took 54 percent of the vote.", True),
        ("Does a ticket cost less than 5 crowns?", "A ticket costs 7 crowns.", False),
        ("Does a ticket cost at least 7 crowns?", "A ticket costs 7 crowns.", True),
        # an end
        ("Does the well still whistle?", "It has not made a sound since 2 June.", False),
        # negations and refusals
        ("Did the ferry sail on Monday?", "The ferry did not sail on Monday.", False),
        ("Will the mill become flats?", "Plans for flats in the mill were thrown out.", False),
        ("Didn't the ferry sail?", "The ferry did not sail.", True),
        # the words of the question
        ("Has Bessie had a calf?", "Bessie was seen with a calf at her flank.", True),
    ],
)
def test_a_sentence_decides(question: str, sentence: str, holds: bool) -> None:
    decision = decide(question, ["Rain fell.", sentence])
    assert decision and (decision.holds, decision.sentence) == (holds, 1)


@pytest.mark.parametrize(
    ("question", "sentences"),
    [
        ("Has Bessie had a calf?", ["Bessie was seen near Saltby."]),
        ("Is it so?", ["The ferry sails."]),
        ("Is the inn open?", []),
    ],
)
def test_sentences_about_something_else_decide_nothing(question: str, sentences: list[str]) -> None:
    assert decide(question, sentences) is None


def test_opposites_and_numbers_are_firm_and_shared_words_are_not() -> None:
    opposite = decide("Is the inn open?", ["The inn is shut."])
    words = decide("Has Bessie had a calf?", ["Bessie has a calf."])
    assert opposite and opposite.firm and words and not words.firm


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
        ("is the bridge open", []),
    ],
)
def test_each_name_and_number_is_asked_for(question: str, terms: list[tuple[str, str]]) -> None:
    assert asserted(question) == terms
