"""Inline SVG: colours of the page, repeatable text, unique ids."""

import re
from typing import Any

from cmt.report.svg import SERIES, svg


def drawn(name: str) -> str:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 3], color=SERIES[0], marker="o", label="<b>$x$ & co")
        axes.grid()
        axes.legend()

    return str(svg(draw, name=name, title='A "title" <i>'))


def test_a_figure_has_the_colours_of_the_page() -> None:
    text = drawn("one")
    assert not re.search(r"#[0-9a-f]{6}|black|white", text)
    assert {"var(--ink)", "var(--faint)", "var(--s1)"} <= set(re.findall(r"var\(--\w+\)", text))
    assert "&lt;b&gt;$x$ &amp; co" in text
    assert "<style" not in text
    assert '<title id="one-title">A &#34;title&#34; &lt;i&gt;</title>' in text


def test_figures_are_repeatable_and_share_no_ids() -> None:
    assert drawn("one") == drawn("one")
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(name))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]
