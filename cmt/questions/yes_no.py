"""Whether sentences say that what a yes-or-no question asks for holds, by rules of English.

    decide("Is Brimble Wells open on Wednesdays?", ["Closed on Wednesdays."])  → it does not hold

Sentences that do not have most of the question's words, and say nothing of its opposites, decide
nothing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cmt.questions._clauses import AUXILIARY
from cmt.text.names import RUN_WITH_PARTICLES
from cmt.text.numbers import DATE, QUANTITY, amount_of, unit_of
from cmt.text.words import is_function_word, words

LEAST_SHARED = 0.6  # of the question's words, from which on sentences say what it asks
LEAST_DENIED = 0.3  # … of one sentence, from which on its "not" denies what the question asks
NEAR = 5  # words between a negation and a word of the question
BEHIND = 2  # words by which a match in front of a word of the question counts as farther away

_NEGATION = re.compile(
    r"\b(?:no|not|never|nothing|none|nobody|neither|nor|without|cannot|hardly|\w+n['’]t"
    r"|instead of|rather than|unable|against)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:throw|threw|thrown) (?:it )?out|\bturned (?:it )?down|\b(?:rejected|refused|denied"
    r"|denies|scrapped|abandoned|cancelled|postponed|delayed|withdrawn|failed|dropped|overturned"
    r"|abolished|vetoed|blocked|ruled out|called off|put off|gave up|given up)\b"
    r"|\bdone away with\b",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"\b(?:no longer|(?:any|no) more|(?:not|n['’]t) .{1,40}\bsince|stopped|ceased|ended|lifted"
    r"|scrapped|abolished|finished|gave up|given up|done away with|for the last time|closed"
    r"|used to|until (?:last|recently|then))\b",
    re.IGNORECASE,
)
_STILL = re.compile(r"\bstill\b", re.IGNORECASE)
# each word of the first group is the opposite of each of the second one
_OPPOSITES = [
    (re.compile(rf"\b(?:{first})\b", re.I), re.compile(rf"\b(?:{second})\b", re.I))
    for first, second in (
        (r"cards?", r"cash|coins"),
        (
            r"open(?:s|ed)?|reopen(?:s|ed)?|opens its doors",
            r"closed?|closes|shuts?|will open|to open|(?:the )?opening (?:has|is|was)"
            r"(?: been)? (?:moved|put off|postponed|delayed)|wait a little longer",
        ),
        (r"over|ended|finished|ends", r"continues?|goes on|going on|go on|ongoing|still"),
        (
            r"pay(?!ing (?:with|by)| (?:with|by))(?:s|ing)?|paid|fares?|charged?|charges|fee|fees"
            r"|toll|costs?|\d+ (?:crowns?|euros?|dollars?|pounds?)",
            r"free(?: of charge)?|nothing|unpaid",
        ),
        (
            r"^\W*can (?:i|you|we|one|people)|allowed|permitted|lawful|legal|valid|permits?"
            r"|approved|accepted|upheld|may|in force|passed",
            r"banned|bans?|forbidden|forbids?|fined?|fines|prohibited|illegal|unlawful|invalid"
            r"|rejected|refused|overturned|struck down|quashed|thrown out|turned down|must not",
        ),
        (r"won|wins?|beat|beats|winner|victory", r"lost|loses?|beaten|defeat(?:ed)?"),
        (r"safe|harmless|unhurt|unharmed", r"dangerous|unsafe|hurt|injured|harmed|recalled"),
        (r"alive|survived?|survives|rescued|saved", r"dead|died|dies|killed|drowned|perished"),
        (r"rose|risen|rises?|raised|up|higher|dearer|increased?|grew|grown",
         r"fell|fallen|falls?|cut|down|lower|cheaper|reduced|dropped|shrunk"),
        (r"all|every|each|both", r"some|except|only|others|(?:one|two|three|\d+) of (?:its|the)"),
        (r"guilty|convicted", r"not guilty|acquitted|cleared|innocent"),
        (r"married", r"single|divorced|unmarried"),
        (r"working|works|running|repaired|in service",
         r"broken|out of (?:action|order|service)|stopped|silent|idle|burned out"),
        (r"found|recovered", r"missing|vanished"),
        (r"full|sold out", r"empty"),
    )
]  # fmt: skip
_ENDS_IT = re.compile(
    r"^\W*(?:\w+ ){0,2}(?:lifted|ended|dropped|scrapped|abolished|suspended|withdrawn)", re.I
)
_ENDED_IT = re.compile(
    r"\b(?:lifted|ended|dropped|scrapped|abolished|suspended|withdrew)(?: \w+){0,3}\W*$", re.I
)
_NEGATED = re.compile(
    r"\b(?:no|not|never|none|neither|nor|without|cannot|\w+n['’]t|no longer)(?: [\w’']+){0,2}\W*$",
    re.I,
)
_BORDER = re.compile(
    r"\b(?P<kind>more than|over|above|at least|less than|fewer than|under|below|at most)"
    rf" (?:(?P<half>half)|(?P<number>{QUANTITY}))",
    re.IGNORECASE,
)
_LARGER = ("more than", "over", "above", "at least")
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|d|e)$")
_STEM = 6  # letters


def _root(word: str) -> str:
    """`word` without its inflection: "call" of "calling", 1500 of "1,500"."""
    if word[0].isdigit():
        return word.replace(",", "")
    return _ENDING.sub("", word.lower())[:_STEM]


_FILLERS = frozenset(
    map(
        _root,
        """
        still now again already ever really currently actually yet today there any anyone anybody
        somebody someone something anything get got use used make made take
        """.split(),  # noqa: SIM905 - quoted words read worse
    )
)


class Decision(NamedTuple):
    """What sentences say about a yes-or-no question."""

    holds: bool
    sentence: int  # that says so
    firm: bool  # whether opposites or numbers decide, and not only shared words or a negation


def decide(question: str, sentences: Sequence[str]) -> Decision | None:
    """Whether `sentences` say that what `question` asks for holds; None if they do not say.

    1. "more than half", "at least 5 crowns": the numbers are compared.
    2. A word of an opposite ("open", "shut") in the question and in a sentence: the sentence that
       has most words of the question decides; "not" turns either around.
    3. "still": a sentence that says that it ended denies it.
    4. "not", or a refusal, near a word of the question denies it.
    5. Otherwise sentences that have most words of the question say so.
    """
    claim = _claim(question)
    ranked = sorted(range(len(sentences)), key=lambda one: -_share(claim, sentences[one]))
    if not ranked or not claim:
        return None
    for decided in (_beyond, _opposed, _ended, _denied):
        for place in ranked:
            holds = decided(question, claim, sentences[place])
            if holds is not None:
                return Decision(holds, place, decided is not _denied)
    if _share(claim, " ".join(sentences)) >= LEAST_SHARED:
        return Decision(True, ranked[0], firm=False)
    return None


def _claim(question: str) -> frozenset[str]:
    """The stems of the question's words that a statement of it has."""
    found = (_root(word) for word in words(question) if not is_function_word(word))
    return frozenset(found) - _FILLERS


