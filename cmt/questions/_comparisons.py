"""Questions that compare two things by a number: "Which ship is heavier, the Bright or the
Marigold?", "what cost more, the lift or the crane?".
"""

import re
from typing import NamedTuple


class Comparison(NamedTuple):
    """A comparison, taken apart."""

    options: tuple[str, str]
    questions: tuple[str, str]  # for the number of each option
    largest: bool  # whether the option with the larger number is asked for


# comparative → the adjective or the question for the number of one option
_LARGER = {
    "longer": "long", "older": "old", "higher": "high", "taller": "tall", "deeper": "deep",
    "wider": "wide", "faster": "fast", "larger": "large", "bigger": "big", "farther": "far",
    "heavier": "weigh", "dearer": "cost", "pricier": "cost", "more": "",
}  # fmt: skip
_SMALLER = {
    "shorter": "long", "younger": "old", "lower": "high", "smaller": "large", "slower": "fast",
    "nearer": "far", "closer": "far", "lighter": "weigh", "cheaper": "cost", "less": "",
    "fewer": "",
}  # fmt: skip
_VERBS = {
    "fetched": "fetch", "cost": "cost", "costs": "cost", "got": "get", "gets": "get",
    "took": "take", "takes": "take", "did": "do", "had": "have", "has": "have",
    "sold for": "sell for", "won": "win", "made": "make", "makes": "make", "paid": "pay",
}  # fmt: skip
_WORDS = "|".join([*_LARGER, *_SMALLER])
_COMPARATIVE = rf"\b(?P<comparative>{_WORDS})\b"
_TEXT = rf"(?:(?!\b(?:{_WORDS}|likely|or)\b)[^,:;]){{2,80}}?"
_TWO = rf"(?:(?:at|in) )?(?P<first>{_TEXT}),? or (?:(?:at|in) )?(?P<second>{_TEXT})"
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "the lift or the crane, which cost more?"
        rf"^{_TWO}(?:[,:;]| [-–]) (?P<rest>which\b.{{1,60}}{_COMPARATIVE}.{{0,60}})$",
        # "which ship is heavier, the Bright or the Marigold?"
        rf"^(?P<rest>[^,:;]{{0,80}}{_COMPARATIVE}[^,:;]{{0,60}})[,:;] {_TWO}$",
        # "is the Bright or the Marigold heavier?"
        rf"^(?:is|are|was|were) {_TWO} (?P<rest>{_COMPARATIVE})$",
        # "which ship is heavier the Bright or the Marigold"
        rf"^(?P<rest>(?:which|who|what)\b[^,:;]{{0,80}}{_COMPARATIVE}(?: per head)?) {_TWO}$",
    )
]
_KIND = re.compile(r"^(?:which|what) (?P<kind>[a-z]+) (?:is|are|was|were|costs?)\b", re.IGNORECASE)
_NOUN = re.compile(
    r"\b(?:more|less|fewer) (?P<noun>(?!(?:per|than|for|up|in|at|to|of)\b)[a-z]+)", re.I
)


def comparison_of(question: str) -> Comparison | None:
    """The comparison that `question` asks for; None for another question."""
    if " or " not in question:
        return None
    for pattern in _PATTERNS:
        if match := pattern.match(question.strip(" ?.!")):
            word = match["comparative"].lower()
            asked = _asked(_LARGER.get(word) or _SMALLER.get(word, ""), match["rest"])
            if not asked:
                return None
            options = match["first"].strip(), match["second"].strip()
            kind = _KIND.match(match["rest"])
            named = [f"{one} {kind['kind']}" if kind else one for one in options]
            first, second = (asked.format(one) for one in named)
            return Comparison(options, (first, second), word in _LARGER)
    return None


def _asked(measure: str, rest: str) -> str:
    """The question for the number of one option, with {} in its place; "" without a verb:
    "How old is {}?", "How much did {} fetch?", "How many kites did {} have?".
    """
    if measure in ("weigh", "cost"):
        return f"How much does {{}} {measure}?"
    if measure:
        return f"How {measure} is {{}}?"
    verbs = re.findall(rf"\b(?:{'|'.join(_VERBS)})\b", rest.lower())
    if not verbs:
        return ""
    noun = _NOUN.search(rest)
    much = f"{'many' if noun['noun'].endswith('s') else 'much'} {noun['noun']}" if noun else "much"
    return f"How {much} did {{}} {_VERBS[verbs[0]]}{' per head' if 'per head' in rest else ''}?"
