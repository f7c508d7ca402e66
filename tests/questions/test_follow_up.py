"""Follow-up questions, completed from the questions before them."""

import contextlib
import time

import pytest

from cmt.questions.follow_up import complete

LEVEL = "How full is the Lindow Mere reservoir?"
FARE = "What does a single ticket on the Saltby ferry cost?"
MAYOR = "Who is the mayor of Port Ellery?"
PRIZE = "Who won the Tern Prize?"
OSEI = "Marguerite Osei"


@pytest.mark.parametrize(
    ("first", "answer", "question", "completed"),
    [
        (LEVEL, "52 percent", "and in June?", "How full was the Lindow Mere reservoir in June?"),
        (
            LEVEL,
            "52 percent",
            "And last year?",
            "How full was the Lindow Mere reservoir last year?",
        ),
        (LEVEL, "52 percent", "In 2029?", "How full was the Lindow Mere reservoir in 2029?"),
        (LEVEL, "52 percent", "june?", "How full was the Lindow Mere reservoir in june?"),
        (
            FARE,
            "5 crowns",
            "on 5 May?",
            "What did a single ticket on the Saltby ferry cost on 5 May?",
        ),
        (
            "what is the base rate",
            "3 percent",
            "what about in april",
            "what was the base rate in april",
        ),
        (
            "what's the base rate now",
            "3 percent",
            "and a month ago",
            "what was the base rate a month ago",
        ),
        (
            "what was the base rate in May",
            "3 percent",
            "and in June",
            "what was the base rate in June",
        ),
        ("In May, what was the fare?", "7 crowns", "and in June?", "In June, what was the fare?"),
        ("What was the fare in May?", "7 crowns", "And now?", "What is the fare now?"),
        (
            "Who won the Spindle Classic?",
            "Kit Moss",
            "And last year?",
            "Who won the Spindle Classic last year?",
        ),
        (
            "How many beds has St Aldith got?",
            "365",
            "and in april",
            "How many beds has St Aldith got in april?",
        ),
    ],
)
def test_a_time_replaces_that_of_the_question_before_or_is_added(
    first: str, answer: str, question: str, completed: str
) -> None:
    assert complete(question, [(first, answer)]) == completed


@pytest.mark.parametrize(
    ("first", "answer", "question", "completed"),
    [
        (MAYOR, OSEI, "And before her?", f"Who was the mayor of Port Ellery before {OSEI}?"),
        (MAYOR, OSEI, "who was it before", f"Who was the mayor of Port Ellery before {OSEI}?"),
        (MAYOR, OSEI, "And before Osei?", "Who was the mayor of Port Ellery before Osei?"),
        (
            f"Who was the mayor of Port Ellery before {OSEI}?",
            "Tobias Wren",
            "And before him?",
            "Who was the mayor of Port Ellery before Tobias Wren?",
        ),
        (
            "who runs crumb & kettle now",
            "Samir Bello",
            "and before him",
            "who ran crumb & kettle before Samir Bello",
        ),
        (
            "Who coaches the Rovers?",
            "Maren Toft",
            "and previously?",
            "Who coached the Rovers before Maren Toft?",
        ),
        (
            FARE,
            "5 crowns",
            "and before that?",
            "What did a single ticket on the Saltby ferry cost before 5 crowns?",
        ),
        (MAYOR, OSEI, "since when?", f"Since when has {OSEI} been the mayor of Port Ellery?"),
        (MAYOR, OSEI, "How long?", f"How long has {OSEI} been the mayor of Port Ellery?"),
        (
            "what is the base rate",
            "3.6 percent",
            "since when",
            "since when has the base rate been 3.6 percent",
        ),
        (
            LEVEL,
            "52 percent",
            "Since when?",
            "Since when has the Lindow Mere reservoir been 52 percent full?",
        ),
        (
            FARE,
            "5 crowns",
            "And since when?",
            "Since when does a single ticket on the Saltby ferry cost 5 crowns?",
        ),
        (
            "How many beds does the hospital have?",
            "365",
            "since when?",
            "Since when does the hospital have 365 beds?",
        ),
        ("Is the bridge open?", "yes", "until when?", "Until when is the bridge open?"),
        (
            "Who runs the ferry?",
            "Northline",
            "since when?",
            "Since when has Northline run the ferry?",
        ),
    ],
)
def test_before_and_since_ask_about_the_answer(
    first: str, answer: str, question: str, completed: str
) -> None:
    assert complete(question, [(first, answer)]) == completed


