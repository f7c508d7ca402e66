"""Ends of sentences in English text."""

import re

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
INITIAL = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|Jr)\.$"
)  # a full stop that ends no sentence
END_MARK = re.compile(
    r"(?P<word>\w+)\W?(?P<mark>[.!?])[\"”’)\]]*(?=\s+[\"“‘(\[]*(?P<next>[^\W\d_]))"
)
"""A sentence end with the word before it and the first letter behind it."""
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr st ste mt mts ft prof rev hon pres gov sen rep gen col maj lt capt cmdr adm brig sgt jr sr vs no
    """.split()  # noqa: SIM905 - thirty quoted words read worse
)
