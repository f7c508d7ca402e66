"""Questions that a rule makes of sentences."""

import pytest

from cmt.questions.gaps import PER_TEXT, made_questions, question_on


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (
            "The ferry to Saltby costs 6 crowns.",
            [("The ferry to Saltby costs how many crowns?", "6")],
        ),
        (
            "The school in Saltby opened in 1987.",
            [("The school in Saltby opened in when?", "1987")],
        ),
        (
            "Moss is the mayor of Port Ellery.",
            [("Who or what is the mayor of Port Ellery?", "Moss")],
        ),
        (
            "The mayor of Port Ellery is Ines Vell.",
            [("The mayor of Port Ellery is who or what?", "Ines Vell")],
        ),
        ("Ines Vell lives in Port Ellery.", [("Ines Vell lives in who or what?", "Port Ellery")]),
        ("The meeting took 90 minutes at least.", []),  # which meeting
        (
            "- **Lisbon**: opened on 4 May 2027 at Rua da Prata 80.\n"
            "| Lisbon office of Skerry | 80 seats for Ann. |\n"
            "# The Lisbon office has 80 seats.\n\n"
            "* The [Lisbon office](lisbon.md) has **80** seats.\nSeats in Lisbon: 80",
            [("The Lisbon office has how many seats?", "80")],
        ),
        ("A choir of 40 sang for Port Ellery.", []),  # one of many
        ("Ines Vell greeted Moss in Port Ellery.", []),  # and others elsewhere
    ],
)
def test_what_has_one_answer_at_a_time_becomes_a_question(
    text: str, made: list[tuple[str, str]]
) -> None:
    assert made_questions(text) == made


def test_a_text_gives_a_few_questions(
    text: str = "The toll at Amber Bridge is {} crowns. ",
) -> None:
    assert len(made_questions("".join(text.format(n) for n in range(10)))) == PER_TEXT


def test_an_answer_is_asked_for_in_the_sentence_that_has_it() -> None:
    text = "It rained. In Saltby the chain hangs round the neck of Ines Vell."
    assert (
        question_on(text, "ines vell") == "In Saltby the chain hangs round the neck of who or what?"
    )
    assert question_on("The toll is 99 euros.", "99 euros") == "The toll is how many euros?"
    assert question_on(text, "Moss") is None
    assert question_on("Herr Gauß left Hallein.", "Hallein") == "Herr Gauß left who or what?"
