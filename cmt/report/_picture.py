"""Figures as inline PNG: drawn by matplotlib for the light and for the dark scheme of the page."""

import base64
import io
from collections.abc import Callable
from typing import Any

import matplotlib
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.figure import Figure

SERIES = ("C0", "C1", "C2", "C3", "C4", "C5")
"""The colours of the systems, which each scheme has its own of."""
FAINT = "0.55"
"""A grey that shows in both schemes."""
_DOTS_PER_INCH = 160
_STYLE = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": FAINT,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ is a $
}


def _scheme(ink: str, *series: str) -> dict[Any, Any]:
    """The style of a scheme: the colour of text, and those of SERIES."""
    names = ("axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    return _STYLE | dict.fromkeys(names, ink) | {"axes.prop_cycle": cycler(color=series)}


_LIGHT = _scheme("#1b1d22", "#0a5aa0", "#b4530a", "#6a707d", "#17733f", "#7445c9", "#a3225f")
_DARK = _scheme("#e8e9ed", "#6cb0f2", "#f3a35f", "#a5abb8", "#63cf93", "#bfa2f7", "#f08fb8")


def picture(draw: Callable[[Figure], None], *, title: str) -> Markup:
    """Draw into an empty figure, 5.2 × 3.2 inches, and return it as HTML.

    Screen readers read `title`. Equal figures give equal text.
    """
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_png(draw, _DARK)}">'
    light = f'<img alt="{escape(title)}" src="{_png(draw, _LIGHT)}">'
    return Markup(f"<picture>{dark}{light}</picture>")  # noqa: S704 - the title is escaped


def _png(draw: Callable[[Figure], None], style: dict[Any, Any]) -> str:
    """The address of a figure in `style`, which contains the figure."""
    out = io.BytesIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 3.2), dpi=_DOTS_PER_INCH, layout="constrained")
        draw(figure)
        # the version of matplotlib would change bytes
        figure.savefig(out, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
