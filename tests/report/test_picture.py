"""Inline pictures: one for each colour scheme, repeatable, with a title for screen readers."""

from typing import Any

from cmt.report._picture import SERIES, picture
from tests.helpers.reports import ParsedPage


def drawn() -> str:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 3], color=SERIES[0], marker="o", label="<b>$x$ & co")
        axes.grid()
        axes.legend()

    return str(picture(draw, title='A "title" <i>'))


def test_a_figure_is_drawn_once_for_each_scheme() -> None:
    parsed = ParsedPage(drawn())
    assert parsed.elements == {"picture": 1, "source": 1, "img": 1}
    assert parsed.values("media") == ["(prefers-color-scheme: dark)"]
    assert parsed.values("alt") == ['A "title" <i>']
    [dark], [light] = parsed.values("srcset"), parsed.values("src")
    assert dark != light
    assert dark.startswith("data:image/png;base64,")


def test_equal_figures_are_equal_text() -> None:
    assert drawn() == drawn()
