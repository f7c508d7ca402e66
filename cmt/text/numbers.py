"""Numbers, quantities and dates of English text, as regular expressions."""

import re

# 1. dates
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
YEAR = r"\b(?:1\d|2[01])\d\d\b"
DATE = (
    rf"\b(?:\d{{1,2}} )?(?:{'|'.join(MONTHS)})(?: \d{{1,2}}\b)?(?:,? \d{{4}})?\b"
    rf"|{YEAR}"
)
"""5 March 2031, March 2031, March, 2031"""
TIME = (
    rf"\b\d{{1,2}}[:.]\d\d(?: ?[ap]\.?m\.?)?|\b\d{{1,2}} ?[ap]\.?m\b\.?|{DATE}"
    r"|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b(?: (?:to|and) \w+days?\b)?"
)
"""A time of day, a date or a weekday."""
_DECADE = (
    r"\b(?:the )?(?:early |mid-|late )?[12]\d\d0s\b"
    r"|\b\d{1,2}(?:th|st|nd|rd) century\b"
)
_ERA = r"(?: (?:BCE?|AD|CE)\b)"
_DAY = rf"(?:{DATE}){_ERA}?|\b\d{{1,4}}{_ERA}"
PERIOD = rf"{_DECADE}|(?:\bbetween )?(?:{_DAY})(?: (?:and|to) (?:{_DAY}))?"
"""A date with or without an era, a span of dates, a decade or a century."""

# 2. numbers
NUMBER = r"\b\d(?:[\d,.:]*\d)?\b"
_TO_NINETEEN = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
""".split()  # noqa: SIM905 - twenty quoted words read worse
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
VALUES = {word: value for value, word in enumerate(_TO_NINETEEN)}
VALUES |= {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
"""Number words and their values."""
COMPOUND = re.compile(
    rf"\b(?P<tens>{'|'.join(_TENS)})[ -](?P<ones>{'|'.join(_TO_NINETEEN[1:10])})\b", re.IGNORECASE
)
"""A number of two words, such as twenty-five."""
_SPELLED = (
    rf"\b(?i:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_TO_NINETEEN[1:10])}))?"
    rf"|{'|'.join(_TO_NINETEEN[2:])})\b"
)  # "one" is mostly a pronoun
_MULTIPLE = "hundred|thousand|million|billion|trillion"
_DIMENSIONS = {
    "share": "percent",
    "money": "euro dollar pound cent crown franc yen rupee peso",
    "length": "km mile kilometer kilometre meter metre foot feet inch inches",
    "area": "acre hectare",
    "weight": "kg kilogram ton tonne",
    "volume": "liter litre gallon barrel",
    "temperature": "degree °C",
    "voltage": "volt",
    "power": "watt megawatt",
    "duration": "second minute hour day week month year decade",
}
_UNIT = rf"(?:{'|'.join(' '.join(_DIMENSIONS.values()).split())})"
CURRENCY = rf"(?:{_DIMENSIONS['money'].replace(' ', '|')})"
QUANTITY = (
    rf"(?:[$£€] ?)?(?:{NUMBER}|{_SPELLED}(?!-))(?:[- ]?%| (?:{_MULTIPLE})\b)*"
    rf"(?: {_UNIT}s?\b)?"
)
"""A number with the currency, multiple and unit that a question asks for."""
MEASURED = re.compile(
    rf"(?:\d|{_SPELLED}|\b(?i:{_MULTIPLE}))"
    rf"(?:(?P<sign>%)|[ -](?P<unit>{_MULTIPLE}|{_UNIT})s?\b)"
)
"""The end of a number and its unit, which a quote must not separate."""


_ENDING_UNIT = re.compile(rf" ({_UNIT})s?$")


def dimension(quantity: str) -> str:
    """What the unit at the end of `quantity` measures, such as "money" of "3 million crowns"; ""
    without one.
    """
    unit = _ENDING_UNIT.search(quantity)
    if not unit:
        return ""
    return next(name for name, units in _DIMENSIONS.items() if unit[1] in units.split())


def value_of(text: str) -> float:
    """The first number in `text`, or 0: 1500.5 of "$1,500.50"."""
    number = re.search(r"\d[\d,]*(?:\.\d+)?", text)
    return float(number[0].replace(",", "")) if number else 0.0


def amount_of(text: str) -> float | None:
    """The first number in `text` with its multiples, 1,900,000 of "1.9 million crowns"; None
    without one.
    """
    found = re.search(QUANTITY, text)
    if not found:
        return None
    number = COMPOUND.sub(
        lambda two: str(VALUES[two["tens"].lower()] + VALUES[two["ones"].lower()]), found[0]
    )
    first = re.search(r"\d|[a-z]+", number, re.IGNORECASE)
    amount = value_of(number) or float(VALUES.get(first[0].lower(), 0) if first else 0)
    for power, multiple in zip((2, 3, 6, 9, 12), _MULTIPLE.split("|"), strict=True):
        amount *= 10**power if re.search(rf"\b{multiple}\b", number) else 1
    return amount


def unit_of(quantity: str) -> str:
    """The unit at the end of `quantity`, in the singular: "crown" of "3 million crowns"; "" without
    one.
    """
    unit = _ENDING_UNIT.search(quantity)
    return unit[1] if unit else ""