def _share(claim: frozenset[str], text: str) -> float:
    """Share of the claim in `text`, weighted by word length; 0–1."""
    found = claim.intersection(map(_root, words(text)))
    return sum(map(len, found)) / (sum(map(len, claim)) or 1)


def _beyond(question: str, _claim: frozenset[str], sentence: str) -> bool | None:
    """Whether the number in the sentence is beyond that of the question; None without one."""
    border = _BORDER.search(question)
    limit = 50.0 if border and border["half"] else amount_of(border["number"]) if border else None
    if not border or limit is None:
        return None
    unit = "percent" if border["half"] else unit_of(border["number"])
    for found in re.finditer(QUANTITY, sentence):
        amount = amount_of(found[0])
        if amount is not None and (not unit or unit_of(found[0]) == unit):
            if amount == limit:
                return border["kind"].lower() in ("at least", "at most")
            return (amount > limit) == (border["kind"].lower() in _LARGER)
    return None


class _Sign(NamedTuple):
    """A word of an opposite, and whether it stands for the first side."""

    at: int  # its character
    positive: bool


def _signs(pair: tuple[re.Pattern[str], re.Pattern[str]], text: str) -> list[_Sign]:
    """The words of both sides in `text`. "not" in front turns one around, as does "lifted" next to
    it.
    """
    found = list[_Sign]()
    second = list(pair[1].finditer(text))
    for positive, matches in ((True, pair[0].finditer(text)), (False, iter(second))):
        for match in matches:
            inside = (other.start() <= match.start() < other.end() for other in second)
            if positive and any(inside):
                continue  # "open" of "will open"
            before, behind = text[: match.start()], text[match.end() :]
            turns = (_NEGATED.search(before), _ENDS_IT.match(behind), _ENDED_IT.search(before))
            turned = sum(map(bool, turns)) % 2 == 1
            found.append(_Sign(match.start(), positive != turned))
    return sorted(found)


