import re

import pytest

from cmt.text import english

TEXT = "On 5 March 2031 Ada O'Neill of Port Ellery paid 1,200.50 crowns, 30% more than in the 1990s, at 3 km."


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (english.DATE, ["5 March 2031"]),
        (english.PERIOD, ["5 March 2031", "the 1990s"]),
        (english.YEAR, ["2031"]),
        (english.NUMBER, ["5", "2031", "1,200.50", "30", "3"]),
        (english.DECIMAL, ["5", "2031", "1,200.50", "30", "1990", "3"]),
        (english.QUANTITY, ["5", "2031", "1,200.50", "30%", "3 km"]),
        (english.MEASURED, ["0 crowns", "0%", "3 km"]),
        (english.NAME, ["Ada O'Neill", "Port Ellery"]),
        (english.LONG_NAME, ["March", "Ada O'Neill of Port Ellery"]),
        (english.NAME_OR_YEAR, ["2031", "Port Ellery"]),
    ],
)
def test_a_rule_finds_its_names_dates_or_numbers(
    pattern: str | re.Pattern[str], found: list[str]
) -> None:
    assert [match[0] for match in re.finditer(pattern, TEXT)] == found


def test_sentences_end_at_marks_and_lines_but_not_at_initials() -> None:
    assert english.SENTENCE_END.split("One. Two!\nThree") == ["One.", "Two!", "Three"]
    assert [bool(english.INITIAL.search(text)) for text in ("by J.", "Mr.", "the end.")] == [
        True,
        True,
        False,
    ]
    found = english.END_MARK.search("He met Dr. Moss.")
    assert found is not None and (found["word"], found["mark"], found["next"]) == ("Dr", ".", "M")
    assert found["word"].lower() in english.ABBREVIATIONS
