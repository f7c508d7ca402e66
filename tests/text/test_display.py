import pytest

from cmt.text.display import heading, plain, without_publisher


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


def test_a_heading_names_the_publisher_unless_that_is_only_a_file_or_a_key() -> None:
    assert heading("Kit on sale", "Saltby Rowers") == "Saltby Rowers: Kit on sale"
    for none in (None, "file:kit.md", "posts", "kit-shop.example"):
        assert heading("Kit on sale", none) == "Kit on sale"
    assert heading(None, "Saltby Rowers") == "Saltby Rowers"
    assert heading(None, None) == heading("", "file:kit.md") == ""


@pytest.mark.parametrize("title", ["Kit on sale", None])
@pytest.mark.parametrize("publisher", ["Saltby Rowers", "file:kit.md", None])
def test_a_memory_without_its_publisher_begins_with_the_title(
    title: str | None, publisher: str | None
) -> None:
    line = heading(title, publisher)
    memory = {
        "title": title,
        "source": publisher,
        "text": (f"{line}\n" if line else "") + "The shop opens.",
    }
    assert without_publisher(memory) == (f"{title}\n" if title else "") + "The shop opens."


def test_a_memory_with_another_first_line_or_without_text_is_unchanged() -> None:
    memory = {
        "title": "Kit on sale",
        "source": "Saltby Rowers",
        "text": "Kit on sale\nThe shop opens.",
    }
    assert without_publisher(memory) == memory["text"]
    assert without_publisher(memory | {"text": None}) == ""