@pytest.mark.parametrize(
    ("first", "question", "completed"),
    [
        (
            "what's the toll for a car on the swing bridge",
            "and motorcycles",
            "what's the toll for motorcycles on the swing bridge",
        ),
        ("What does the Basic plan cost?", "and the Team plan?", "What does the Team plan cost?"),
        (
            "What is the price for the Basic plan?",
            "and for the Team plan?",
            "What is the price for the Team plan?",
        ),
        ("What is the price?", "and for the Team plan?", "What is the price for the Team plan?"),
        (
            "How many people live in Port Ellery?",
            "and in Saltby?",
            "How many people live in Saltby?",
        ),
        ("How many people live in Port Ellery?", "and Saltby?", "How many people live in Saltby?"),
        (FARE, "and a return ticket?", "What does a return ticket on the Saltby ferry cost?"),
        (MAYOR, "And the deputy mayor?", "Who is the deputy mayor of Port Ellery?"),
        (
            "How many beds does the hospital have?",
            "and doctors?",
            "How many doctors does the hospital have?",
        ),
        (
            "Is the museum open on Mondays?",
            "What about on Sundays?",
            "Is the museum open on Sundays?",
        ),
        ("Who coaches Dunmarrow Rovers?", "how about Saltby Town?", "Who coaches Saltby Town?"),
    ],
)
def test_another_subject_replaces_that_of_its_kind(
    first: str, question: str, completed: str
) -> None:
    assert complete(question, [(first, "")]) == completed


@pytest.mark.parametrize(
    ("first", "answer", "question", "completed"),
    [
        (MAYOR, OSEI, "how old is she", f"how old is {OSEI}"),
        (MAYOR, OSEI, "Who is her husband?", f"Who is {OSEI}'s husband?"),
        (MAYOR, OSEI, "Who elected her?", f"Who elected {OSEI}?"),
        (
            "Where is Bessie the whale?",
            "near the Farrow Banks",
            "Where was she in January?",
            "Where was Bessie the whale in January?",
        ),
        (
            "what is the base rate of the reserve bank",
            "3.6 percent",
            "what was it in january",
            "what was the base rate of the reserve bank in january",
        ),
        (
            "What does the new night bus from Saltby cost?",
            "3 crowns",
            "Who runs it?",
            "Who runs the new night bus from Saltby?",
        ),
        (
            "What was stolen from the Bishop's Garden in Highcombe?",
            "Bronze otter sawn off its rock in the Bishop's Garden",
            "Who made it?",
            "Who made what was stolen from the Bishop's Garden in Highcombe?",
        ),
        (
            "when is the phone ban starting",
            "6 October",
            "why did the judges stop it in june",
            "why did the judges stop the phone ban in june",
        ),
        (
            "who manages the granite quarry now",
            "Rolf Tennant",
            "what does he want to ship by christmas",
            "what does Rolf Tennant want to ship by christmas",
        ),
        (
            "Is the Ellery Swing Bridge open?",
            "",
            "When was it built?",
            "When was the Ellery Swing Bridge built?",
        ),
        (
            "Who runs the Saltby ferry?",
            "Northline",
            "What does it cost?",
            "What does the Saltby ferry cost?",
        ),
        (
            "Which company runs the Saltby ferry?",
            "Northline",
            "Where is it based?",
            "Where is Northline based?",
        ),
        (
            PRIZE,
            "Naomi Feld",
            "Did she win it in May?",
            "Did Naomi Feld win the Tern Prize in May?",
        ),
        (
            "Who leads the Corvale Choir?",
            "Ada Moss",
            "How many singers does it have?",
            "How many singers does the Corvale Choir have?",
        ),
        (
            "Which two players left Rovers?",
            "Moss and Vell",
            "Where are they now?",
            "Where are Moss and Vell now?",
        ),
        (
            "Where was the bronze otter found?",
            "in Saltby",
            "Who lives there?",
            "Who lives in Saltby?",
        ),
    ],
)
def test_a_pronoun_is_replaced_by_the_answer_or_the_subject(
    first: str, answer: str, question: str, completed: str
) -> None:
    assert complete(question, [(first, answer)]) == completed


