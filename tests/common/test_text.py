import pytest

from cmt.common.text import plain


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
