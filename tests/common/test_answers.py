import pytest

from cmt.common.answers import normalise_answer, same_value


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Port of Ellery.", "port of ellery"),
        ("an apple, a pear and THE plum", "apple pear and plum"),
        ("theatre anthem area", "theatre anthem area"),
        ("U.S.A.", "usa"),
        ("rock-and-roll", "rockandroll"),
        ("$1,200.50", "120050"),
        ("a-ha", "aha"),
        ("don't", "dont"),
        ("\tnew\n line ", "new line"),
        ("“Łódź” – ÉCLAIR", "“łódź” – éclair"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalisation_removes_case_punctuation_articles_and_extra_spaces(text: str, normalised: str) -> None:
    assert normalise_answer(text) == normalised


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
