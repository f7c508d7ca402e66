import pytest

from cmt.text.answers import same_kind, same_value


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("7.5", "7.5 tonnes", True),
        ("Orrin Vale", "Orrin vale, by the quay", True),
        ("7", "7.5", False),
        ("8 crowns", "11 crowns", False),
        ("Monday", "Tuesday", False),
        ("", "6 crowns", False),
    ],
)
def test_a_value_with_more_words_is_the_same_value(one: str, other: str, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("8 crowns", "1.5 million crowns", True),
        ("8 crowns", "free", True),
        ("58 days", "two years", True),
        ("30", "27 percent", True),  # the unit may be missing
        ("31 tonnes", "4 crowns", False),
        ("1 September", "30", False),
        ("1 September", "Monday 6 October", True),
        ("Lena Fitch", "9", False),
        ("Lena Fitch", "the goalkeeper Otto", True),
    ],
)
def test_values_of_one_fact_are_of_one_kind(first: str, second: str, same: bool) -> None:
    assert same_kind(first, second) is same
    assert same_kind(second, first) is same
