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

from cmt.text.names import RUN, TITLE
from cmt.text.numbers import COMPOUND, MONTHS, VALUES
from cmt.text.words import STEM, is_function_word, stem, words

SMALLEST_NUMBER = 13  # texts write or imply smaller numbers in many ways
LONG = 7  # letters of a word from which a typo is told from another word
MISSPELT = 0.8  # similarity of a name and its misspelling (`difflib`)
_OPENERS = frozenset(["name", "give", "list", "today"])
"""Words that begin a question and no name, in addition to function words."""
_KINDS = frozenset(
    """
    mr mrs ms dr sir lord lady dame saint st president vice mayor king queen prince princess
    emperor pope bishop professor prof captain colonel general minister prime senator judge
    inspector detective sergeant councillor chief university college school academy institute
    church cathedral abbey street road avenue lane square bridge river lake sea bay ocean isle
    island islands mount mountain mountains valley city town village county state province
    district region republic kingdom empire port fort north south east west northern southern
    eastern western central upper lower new old great grand royal national international federal
    united public museum theatre theater gallery library hotel cape peninsula coast channel canal
    creek hill hills forest desert parish borough canton cantons quay pier harbour harbor
    lighthouse castle palace villa ferry house hall tower court hospital station airport park
    garden gardens stadium arena centre center market club society association company corporation
    works group inc ltd bank fund union party army navy air force police council committee board
    commission department ministry office agency service festival fair cup prize award medal
    league championship championships games open tour race series season act treaty law war battle
    revolution age period century day week award times news press radio post journal gazette
    herald tribune celsius fahrenheit english
    """.split()  # noqa: SIM905 - quoted words read worse
)  # words that say what kind of thing is named, and not which one
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
_ENDINGS = frozenset(
    """
    a e i o y s n es ia an ian ans ians ns ese ish ic er ers en al is ism ist ists ity i us os ean
    eans ary d r or
    """.split()  # noqa: SIM905 - quoted words read worse
) | {""}  # in which two forms of a name differ, such as Italy and Italian
_NUMBER = re.compile(r"(\d[\d.:]*)(?:st|nd|rd|th|s)?")
_CENTURY = re.compile(r"\b\d+(?:st|nd|rd|th)(?=(?:(?: and| or| to|,) \d+th)* centur)")
_NAME = re.compile(rf"{RUN}|(?<!\w)\d\w*(?:[.:]\d\w*)*")
_GREETING = re.compile(
    r"\s*(?:(?:Hi|Hello|Hey|Dear|Good (?:morning|afternoon|evening)|Please(?: help)?|Help|Sorry"
    r"|Excuse me|Quick question|Question)\b[^?!,:.\n]{0,30}[!,:.]+\s*)+",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?<=[?.!])\s*(?:Thanks|Thank you|Many thanks|Cheers|(?:Best |Kind |Warm )?regards|Best wishes"
    r"|Yours|Sincerely|Please help)\b.*\Z",
    re.IGNORECASE | re.DOTALL,
)
_PAST = re.compile(r"\b(?:last|previous|past|ago|earlier|before)\b")
_FUTURE = re.compile(r"\b(?:next|coming|will)\b")


