"""Names, dates, numbers and sentence ends of English text, as regular expressions.

Question generation and quoting recognise the same thing by different rules, and scores depend on every rule.
"""

import re

# 1. dates
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
YEAR = r"\b1\d{3}\b|\b20\d\d\b"
DATE = rf"\b(?:\d{{1,2}} )?(?:{'|'.join(MONTHS)})(?: \d{{1,2}}\b)?(?:,? \d{{4}})?\b|\b[12]\d{{3}}\b"
"""5 March 2031, March 2031, March, 2031"""
_DECADE = r"\b(?:the )?(?:early |mid-|late )?[12]\d\d0s\b|\b\d{1,2}(?:th|st|nd|rd) century\b"
_ERA = r"(?: (?:BCE?|AD|CE)\b)"
_DAY = rf"(?:{DATE}){_ERA}?|\b\d{{1,4}}{_ERA}"
PERIOD = rf"{_DECADE}|(?:\bbetween )?(?:{_DAY})(?: (?:and|to) (?:{_DAY}))?"
"""A date with or without an era, a span of dates, a decade or a century."""

# 2. numbers
NUMBER = r"\b\d(?:[\d,.:]*\d)?\b"
DECIMAL = re.compile(r"\d[\d,]*(?:\.\d+)?")
_NUMBER_WORD = (
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety)\b(?!-)"
)
_UNIT = "years?|months?|weeks?|days?|hours?|minutes?|km|kilomet(?:re|er)s|miles|met(?:re|er)s|feet|°C|tonnes|tons"
QUANTITY = (
    rf"(?:[$£€] ?)?(?:{NUMBER}|{_NUMBER_WORD})(?:-?%| ?%| percent\b| (?:million|billion|trillion|thousand|hundred)\b)*"
    rf"(?: (?:{_UNIT}))?"
)
"""A number with the currency, multiple and unit that a question asks for."""
_MEASURES = """
    percent hundred thousand million billion trillion euro dollar pound cent crown franc yen rupee peso km mile
    kilometer kilometre meter metre foot feet inch inches acre hectare kg kilogram ton tonne liter litre gallon
    barrel degree volt watt megawatt second minute hour day week month year decade
""".split()  # noqa: SIM905 - fifty quoted words read worse
_COUNT = r"(?:\d|\b(?i:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion))"
MEASURED = re.compile(rf"{_COUNT}(?:(?P<sign>%)|[ -](?P<unit>{'|'.join(_MEASURES)})s?\b)")
"""The end of a number and its unit, which a quote must not separate."""

# 3. names
NAME = r"\b[A-Z][\w'’-]*[a-z](?: [A-Z][\w'’-]+)+|(?<=[a-z,;] )[A-Z][\w'’-]+"
"""Several capitalised words, or one inside a sentence."""
NAME_WORD = r"[A-Z][\w-]*(?:['’](?!s\b)[\w-]+)?"
"""O'Neill, and Moss in Moss's"""
LONG_NAME = (
    rf"\b(?:[A-Z]\.|{NAME_WORD}(?<=\w\w))"
    rf"(?: (?:(?:of|of the|de|von|van|the (?=Great|Elder)) )?(?:[A-Z]\.|{NAME_WORD}))+"
    rf"|(?<=[\w,;(] )(?<![.!?] ){NAME_WORD}|(?<=\(){NAME_WORD}"
)
"""As NAME, with initials and particles."""
NAME_OR_YEAR = re.compile(rf"(?<=[a-z,] )[A-Z][\w.-]*\w(?: (?:(?:of|the|de|la|von|van) ){{0,2}}[A-Z][\w.-]*\w)*|{YEAR}")
"""Capitalised words inside a question, with particles; or a year."""
NAMES_AND_NUMBERS = re.compile(r"(?<!^)\b(?:[A-Z]\w+|\d\w*)\b")
"""Single capitalised words and numbers, except for the first word."""

# 4. sentences
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
INITIAL = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|Jr)\.$")
"""A full stop that ends no sentence."""
END_MARK = re.compile(r"(?P<word>\w+)\W?(?P<mark>[.!?])[\"”’)\]]*(?=\s+[\"“‘(\[]*(?P<next>[^\W\d_]))")
"""A sentence end with the word before it and the first letter behind it."""
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr st ste mt mts ft prof rev hon pres gov sen rep gen col maj lt capt cmdr adm brig sgt jr sr vs no
    """.split()  # noqa: SIM905 - thirty quoted words read worse
)
