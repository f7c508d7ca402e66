"""Names of several words and of one, and words of names."""

import re

import pytest

from cmt.text import names

TEXT = (
    "On 5 March 2031 Ada O'Neill of Port Ellery paid J. H. Moss's fee (Saltby) in Łódź, "
    "for a Vell-Moss boat, a F-16 and a Dunmarrow-built one."
)
FOUND = [
    "Ada O'Neill of Port Ellery",
    "J. H. Moss",
    "Saltby",
    "Łódź",
    "Vell-Moss",
    "F-16",
    "Dunmarrow",
]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (names.NAME, ["March", *FOUND]),
        (names.INNER_NAME, ["March", *FOUND]),
        (names.NAME_OR_YEAR, ["March", "2031", *FOUND]),
    ],
    ids=["name", "inner", "or year"],
)
def test_a_name_is_found_as_a_whole(pattern: str | re.Pattern[str], found: list[str]) -> None:
    assert [match[0] for match in re.finditer(pattern, TEXT)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Who is the mayor of Port Ellery?", ["Port", "Ellery"]),
        ("Moss resigned. The council of Saltby met.", ["Saltby"]),
        ("“The ferry to Ellery is late,” Dr. Moss said.", ["Ellery", "Dr", "Moss"]),
        ("What did the UN and Malcolm X say?", ["UN", "Malcolm"]),
        ("who is she?", []),
        ("", []),
    ],
)
def test_capitalised_words_are_names_unless_they_begin_a_sentence(
    text: str, found: list[str]
) -> None:
    assert names.name_words(text) == found


@pytest.mark.parametrize(
    ("text", "other", "shared"),
    [
        ("Wales defender Oren Pell signed.", "OREN PELL JOINS SALTBY TOWN", ["Oren Pell"]),
        ("Pell loves life at Saltby.", "Oren Pell, of Dunmarrow, has signed.", ["Pell"]),
        ("The Bank of Tarn rose.", "It was the Bank of Ellery.", ["Bank"]),
        ("No name here.", "None there.", []),
    ],
)
def test_shared_names_are_the_longest_parts_that_both_texts_have(
    text: str, other: str, shared: list[str]
) -> None:
    assert [name for name in names.shared_names(text, other) if name.istitle()] == shared
