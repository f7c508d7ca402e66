"""Names and numbers of a question that a document lacks, by rules of English
(docs/method.md#names).

A question about Paris is not answered by a document about Port Ellery, however well the rest of it
fits.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from os.path import commonprefix
from typing import NamedTuple

from cmt.text.numbers import MONTHS
from cmt.text.words import STEM

SMALLEST_NUMBER = 13  # texts write or imply smaller numbers in many ways
MISSPELT = 0.8  # similarity of a name and its misspelling (`difflib`)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPENERS = _words("""
    i a an the of in on at to for from by with as if and or is are was were be do does did has have had can could will
    would may might should must what which who whom whose when where why how this that these those there not name
    after before during until since under over near between besides about according along among through within
    without today however other than while although because both each every give list it its he she they
""")  # words that begin a question or sentence and no name
_KINDS = _words("""
    mr mrs ms dr sir lord lady dame saint st president vice mayor king queen prince princess emperor pope bishop
    professor prof captain colonel general minister prime senator judge inspector detective sergeant councillor chief
    university college school academy institute church cathedral abbey street road avenue lane square bridge river lake
    sea bay ocean isle island islands mount mountain mountains valley city town village county state province district
    region republic kingdom empire port fort north south east west northern southern eastern western central upper
    lower new old great grand royal national international federal united public museum theatre theater gallery library
    hotel cape peninsula coast channel canal creek hill hills forest desert parish borough canton cantons quay pier
    harbour harbor lighthouse castle palace villa ferry house hall tower court hospital station airport park garden
    gardens stadium arena centre center market club society association company corporation works group inc ltd bank
    fund union party army navy air force police council committee board commission department ministry office agency
    service festival fair cup prize award medal league championship championships games open tour race series season
    act treaty law war battle revolution age period century day week award times news press radio post journal gazette
    herald tribune celsius fahrenheit english
""")  # words in names that tell what kind of thing is named, and not which one
_SAME = {
    **dict.fromkeys(["us", "usa", "american", "americans"], "america"),
    **dict.fromkeys(["uk", "british", "britons"], "britain"),
    **dict.fromkeys(["dutch", "holland"], "netherlands"),
    **dict.fromkeys(["scots", "scottish"], "scotland"),
    **dict.fromkeys(["danish", "danes"], "denmark"),
    **dict.fromkeys(["greek", "greeks"], "greece"),
    **dict.fromkeys(["polish", "poles"], "poland"),
    **dict.fromkeys(["roman", "romans"], "rome"),
    **{form: month[:3].lower() for month in MONTHS for form in (month.lower(), month[:3].lower())},
    **dict(
        french="france",
        spanish="spain",
        swiss="switzerland",
        welsh="wales",
        irish="ireland",
        st="saint",
        mt="mount",
    ),
}  # forms of one name that share too few letters
_ENDINGS = _words("""
    a e i o y s n es ia an ian ans ians ns ese ish ic er ers en al is ism ist ists ity i us os ean eans ary d r or
""") | {""}  # in which two forms of a name differ, such as Italy and Italian
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SMALL = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""".split()  # noqa: SIM905
_VALUES = {
    word: value
    for value, word in [*enumerate(_SMALL), *zip(range(20, 100, 10), _TENS, strict=True)]
}
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS)})[ -]({'|'.join(_SMALL[1:10])})\b", re.IGNORECASE)
_NUMBER = re.compile(r"(\d[\d.:]*)(?:st|nd|rd|th|s)?")
_CENTURY = re.compile(r"\b\d+(?:st|nd|rd|th)(?=(?:(?: and| or| to|,) \d+th)* centur)")
_WORD = re.compile(r"[^\W_]+(?:[.:]\d+)*")
_NAME = re.compile(r"(?<!\w)(?:[A-Z]\w*(?:[ -][A-Z]\w*)*|\d\w*(?:[.:]\d\w*)*)")
_LONG_NAME = re.compile(r"\b(?!The )[A-Z]\w*(?:(?: (?:of|the|and|for|de|&))*[ -][A-Z]\w*)+")
_PAST = re.compile(r"\b(?:last|previous|past|ago|earlier|before)\b")
_FUTURE = re.compile(r"\b(?:next|coming|will)\b")


class NamesFound(NamedTuple):
    """The names and numbers of a question, by what a document has of them."""

    found: tuple[str, ...]
    doubtful: tuple[str, ...]
    """The document has another spelling or a part of the name, or it may well tell of it in other
    words: acronyms, numbers other than years, and names such as "Town Council"."""
    missing: tuple[str, ...]

    @property
    def all_missing(self) -> bool:
        """Whether the question has names, and the document has none of them."""
        return bool(self.missing) and not self.found and not self.doubtful


NO_NAMES = NamesFound((), (), ())  # of a question without any


