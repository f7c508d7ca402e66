"""Names of questions in documents: units, other forms, dates, and questions without capitals."""

from datetime import date

import pytest

from cmt.text.question_names import find_names, one_typo

MAYOR = "Town hall\nMarguerite Osei, the mayor of Port Ellery, opened the ferry to Saltby."


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("Who is the mayor of Port Ellery?", MAYOR),
        ("What did Port Ellery's mayor open?", MAYOR),
        ("Which ferry did Mayor Osei open?", MAYOR),
        ("Marguerite Osei runs which town?", MAYOR),
        ("Port Ellery has which mayor?", MAYOR),
        ("What did the UN decide?", "The United Nations met in Geneva."),
        ("What did the United Nations decide?", "The UN met in Geneva."),
        ("Who leads the U.N. mission?", "The UN mission has a new leader."),
        ("Who leads the World Health Organization?", "A new leader for the WHO."),
        ("Who governs France?", "The French president spoke."),
        ("Who is the Italian champion?", "The champion of Italy won."),
        ("Who coaches the Swiss team?", "Switzerland has a new coach."),
        ("Who rules Mongolia?", "The Mongolian premier spoke."),
        ("Which Corvaleans voted?", "In Corvale people voted."),
        ("How old is Beyoncé?", "Beyonce is forty."),
        ("Who is St. John's rector?", "The rector of Saint John preached."),
        ("Who are the 25 members?", "The twenty-five members met."),
        ("Who got 1,500 crowns?", "He got 1500 crowns."),
        ("Who sang in the 1990s?", "They sang in 1994."),
        ("Who came 21st?", "She came twenty-first, at number 21."),
        ("What happened in the 19th century?", "Railways spread."),
        ("Who chose 3 of them?", "She took some."),
        ("Before Islam, what was built?", "Islam came late."),
        ("who is the mayor of port ellery?", MAYOR),
    ],
)
def test_a_name_in_another_form_is_found(question: str, document: str) -> None:
    names = find_names(question, document)
    assert not names.missing and not names.doubtful


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("Who is the mayor of Paris?", ("Paris",)),
        ("Who is the mayor of Port Aldery?", ("Port Aldery",)),
        ("Who is the president of the Port Authority of Lagos?", ("Port Authority", "Lagos")),
        ("Who was mayor of Port Ellery in 1987?", ("1987",)),
        ("Did Marguerite Osei visit Greta Hindmarsh?", ("Greta Hindmarsh",)),
    ],
)
def test_another_name_is_missing(question: str, missing: tuple[str, ...]) -> None:
    names = find_names(question, MAYOR)
    assert names.missing == missing
    assert names.all_missing == (not names.found and not names.doubtful)


@pytest.mark.parametrize(
    "name",
    ["Greta Osei", "Margerite", "the TUC", "the 16 councillors", "the Town Council", "the Isle"],
)
def test_a_part_a_misspelling_an_acronym_and_a_kind_are_doubtful(name: str) -> None:
    names = find_names(f"What did {name} open?", MAYOR)
    assert names.doubtful and not names.missing


@pytest.mark.parametrize(
    "question",
    [
        "Hi! Could you please tell me who the mayor of Port Ellery is? Thanks a lot.",
        "Who is the mayor of Port Ellery? Regards, Tom",
        "Please Help: who is the mayor of Port Ellery?",
        "Hello Tom, who is the mayor of Port Ellery? Thank you! Ada",
        "Good morning, who opened the ferry to Saltby?\nKind regards\nAda Lund",
    ],
)
def test_a_greeting_and_a_closing_have_no_names(question: str) -> None:
    names = find_names(question, MAYOR)
    assert names.found and not names.missing and not names.doubtful


@pytest.mark.parametrize("word", ["Harbour", "Habrour", "Harbuor", "Harbor", "Harboour"])
def test_one_typo_in_a_long_word_is_doubtful_and_not_missing(word: str) -> None:
    names = find_names(f"When is the {word}fest?", "The harbourfest begins at nine.")
    assert not names.missing


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("dentist", "dentists", True),
        ("apointment", "appointment", True),
        ("harbuor", "harbour", True),
        ("harbour", "harbous", True),
        ("harbour", "harbour", True),
        ("harbour", "barbors", False),
        ("harbour", "harburro", False),
    ],
)
def test_one_typo(word: str, other: str, expected: bool) -> None:
    assert one_typo(word, other) == one_typo(other, word) == expected


def test_the_date_of_a_document_supplies_years_and_months() -> None:
    published, question = date(2031, 7, 3), "What did the mayor open in {}?"
    for when in ("2031", "July 2031", "June 2031"):
        assert not find_names(question.format(when), MAYOR, day=published).missing
    assert find_names(question.format("2030"), MAYOR, day=published).missing == ("2030",)
    assert not find_names(
        question.format("2030"), f"{MAYOR} It had opened last year, too.", day=published
    ).missing
    assert find_names(question.format("March 2031"), MAYOR, day=published).missing == ("March",)


def test_in_lower_case_the_capitals_of_other_texts_show_the_names() -> None:
    question = "who is the mayor of dunmarrow?"
    assert not any(find_names(question, MAYOR))
    assert find_names(question, MAYOR, others=["The new mayor of Dunmarrow is Moss."]).missing == (
        "Dunmarrow",
    )


def test_a_question_without_names_lacks_none() -> None:
    assert not any(find_names("Who is the mayor?", MAYOR))
    assert not find_names("Who is the mayor?", MAYOR).all_missing
