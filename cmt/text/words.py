"""Words of English text."""

import re

STEM = 6  # letters that a word is cut to
FUNCTION_WORDS = frozenset(
    """
    a an the of in on at to for from by with and or is are was were be been did do does has have had what which
    who whom whose when where why how many much that this these those it its as into than then there their his her
    they he she you i we not no can could would will may
    """.split()  # noqa: SIM905 - eighty quoted words read worse
)


def stems(text: str) -> list[str]:
    """The words of `text` in lower case, cut to STEM letters, without function words."""
    return [word[:STEM] for word in re.findall(r"\w+", text.lower()) if word not in FUNCTION_WORDS]
