"""The form of a question."""

from datetime import date

import pytest

from cmt.questions.forms import form_of

TODAY = date(2031, 9, 1)


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("What did a single ticket cost in May?", "What did a single ticket cost?"),
        ("in july, what was the opening day", "what was the opening day"),
        ("director of the museum in february", "What is the director of the museum?"),
        ("Base rate on 1 June?", "What is the Base rate?"),
    ],
)
def test_the_fact_of_a_question_at_a_time_is_asked_without_the_time(
    question: str, fact: str
) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact) == ("at", fact)
    assert asked.time and asked.time.last < TODAY


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("Since when has a ticket cost 5 crowns?", None),
        ("until when is the bridge closed", None),
        ("How long has Vale been the captain?", None),
        ("When did the fare rise?", "What is the fare?"),
        ("When was the price of a ticket last raised?", "What is the price of a ticket?"),
    ],
)
def test_since_until_how_long_and_the_date_of_a_change(question: str, fact: str | None) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact) == ("since", fact or question)
    assert asked.changes == (fact is not None)


@pytest.mark.parametrize(
    ("question", "fact", "before"),
    [
        ("Who was the captain before Larsen?", "Who was the captain", "Larsen"),
        ("captain before larsen", "What is the captain?", "larsen"),
        ("ticket price before it rose to 5", "What is the ticket price?", "5"),
        ("Who did Mia Larsen succeed as captain?", "Who is the captain?", "Mia Larsen"),
        ("What was the previous fare?", "What was the fare?", ""),
        ("former captain of the ferry", "What is the captain of the ferry?", ""),
    ],
)
def test_the_value_before_another_one(question: str, fact: str, before: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact, asked.before) == ("before", fact, before)


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("What has changed about the Saltby ferry since March?", "Saltby ferry"),
        ("whats new with the swing bridge since january", "swing bridge"),
        ("Anything new about the mayor of Elm since 1 April?", "mayor of Elm"),
        ("phone ban in schools, what has changed since may", "phone ban in schools"),
        ("how did the water level change between may and june", "water level"),
        ("swing bridge changes between january and march", "swing bridge"),
        ("tidal plant news since june, what is different", "tidal plant"),
        ("What changes were made to the bus fare since May?", "bus fare"),
        ("What happened to the bridge since June?", "bridge"),
        ("Please tell me the latest news about the museum since last week", "museum"),
    ],
)
def test_what_changed_in_a_stretch_of_time(question: str, subject: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact) == ("changed", subject)
    assert asked.time and asked.time.last <= TODAY


def test_what_changed_needs_no_time_but_a_subject() -> None:
    asked = form_of("What has changed about the ferry?", TODAY)
    assert (asked.form, asked.fact, asked.time) == ("changed", "ferry", None)
    assert form_of("What has changed since May?", TODAY).form == "plain"


@pytest.mark.parametrize(
    "question",
    [
        "What changed the role of the church in Portugal?",
        "What changed when the bridge opened?",
        "How did the ban change the schools since the war?",
        "Which new ferry has sailed since March?",
        "Tell me the fare since March",
        "Who led the crew before the strike?",
        "Who sailed before he became captain?",
        "Who owned the quay before 1910?",
        "How old is the ferry?",
        "Which film did the former captain make?",
        "And before him?",
        "Since when?",
        "How long is the bridge?",
        "When did the bridge open?",
        "What does a single ticket cost?",
        "When did the bridge open in May?",
        "Why did the court stop it in June?",
        "Who was executed in October 1912?",
        "What will the rate be in December?",
        "How many new cases were counted last week?",
        "Which films were shot this year?",
        "What was the first ferry?",
        "Who painted the crane that was still in pieces in February?",
        "On which day does the museum open late in September?",
    ],
)
def test_other_questions_are_plain(question: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact, asked.time) == ("plain", question, None)
