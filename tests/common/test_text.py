import pytest

from cmt.common.text import MISSING, format_optional, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tof  text", "two lines of text"),
        ("\x1b[2J\x07gone\x9b1m", "[2Jgone1m"),
        ("shalom \u200f\u05e9\u05dc\u05d5\u05dd\u200f \U0001f469\u200d\U0001f680",) * 2,
        ("half a \ud83d pair", "half a  pair"),
        ("[bold]markup[/]", "[bold]markup[/]"),
        (12.5, "12.5"),
        (None, "None"),
        ("", ""),
    ],
)
def test_plain_text_is_one_line_without_control_characters(text: object, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("value", "spec", "shown"),
    [
        (None, "", MISSING),
        (None, ".1f", MISSING),
        (0.0, ".1f", "0.0"),
        (1234.5678, ",.3f", "1,234.568"),
        (0, "", "0"),
        ("", "", ""),
    ],
)
def test_only_none_is_shown_as_missing(value: object, spec: str, shown: str) -> None:
    assert format_optional(value, spec) == shown
