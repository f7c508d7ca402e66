import re

import pytest

from cmt.text import names

TEXT = (
    "On 5 March 2031 Ada O'Neill of Port Ellery paid 1,200.50 crowns, 30% more than in the 1990s, "
    "at 3 km."
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (names.NAME, ["Ada O'Neill", "Port Ellery"]),
        (names.LONG_NAME, ["March", "Ada O'Neill of Port Ellery"]),
        (names.NAME_OR_YEAR, ["2031", "Port Ellery"]),
    ],
)
def test_a_rule_finds_its_names(pattern: str | re.Pattern[str], found: list[str]) -> None:
    assert [match[0] for match in re.finditer(pattern, TEXT)] == found
