"""Figures as SVG inside the page: drawn by matplotlib, their colours left to the page's light or dark scheme."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# stand-ins that the picture is drawn in, each for a CSS variable of the page
INK, FAINT = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
_VARIABLES = {INK: "--ink", FAINT: "--faint", **{colour: f"--s{place}" for place, colour in enumerate(SERIES, 1)}}
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": FAINT,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a $ is a $
    "xtick.color": INK,
    "ytick.color": INK,
}
# what would reach beyond the picture: a style for the whole page, fonts of its own, ids that every picture has
_UNWANTED = (
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"<style.*?</style>", re.DOTALL),
    re.compile(r"font-family: [^;]*;"),
    re.compile(r'(?<=<g) id="[^"]*"'),
)
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg(draw: Callable[["Figure"], None], *, name: str, title: str, height: float = 3.2) -> Markup:
    """What `draw` puts into an empty figure of 5.2 inches, as an SVG that says `title` to screen readers.

    `name` keeps its ids apart from those of the page's other pictures. The same figure gives the same text.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=_NOTHING)
    return _for_page(out.getvalue(), name=name, title=title)


def _for_page(text: str, *, name: str, title: str) -> Markup:
    text = text[text.index("<svg") :]
    for unwanted in _UNWANTED:
        text = unwanted.sub("", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg role="img" aria-labelledby="{name}-title" {box[0] if box else ""}>'
    return Markup(opening + f'<title id="{name}-title">{escape(title)}</title>' + text[text.index(">") + 1 :])  # noqa: S704
