import pytest

from cmt.text.answers import same_value


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
