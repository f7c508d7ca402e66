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
        ("How long will the repairs take?", None),
        ("When did the strike begin?", None),
        ("When did Vale become captain of the ferry?", None),
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
        ("old ferry record", "What is the ferry record?", ""),
        ("What was the old fare before the 5 crowns?", "What was the fare?", ""),
        ("what was at the rock before the iron beacon", "what was at the rock", "the iron beacon"),
    ],
)
def test_the_value_before_another_one(question: str, fact: str, before: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact, asked.before) == ("before", fact, before)


@pytest.mark.parametrize(
    ("question", "fact", "neighbour"),
    [
        ("What is the latest fare?", "What is the fare?", "latest"),
        ("latest head count for the town", "What is the head count for the town?", "latest"),
        ("What is the next date of the fair?", "What is the date of the fair?", "next"),
        ("when does the council meet next", "when does the council meet?", "next"),
    ],
)
def test_the_latest_and_the_next_value(question: str, fact: str, neighbour: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact, asked.neighbour) == ("before", fact, neighbour)


@pytest.mark.parametrize(
    ("question", "one"),
    [
        ("Which films were shot this year?", "Which film was shot this year?"),
        ("Which ferries have a bar?", "Which ferry has a bar?"),
        ("Which firms in Saltby make buttons?", "Which firm in Saltby make buttons?"),
        ("list all pencil makers", "pencil makers"),
        ("kite festivals, which ones", "kite festivals, which ones"),
        ("dogs that won a prize", "dogs that won a prize"),
    ],
)
def test_all_things_of_a_kind(question: str, one: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact) == ("list", one)


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


@pytest.mark.parametrize(
    "question",
    [
        "Is the Alder Bridge open?",
        "do cyclists pay on the bridge",
        "Hasn't the strike ended?",
        "Can I pay by card at the inn?",
        "Was the bridge open in May?",
    ],
)
def test_whether_something_holds(question: str) -> None:
    assert form_of(question, TODAY).form == "yesno"


def test_what_changed_needs_no_time_but_a_subject() -> None:
    asked = form_of("What has changed about the ferry?", TODAY)
    assert (asked.form, asked.fact, asked.time) == ("changed", "ferry", None)
    assert form_of("What has changed since May?", TODAY).form == "plain"


@pytest.mark.parametrize(
    "question",
    [
        "Is the Heron boat or the Withy boat in Saltby?",
        "Do you know when the bridge opened?",
        "Can you tell me the fare?",
        "Is it open?",
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
        "Who was executed in October 1912?",
        "What will the rate be in December?",
        "How many new cases were counted last week?",
        "Which film was shot this year?",
        "Which two films were shot in May 1953?",
        "What stripes does the ferry have?",
        "Which birds did Vale keep?",
        "When does the phone ban begin?",
        "Cells that carry pain are called what?",
        "What was the first ferry?",
        "Who painted the crane that was still in pieces in February?",
        "On which day does the museum open late in September?",
    ],
)
def test_other_questions_are_plain(question: str) -> None:
    asked = form_of(question, TODAY)
    assert (asked.form, asked.fact, asked.time) == ("plain", question, None)


@pytest.mark.parametrize(
    "question",
    [
        "Why did the court stop it in June?",
        "In 1863, why did the mill close?",
        "how come the ferry stopped",
        "Please explain how the ferry was saved.",
        "Summarise in a sentence who bought the ferry.",
        "Can you tell me how the strike ended?",
        "What caused the fire and why?",
        "What was the main reason for the delay?",
        "How did the crew save the ferry?",
        "how was the forger found out",
        "Tell me about the ferry",
        "Write a short summary of the strike.",
    ],
)
def test_a_reason_a_manner_or_a_summary_is_answered_with_sentences(question: str) -> None:
    assert form_of(question, TODAY).form == "why"


@pytest.mark.parametrize(
    "question",
    [
        "How many ferries were sold?",
        "How old was the ferry?",
        "How far did the ferry go?",
        "How long is the ferry?",
        "How deep was the harbour found to be?",
        "How did the fare change between May and July?",
        "How is the ferry called?",
        "How was the concert?",
        "Who asked why the ferry was sold?",
        "Which model explains why the ferry sank?",
        "Can you tell me how full the reservoir was?",
    ],
)
def test_what_a_few_words_answer_is_not_answered_with_sentences(question: str) -> None:
    assert form_of(question, TODAY).form != "why"


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Write me a poem about the ferry.", "a task"),
        ("could you please draft a letter to the mayor", "a task"),
        ("Translate the headline into French.", "a task"),
        ("tell me a good joke", "a task"),
        ("Plan me a weekend in Saltby.", "a task"),
        ("Should I take the ferry?", "advice"),
        ("What should I do?", "advice"),
        ("What do you think of the ferry?", "advice"),
        ("what time is it now", "the present time"),
        ("Hello!", "no question"),
    ],
)
def test_no_document_answers_a_task_advice_the_time_or_a_greeting(
    question: str, reason: str
) -> None:
    asked = form_of(question, TODAY)
    assert asked.form == "none" and reason in asked.reason


@pytest.mark.parametrize(
    "question",
    [
        "Who should I call about the ferry?",
        "What time does the ferry leave?",
        "What time is it in the novel when the ferry sinks?",
        "Who wrote the poem about the ferry?",
        "What should passengers do with their tickets?",
        "What is the date of the strike?",
    ],
)
def test_a_document_may_answer_what_sounds_like_a_request(question: str) -> None:
    assert form_of(question, TODAY).form == "plain"


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("Tell me about the ferry.", "What is known about the ferry?"),
        (
            "summarise for us in two sentences the strike",
            "What is known about the strike?",
        ),
        ("Explain why the well whistles.", "Explain why the well whistles."),
        ("Explain", "Explain"),
    ],
)
def test_a_summary_of_a_topic_asks_what_is_known_about_it(question: str, fact: str) -> None:
    assert form_of(question, TODAY).fact == fact


def test_a_summary_of_changes_asks_what_changed() -> None:
    assert form_of("Summarise what changed at the museum since May.", TODAY).form == "changed"
    assert form_of("Why was the fare changed in May?", TODAY).form == "why"