def _opposed(question: str, claim: frozenset[str], sentence: str) -> bool | None:
    """Whether the sentence has the same side of an opposite as the question; None without one."""
    for pair in _OPPOSITES:
        asked, signs = _signs(pair, question), _signs(pair, sentence)
        if asked and signs:
            own = {
                _root(word)
                for side in pair
                for one in side.finditer(question)
                for word in words(one[0])
            }
            places = [at for at, word in _placed(sentence) if word in claim - own]
            nearest = min(signs, key=lambda sign: _distance(sentence, sign.at, places))
            return nearest.positive == asked[-1].positive
    return None


def _ended(question: str, _claim: frozenset[str], sentence: str) -> bool | None:
    """False if the sentence says that what the question asks for "still" has ended."""
    return False if _STILL.search(question) and _STOPPED.search(sentence) else None


def _placed(text: str) -> Iterator[tuple[int, str]]:
    """The words of `text`, as stems, with their characters."""
    start = 0
    for word in words(text):
        start = text.index(word, start)
        yield start, _root(word)
        start += len(word)


def _distance(text: str, at: int, places: Sequence[int]) -> int:
    """Words between the character `at` and the nearest of `places`; what stands in front of it
    counts as farther away.
    """

    def between(place: int) -> int:
        count = len(text[min(at, place) : max(at, place)].split())
        return count if at >= place else count + BEHIND

    return min((between(place) for place in places if place != at), default=0)


def _denied(question: str, claim: frozenset[str], sentence: str) -> bool | None:
    """False if a negation or a refusal stands near a word of the claim, and not in the question."""
    if _share(claim, sentence) < LEAST_DENIED:
        return None
    places = [at for at, word in _placed(sentence) if word in claim]
    for pattern in (_NEGATION, _REFUSAL):
        for match in pattern.finditer(sentence):
            near = _distance(sentence, match.start(), places) <= NEAR
            if near and not pattern.search(question):
                return False
    return None


class Asserted(NamedTuple):
    """A name, number or date in a yes-or-no question."""

    value: str
    question: str  # that asks for it


_AUXILIARY = re.compile(rf"\W*(?P<auxiliary>{AUXILIARY}) (?P<rest>.+?)\W*$", re.IGNORECASE)
_PREPOSITION = re.compile(r"\b(?:in|on|since|during|from|by) $", re.IGNORECASE)


def asserted(question: str) -> list[Asserted]:
    """The names, numbers and dates in `question`, each with the question for it: 5 crowns and "How
    many crowns does the ferry cost?".
    """
    match = _AUXILIARY.match(question)
    if not match:
        return []
    rest, found = match["rest"], list[Asserted]()
    taken = list[tuple[int, int]]()
    for asking, pattern in (("When", DATE), ("How many", QUANTITY), ("Who", RUN_WITH_PARTICLES)):
        for term in re.finditer(pattern, rest):
            first, last = term.span()
            before, behind = rest[:first], rest[last:]
            whole = not any(a < last and first < b for a, b in taken) and len(term[0]) > 1
            dated = (
                asking != "When" or any(map(str.isdigit, term[0])) or _PREPOSITION.search(before)
            )
            if not (whole and dated) or re.match(r"['’]s\b|[-–]| to \d", behind):
                continue
            taken.append((first, last))
            word = asking
            if asking == "When":
                before = _PREPOSITION.sub("", before)
            elif asking == "How many":
                noun = " ".join(term[0].split()[1:]) or (behind.split() or [""])[0]
                word = f"How many {noun}"
                behind = behind if len(term[0].split()) > 1 else behind.strip()[len(noun) :]
            left = " ".join(f"{before} {behind}".split())
            found.append(Asserted(term[0], f"{word} {match['auxiliary'].lower()} {left}?"))
    return found
