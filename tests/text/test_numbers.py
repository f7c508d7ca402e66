import re

import pytest

from cmt.text import numbers

TEXT = (
    "On 5 March 2031 Ada O'Neill of Port Ellery paid 1,200.50 crowns, 30% more than in the 1990s, "
    "at 3 km."
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (numbers.DATE, ["5 March 2031"]),
        (numbers.PERIOD, ["5 March 2031", "the 1990s"]),
        (numbers.YEAR, ["2031"]),
        (numbers.NUMBER, ["5", "2031", "1,200.50", "30", "3"]),
        (numbers.DECIMAL, ["5", "2031", "1,200.50", "30", "1990", "3"]),
        (numbers.QUANTITY, ["5", "2031", "1,200.50", "30%", "3 km"]),
        (numbers.MEASURED, ["0 crowns", "0%", "3 km"]),
    ],
)
def test_a_rule_finds_its_dates_or_numbers(
    pattern: str | re.Pattern[str], found: list[str]
) -> None:
    assert [match[0] for match in re.finditer(pattern, TEXT)] == found