@pytest.mark.parametrize(
    ("first", "answer", "question", "completed"),
    [
        (
            PRIZE,
            "Naomi Feld",
            "With which book?",
            "With which book did Naomi Feld win the Tern Prize?",
        ),
        (PRIZE, "Naomi Feld", "why?", "Why did Naomi Feld win the Tern Prize?"),
        (
            "Who painted the quay?",
            "Ada Moss",
            "In which town?",
            "In which town did Ada Moss paint the quay?",
        ),
        ("Did the fare rise?", "yes", "By how much?", "By how much did the fare rise?"),
        ("When was the otter sold?", "in May", "And to whom?", "To whom was the otter sold?"),
        (FARE, "5 crowns", "why?", "Why does a single ticket on the Saltby ferry cost 5 crowns?"),
        ("Is the bridge closed?", "yes", "And why?", "Why is the bridge closed?"),
    ],
)
def test_an_asked_part_is_asked_of_the_statement_before(
    first: str, answer: str, question: str, completed: str
) -> None:
    assert complete(question, [(first, answer)]) == completed


def test_a_chain_is_completed_question_by_question() -> None:
    before = [(MAYOR, OSEI), ("and before her?", "Tobias Wren"), ("How old is he?", "61")]
    assert complete("Who is his wife?", before) == "Who is Tobias Wren's wife?"
    before = [(LEVEL, "52 percent"), ("and in June?", "48 percent")]
    assert complete("and in July?", before) == "How full was the Lindow Mere reservoir in July?"


@pytest.mark.parametrize(
    "question",
    [
        "Who won?",
        "ferry fare",
        "Base rate on 1 June?",
        "what time is it now",
        "How cold was it at Fallow Top?",
        "Is it true that the bridge is closed?",
        "How long does it take to cross the channel?",
        "When did Osei say that she would resign?",
        "After Calloway resigned, who took over from her?",
        "What did the council decide before it met the union?",
        "And who is the captain of the Rovers?",
        "How many people are there in Saltby?",
        "Since when does the ferry cost 5 crowns?",
        "captain before larsen",
        "Tell me a joke about seagulls.",
        'what\'s 100% of "it"?',
        "Who sold the Saltby ferry to its captain?",
        "?",
    ],
)
def test_a_complete_question_stays_word_for_word(question: str) -> None:
    assert complete(question, []) == question
    assert complete(question, [(MAYOR, OSEI), (FARE, "5 crowns")]) == question


@pytest.mark.parametrize(
    "question",
    ["and in June?", "since when?", "And before her?", "and motorcycles", "for the Team plan?"]
    + ["With which book?", "why?", "who is he?", "what was it in january", "Who runs it?"],
)
def test_a_follow_up_without_a_question_before_it_is_incomplete(question: str) -> None:
    with pytest.raises(ValueError, match="ask it in full"):
        complete(question, [])


def test_nothing_continues_an_incomplete_question() -> None:
    with pytest.raises(ValueError, match="ask it in full"):
        complete("Why?", [(MAYOR, OSEI), ("x " * 200, ""), ("How old is she?", "61")])


def test_what_the_question_before_does_not_have_is_incomplete() -> None:
    with pytest.raises(ValueError, match="ask it in full"):
        complete("and before her?", [(MAYOR, "")])
    with pytest.raises(ValueError, match="ask it in full"):
        complete("how old is she", [(LEVEL, "52 percent")])
    # more words than a follow-up has can be answered as they are
    question = "what does he want to ship by christmas"
    assert complete(question, [(LEVEL, "52 percent")]) == question


def test_long_texts_are_no_context_and_cost_nothing() -> None:
    began = time.perf_counter()
    for text in ("and a " * 20_000, "who is the " * 10_000, "it " * 30_000):
        assert complete(text, [(text, text), (MAYOR, text)]) == text
        with pytest.raises(ValueError, match="ask it in full"):
            complete("and before her?", [(text, text)] * 100)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "unit", ["a", "a ", "A", "A ", "the ", "who ", "it is ", "and ", ".", "1 "]
)
def test_no_short_text_takes_long(unit: str) -> None:
    text = (unit * 300)[:280]
    began = time.perf_counter()
    for question in (text, f"and {text}\0", f"for the {text}\0", f"who is {text}\0"):
        for first in (MAYOR, text):
            with contextlib.suppress(ValueError):
                complete(question, [(first, text)])
            with contextlib.suppress(ValueError):
                complete("and for a car?", [(question, text)])
    assert time.perf_counter() - began < 0.5
