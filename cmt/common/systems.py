"""How the compared systems are named and drawn: one table for plots and reports."""

from collections.abc import Mapping
from typing import NamedTuple


class SystemStyle(NamedTuple):
    """Label, colour and marker of a system; all three differ, so that lines can be told apart in
    grey as well.
    """

    label: str  # in the report and its tables
    short_label: str = ""  # in the PNG plots, which have less room
    colour: str = "#666666"  # on a white background
    # index of the colour in the report's palette, which has a light and a dark scheme
    series: int = 0
    marker: str = "o"


SYSTEM_STYLES: Mapping[str, SystemStyle] = {
    "cmt": SystemStyle("CMT memory", "CMT", "#0b5394", 0, "o"),
    "closed": SystemStyle("closed-book", "closed-book", "#666666", 2, "^"),
    "rag": SystemStyle("BM25-RAG, top 1", "RAG top-1", "#b45f06", 1, "s"),
    "full": SystemStyle("the right document"),
    "rag-bm25-1": SystemStyle("BM25-RAG, top 1"),
    "rag-bm25-3": SystemStyle("BM25-RAG, top 3"),
    "rag-dense-1": SystemStyle("dense RAG, top 1"),
    "rag-dense-3": SystemStyle("dense RAG, top 3"),
    "rag-hybrid-1": SystemStyle("hybrid RAG, top 1"),
    "rag-hybrid-3": SystemStyle("hybrid RAG, top 3"),
}  # by the name of the system in JSON; `rag` is what a round's evaluation calls `rag-bm25-1`

# system → score → value: em, em_prefix, f1, f1_low and f1_high in 0–100, recall in 0–1
ScoresBySystem = Mapping[str, Mapping[str, float | None]]

ROUND_SYSTEMS = ("cmt", "closed", "rag")  # that the evaluation of a round can have, in its order


def system_label(name: str) -> str:
    """The label of a system; an unknown one is called by its name."""
    return SYSTEM_STYLES[name].label if name in SYSTEM_STYLES else name