def find_names(
    question: str, document: str, *, day: date | None = None, others: Sequence[str] = ()
) -> NamesFound:
    """Look for the names and numbers of `question` in `document`: its text, title and publisher.

    `day`: the date of the document, which supplies a year and months. `others`: more texts that
    show by their capitals which words of a question in lower case are names.
    """
    text = _plain(document)
    words = _WORD.findall(text)
    forms = {*map(_form, words), *re.findall(r"\d+", text), *(_dated(text, day) if day else ())}
    initials = [re.sub(r"(?<=\w)[a-z]+|\W|\b[a-z]", "", name) for name in _LONG_NAME.findall(text)]
    joined = "".join(words).lower()
    capitalised = sorted({word for word in words if word[0].isupper()})

    def has(word: str) -> bool:
        if _form(word) in forms or (len(word) >= STEM and word.lower() in joined):
            return True
        if number := _NUMBER.fullmatch(word):  # the 1990s have 1994
            return word.endswith("0s") and any(
                len(form) == 4 and form[:3] == number[1][:3] for form in forms
            )
        short = word.rstrip("s")
        if short.isupper() and any(
            short == run or (len(short) > 2 and short in run) for run in initials
        ):
            return True
        return any(_related(word.lower(), other.lower()) for other in words)

    found, doubtful, missing = list[str](), list[str](), list[str]()
    for name in _names(_plain(question), [document, *others]):
        tells_which = [word for word in name if word.lower() not in _KINDS] or name
        present = [has(word) for word in tells_which]
        if all(present) or (len(name) > 1 and "".join(word[0] for word in name) in words):
            group = found
        elif any(present) or any(map(_unreliable, tells_which)):
            group = doubtful
        else:
            spellings = (
                get_close_matches(word, capitalised, 1, MISSPELT)
                for word in tells_which
                if len(word) > 4
            )
            group = doubtful if any(spellings) else missing
        group.append(" ".join(name))
    return NamesFound(tuple(found), tuple(doubtful), tuple(missing))


def _names(question: str, texts: Sequence[str]) -> Iterator[list[str]]:
    """The words of each name and number of a question."""

    def named(word: str) -> bool:
        """Whether the texts write a word with a capital inside their sentences, and never in lower
        case.
        """
        capital = re.compile(rf"(?<=[a-z,;] ){word.capitalize()}\b")
        return any(map(capital.search, texts)) and not any(
            re.search(rf"\b{word.lower()}\b", text) for text in texts
        )

    # 1. a question in lower case
    if not re.search(r"[A-Z]", question[1:]):
        words = (
            word for word in re.findall(r"[a-z]{3,}", question[1:]) if word not in _OPENERS | _KINDS
        )
        yield from ([word.capitalize()] for word in words if named(word))
    # 2. capitals and digits; the first word is a name only if the texts say so
    for match in _NAME.finditer(_CENTURY.sub("", question)):
        name = [word for word in _WORD.findall(match[0]) if len(word) > 1 or word.isdigit()]
        first = not question[: match.start()].strip("\"'“‘( ")
        if name and (
            name[0].lower() in _OPENERS
            or (first and name[0].isalpha() and len(name) == 1 and not named(name[0]))
        ):
            name = name[1:]
        number = _NUMBER.fullmatch(name[0]) if len(name) == 1 else None
        if name and not (number and number[1].isdigit() and int(number[1]) < SMALLEST_NUMBER):
            yield name


def _plain(text: str) -> str:
    """`text` without accents and possessives; U.S. as US, 1,500 as 1500, twenty-five as 25."""
    text = "".join(
        c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
    ).replace("’", "'")
    text = re.sub(r"(?<=[^\W\d])'s\b|(?<=s)'(?!\w)", ";", text)
    text = re.sub(r"(?<=\w)'(?=\w)|(?<=\d),(?=\d{3})", "", text)
    text = re.sub(
        r"\b(?:[A-Z]\.){2,}|\b[A-Z]\.[A-Z]\b", lambda match: match[0].replace(".", ""), text
    )
    text = re.sub(r"(\b[A-Z][a-z]{0,2})\.(?= [A-Z])", r"\1", text)
    text = text.replace("United States", "US").replace("United Kingdom", "UK")
    return _COMPOUND.sub(
        lambda match: str(_VALUES[match[1].lower()] + _VALUES[match[2].lower()]), text
    )


def _form(word: str) -> str:
    """A number as digits, a name of several forms as one of them, another word as its stem."""
    word = word.lower()
    if (number := _NUMBER.fullmatch(word)) and not word.endswith("0s"):
        return number[1]
    return str(_VALUES[word]) if word in _VALUES else _SAME.get(word, word)[:STEM]


def _related(word: str, other: str) -> bool:
    """Whether two words in lower case differ in their endings alone, after four letters at
    least.
    """
    shared = len(commonprefix([word, other]))
    return shared >= 4 and word[shared:] in _ENDINGS and other[shared:] in _ENDINGS


def _unreliable(word: str) -> bool:
    """Whether a text may tell of a word without using it: acronyms, numbers other than years, kinds
    of things.
    """
    if any(character.isdigit() for character in word):
        return not re.fullmatch(r"[12]\d{3}s?", word)
    return word.lower() in _KINDS or sum(map(str.isupper, word)) > 1


def _dated(text: str, day: date) -> Iterator[str]:
    """Forms of the year and months that a document of `day` may leave out."""
    yield str(day.year)
    yield from (str(day.year - 1) for _ in _PAST.findall(text)[:1])
    yield from (str(day.year + 1) for _ in _FUTURE.findall(text)[:1])
    yield from (MONTHS[(day.month + shift) % 12][:3].lower() for shift in (-2, -1, 0))
