"""Figures as inline SVG: drawn by matplotlib, with the colours of the page's light or dark
scheme.
"""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# placeholder colours that figures are drawn in; each is replaced by a CSS variable of the page
INK, FAINT = "#010101", "#020202"
SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
_VARIABLES = {
    INK: "--ink",
    FAINT: "--faint",
    **{colour: f"--s{index}" for index, colour in enumerate(SERIES, 1)},
}
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
# removed from each SVG: metadata, styles that would apply to the whole page, fonts, ids that other
# figures have too
_UNWANTED = (
    re.compile(r"<metadata>.*?</metadata>", re.DOTALL),
    re.compile(r"<style.*?</style>", re.DOTALL),
    re.compile(r"font-family: [^;]*;"),
    re.compile(r'(?<=<g) id="[^"]*"'),
)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg(draw: Callable[["Figure"], None], *, name: str, title: str) -> Markup:
    """Draw into an empty figure, 5.2 × 3.2 inches, and return it as inline SVG.

    Screen readers read `title`. `name` makes its ids unique in the page. Equal figures give equal
    text.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=_NO_METADATA)

    # 1. drop the XML header and what would reach beyond the figure
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for unwanted in _UNWANTED:
        text = unwanted.sub("", text)
    # 2. colours of the page
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # 3. an opening tag with the title, which scales with the page
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg role="img" aria-labelledby="{name}-title" {box[0] if box else ""}>'
    return Markup(  # noqa: S704
        opening + f'<title id="{name}-title">{escape(title)}</title>' + text[text.index(">") + 1 :]
    )
