"""Names in English text, as regular expressions."""

import re

from cmt.text.numbers import YEAR

NAME = r"\b[A-Z][\w'’-]*[a-z](?: [A-Z][\w'’-]+)+|(?<=[a-z,;] )[A-Z][\w'’-]+"
"""Several capitalised words, or one inside a sentence."""
NAME_WORD = r"[A-Z][\w-]*(?:['’](?!s\b)[\w-]+)?"  # O'Neill, and Moss in Moss's
LONG_NAME = (
    rf"\b(?:[A-Z]\.|{NAME_WORD}(?<=\w\w))"
    rf"(?: (?:(?:of|of the|de|von|van|the (?=Great|Elder)) )?(?:[A-Z]\.|{NAME_WORD}))+"
    rf"|(?<=[\w,;(] )(?<![.!?] ){NAME_WORD}|(?<=\(){NAME_WORD}"
)  # as NAME, with initials and particles
NAME_OR_YEAR = re.compile(
    rf"(?<=[a-z,] )[A-Z][\w.-]*\w(?: (?:(?:of|the|de|la|von|van) ){{0,2}}[A-Z][\w.-]*\w)*|{YEAR}"
)
"""Capitalised words inside a question, with particles; or a year."""
NAMES_AND_NUMBERS = re.compile(r"(?<!^)\b(?:[A-Z]\w+|\d\w*)\b")
"""Single capitalised words and numbers, except for the first word."""
INNER_NAME = re.compile(
    r"(?<=[\w,;] )[A-Z][^\W\d_]{2,}"
)  # single capitalised words inside a sentence