class NamesFound(NamedTuple):
    """The names and numbers of a question, by what a document has of them."""

    found: tuple[str, ...]
    doubtful: tuple[str, ...]
    """The document has another spelling or a part of the name, or it may well mention it in other
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
    searched = _Document(_plain(document), day)
    found, doubtful, missing = list[str](), list[str](), list[str]()
    question = without_courtesy(question)
    for name in _names(_plain(question), [document, *others]):
        decisive = [word for word in name if word.lower() not in _KINDS] or name
        present = [searched.has(word) for word in decisive]
        if all(present) or searched.has_acronym(name):
            group = found
        elif any(present) or any(map(_unreliable, decisive)) or searched.has_misspelt(decisive):
            group = doubtful
        else:
            group = missing
        group.append(" ".join(name))
    return NamesFound(tuple(found), tuple(doubtful), tuple(missing))


def without_courtesy(question: str) -> str:
    """`question` without its greeting and closing, in which no name is asked for: "Hello Tom, …",
    "… Thanks a lot, Ada".
    """
    greeting = _GREETING.match(question)
    rest = question[greeting.end() :] if greeting else question
    return _CLOSING.sub("", rest) or question


class _Document:
    """The words of a document, in which names are looked up."""

    def __init__(self, text: str, day: date | None) -> None:
        self._words = words(text)
        self._forms = {*map(_form, self._words), *re.findall(r"\d+", text)}
        if day:
            self._forms.update(_dated(text, day))
        titles = TITLE.findall(text)
        self._acronyms = [re.sub(r"(?<=\w)[a-z]+|\W|\b[a-z]", "", title) for title in titles]
        self._joined = "".join(self._words).lower()

    def has(self, word: str) -> bool:
        """Whether the document has `word` in one of its forms.

        1. The same stem or number; a long word may be written as two.
        2. A decade is there with one of its years: the 1990s have 1994.
        3. An acronym is there with its name in full.
        4. Another ending: Italian and Italy.
        """
        if _form(word) in self._forms or (len(word) >= STEM and word.lower() in self._joined):
            return True
        if number := _NUMBER.fullmatch(word):
            decade = number[1][:3]
            years = (form for form in self._forms if len(form) == 4)
            return word.endswith("0s") and any(year[:3] == decade for year in years)
        short = word.rstrip("s")
        if short.isupper() and any(
            short == acronym or (len(short) > 2 and short in acronym) for acronym in self._acronyms
        ):
            return True
        return any(_related(word.lower(), other.lower()) for other in self._words)

    def has_acronym(self, name: Sequence[str]) -> bool:
        """Whether the document has the first letters of a name of several words."""
        return len(name) > 1 and "".join(word[0] for word in name) in self._words

    def has_misspelt(self, name: Sequence[str]) -> bool:
        """Whether the document has a capitalised word that is nearly a word of `name`, or any word
        that a typo makes of a long one.
        """
        capitalised = sorted({word for word in self._words if word[0].isupper()})
        if any(get_close_matches(word, capitalised, 1, MISSPELT) for word in name if len(word) > 4):
            return True
        long = {one.lower() for one in self._words if len(one) >= LONG and one.isalpha()}
        return any(
            one_typo(word.lower(), other) for word in name if len(word) >= LONG for other in long
        )


def _names(question: str, texts: Sequence[str]) -> Iterator[list[str]]:
    """The words of each name and number of a question."""
    if not re.search(r"[A-Z]", question[1:]):
        yield from _lower_case_names(question, texts)
    for match in _NAME.finditer(_CENTURY.sub("", question)):
        name = [word for word in words(match[0]) if len(word) > 1 or word.isdigit()]
        is_first = not question[: match.start()].strip("\"'“‘( ")
        if name and (_opens(name[0]) or (is_first and not _may_begin(name, texts))):
            name = name[1:]
        number = _NUMBER.fullmatch(name[0]) if len(name) == 1 else None
        if number and number[1].isdigit() and int(number[1]) < SMALLEST_NUMBER:
            continue
        if name:
            yield name


def _lower_case_names(question: str, texts: Sequence[str]) -> Iterator[list[str]]:
    for word in re.findall(r"[a-z]{3,}", question[1:]):
        if not _opens(word) and word not in _KINDS and _is_name(word, texts):
            yield [word.capitalize()]


def _opens(word: str) -> bool:
    """Whether `word` begins questions and is no name."""
    return is_function_word(word) or word.lower() in _OPENERS


def _may_begin(name: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether the first words of a question are a name: a single one only if the texts say so."""
    return len(name) > 1 or not name[0].isalpha() or _is_name(name[0], texts)


def _is_name(word: str, texts: Sequence[str]) -> bool:
    """Whether the texts write a word with a capital inside their sentences, and never in lower
    case.
    """
    capital = re.compile(rf"(?<=[a-z,;] ){word.capitalize()}\b")
    lower = re.compile(rf"\b{word.lower()}\b")
    return any(map(capital.search, texts)) and not any(map(lower.search, texts))


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
    return COMPOUND.sub(
        lambda match: str(VALUES[match["tens"].lower()] + VALUES[match["ones"].lower()]), text
    )


def _form(word: str) -> str:
    """A number as digits, a name of several forms as one of them, another word as its stem."""
    word = word.lower()
    if (number := _NUMBER.fullmatch(word)) and not word.endswith("0s"):
        return number[1]
    return str(VALUES[word]) if word in VALUES else stem(_SAME.get(word, word))


def one_typo(word: str, other: str) -> bool:
    """Whether the words differ in one letter, one more letter, or two exchanged neighbours."""
    start = len(commonprefix([word, other]))
    first, second = word[start:], other[start:]
    shift = len(second) - len(first)
    if shift == 0 and first[:2] == second[:2][::-1]:
        return first[2:] == second[2:]
    if abs(shift) > 1:
        return False
    return first[shift <= 0 :] == second[shift >= 0 :]


def _related(word: str, other: str) -> bool:
    """Whether two words in lower case share at least four letters and differ in their endings."""
    shared = len(commonprefix([word, other]))
    return shared >= 4 and word[shared:] in _ENDINGS and other[shared:] in _ENDINGS


def _unreliable(word: str) -> bool:
    """Whether a text may mention a thing without using `word`: acronyms, numbers other than years,
    kinds of things.
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
