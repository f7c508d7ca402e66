"""Numbers, quantities and dates of English text, as regular expressions."""

import re

# 1. dates
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
YEAR = r"\b1\d{3}\b|\b20\d\d\b"
DATE = rf"\b(?:\d{{1,2}} )?(?:{'|'.join(MONTHS)})(?: \d{{1,2}}\b)?(?:,? \d{{4}})?\b|\b[12]\d{{3}}\b"
"""5 March 2031, March 2031, March, 2031"""
TIME = (
    rf"\b\d{{1,2}}[:.]\d\d(?: ?[ap]\.?m\.?)?|\b\d{{1,2}} ?[ap]\.?m\b\.?|{DATE}"
    r"|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b(?: (?:to|and) \w+days?\b)?"
)  # a time of day, a date or a weekday
_DECADE = r"\b(?:the )?(?:early |mid-|late )?[12]\d\d0s\b|\b\d{1,2}(?:th|st|nd|rd) century\b"
_ERA = r"(?: (?:BCE?|AD|CE)\b)"
_DAY = rf"(?:{DATE}){_ERA}?|\b\d{{1,4}}{_ERA}"
PERIOD = rf"{_DECADE}|(?:\bbetween )?(?:{_DAY})(?: (?:and|to) (?:{_DAY}))?"
"""A date with or without an era, a span of dates, a decade or a century."""

# 2. numbers
NUMBER = r"\b\d(?:[\d,.:]*\d)?\b"
DECIMAL = re.compile(r"\d[\d,]*(?:\.\d+)?")
_NUMBER_WORD = r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety)\b(?!-)"
_UNIT = "years?|months?|weeks?|days?|hours?|minutes?|km|kilomet(?:re|er)s|miles|met(?:re|er)s|feet|°C|tonnes|tons"
QUANTITY = (
    rf"(?:[$£€] ?)?(?:{NUMBER}|{_NUMBER_WORD})(?:-?%| ?%| percent\b| (?:million|billion|trillion|thousand|hundred)\b)*"
    rf"(?: (?:{_UNIT}))?"
)  # a number with the currency, multiple and unit that a question asks for
_MEASURES = """
    percent hundred thousand million billion trillion euro dollar pound cent crown franc yen rupee peso km mile
    kilometer kilometre meter metre foot feet inch inches acre hectare kg kilogram ton tonne liter litre gallon
    barrel degree volt watt megawatt second minute hour day week month year decade
""".split()  # noqa: SIM905 - fifty quoted words read worse
_COUNT = r"(?:\d|\b(?i:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion))"
MEASURED = re.compile(rf"{_COUNT}(?:(?P<sign>%)|[ -](?P<unit>{'|'.join(_MEASURES)})s?\b)")
"""The end of a number and its unit, which a quote must not separate."""
