"""Names, dates, numbers and sentence ends of English text, as regular expressions.

Question generation and quoting recognise the same thing by different rules, and scores depend on
every rule.
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

# 3. names
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

# 4. sentences
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

# 5. ways of telling a value
_WAYS = {
    "change": r"""
        now|from (?:today|tonight|this|now|yesterday|\w+day|\d)|new(?:ly)?|no longer|instead|replac\w+|
        succe(?:ed|ss)\w*|t[ao]kes? over|took over|taken over|bec[ao]mes?|as of|with (?:immediate )?effect|
        since (?:yesterday|\w+day|last|the)|rais\w+|risen|rose|cut|lower\w*|(?:up|down) from|increas\w*|reduc\w*|
        moved?|moves|extended|shorten\w*|currently|
        today|latest|any ?more|parted|elected|appointed|sworn|takes? charge|permanent\w*|for good|already|in force|
        came into|ha(?:s|ve) been|renamed|overtak\w*|beat(?:s|en)?|broke|record|sold|bought|acquir\w*
    """,
    "future": r"""
        will|shall|(?:is|are) to|to be|due to|set to|next (?:year|month|week|spring|summer|autumn|winter|season)|
        by (?:20[2-9]\d|the end)|in 20[3-9]\d|forecast\w*|expect\w*|predict\w*|project(?:s|ed|ion)|estimates?|likely|
        prospect\w*
    """,
    "condition": r"""
        if|unless|should (?:it|the|they|he|she|a|there|we|that)|provided|would|in case|otherwise|
        were (?:it|the|they) to|could|might|may yet
    """,
    "hearsay": r"""
        heard|hear|rumou?r\w*|whisper\w*|gossip|swears?|cousin|t(?:ells|old) me|they say|people say|
        word (?:is|has it)|talk of|apparently|supposedly|alleged\w*|claim\w*|reported(?:ly)?|speculat\w*|sources?|
        unconfirmed|said to|believed to|understood to|insist\w*|barber\w*|pub|bar|taxi|online|posts?|chat|writes
    """,
    "denial": r"""
        not|never|no longer|den(?:y|ies|ied|ial)|reject\w*|untrue|false|mistak\w*|wrong\w*|error|misprint\w*|
        thr(?:ew|own) out|voted (?:down|no|against)|against|called off|cancel\w*|abandon\w*|laid aside|shelved|
        withdr\w+|fell|defeat\w*|dropped|no truth|joke\w*|nonsense|correct(?:ed|ion|s)|invented|nothing changes|
        as (?:it|they) (?:is|are|was|were)|remains?|stays?|unchanged|still|contrary
    """,
    "past": r"""
        was|were|had|did|used to|once|former(?:ly)?|then|back in|remember\w*|recall\w*|late|died|dead|death|ago|
        old days|those days|years? (?:earlier|before)|first (?:opened|built)|under h(?:im|er)|until (?:18|19|20)\d\d|
        in (?:1[6-9]\d\d|20[01]\d)
    """,
    "memory": r"""
        anniversar\w*|obituar\w*|died|dead|death|funeral|buried|mourn\w*|remember\w*|recall\w*|reminisc\w*|memor\w*|
        nostalgi\w*|archive\w*|history|historical|album|exhibition|museum|century|decades?|(?:years|long) ago|
        old (?:photograph|bill|poster|ledger|map)s?|jubilee|birthday|retired|look(?:s|ing|ed)? back|
        in (?:his|her|those) days?|from our files
    """,
}
WAYS_OF_TELLING = {
    way: re.compile(
        rf"\b(?:{''.join(line.strip() for line in words.splitlines())})\b", re.IGNORECASE
    )
    for way, words in _WAYS.items()
}  # by which a text tells that a value is new, to come, conditional, heard, denied, past or remembered
