"""The question word of a generated question, chosen from the answer and the words around it."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from cmt.questions._spans import DETERMINER, Span
from cmt.questions.word_knowledge import ACTORS, PERSONS, PLACES, UNNAMED

PREPOSITION = re.compile(
    r"\b(?P<word>in|on|at|to|from|by|near|for|of|with|between|since|until)(?: the)? ?$",
    re.IGNORECASE,
)
_WHAT_KIND = 0.35  # share of the noun phrases of several words whose question has their last word

_TITLE = (
    "Mr|Mrs|Ms|Dr|Sir|King|Queen|President|Professor|General|Pope|Emperor|Prince|Princess|Lord|Lady|Captain|Colonel|"
    "Cardinal|Bishop|Senator|Judge"
)
_PERSON_BEFORE = re.compile(
    rf"\b(?:{_TITLE}|[Mm]inister|[Dd]irector|[Aa]uthor|[Ss]inger|[Ww]riter|[Aa]ctor|[Aa]ctress|[Pp]ainter|[Cc]omposer|"
    "[Pp]hilosopher|[Hh]istorian|[Ss]cientist|[Mm]ayor|brother|sister|wife|husband|son|daughter|father|mother)"
    r"\.?(?: of)? $"
)
_PERSON_BEHIND = re.compile(
    r",? who\b|,? was born\b|['’]s (?:wife|son|father|death|brother)\b|,? (?:said|says|wrote|"
    r"argued|argues|died|married|believed|claimed|stated|told|described|thought|proposed|directed|"
    r"composed|sang|painted|was appointed|was elected)\b"
)
_NO_FIRST_NAME = re.compile(
    "New|North|South|East|West|Great|Saint|San|Los|Las|Mount|Lake|Fort|Port|United|Royal|National|World|Grand|Old|The|"
    "Central|Northern|Southern|Eastern|Western|First|Second|American|British|French|German|Roman|Greek|Chinese|Supreme"
)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|into|throughout|across|outside|from)(?: the)? $")
_APPOSITION = re.compile(
    r"\b(?:the|an?) (?:[a-z-]+ )?(?P<noun>[a-z]{3,})(?: of| called| named| known as|,)? $"
)
_APPOSITION_BEHIND = re.compile(
    r", (?:the|an?) (?:[\w-]+ ){0,2}?(?P<noun>[a-z]{4,})(?: (?:of|in|from|that|for|on|by)\b|,)"
)
_NOUN_IN_NAME = re.compile(
    "university|college|school|river|party|war|battle|empire|museum|army|church|act|treaty|league|"
    "council|island|city|county|company|sea|ocean|mountain|mountains|revolution|dynasty|republic|"
    "kingdom|bridge|street|airport|station|conference|championship|award|prize|band|film|magazine|"
    "newspaper|language|institute|bank|court|union|agreement|period|age|movement|theory|law|effect|"
    "society|club|team|group|province|state|region|valley|lake|palace|castle|cathedral|temple|park|"
    "stadium|hotel|system|program|association|federation|committee|commission"
)  # last words of names that tell the kind of the name
_WHO_SHARE = 0.3  # of the names of groups that act


class QuestionWords:
    """Chooses question words; for names, from the LM's prediction and all occurrences of the
    name.
    """

    def __init__(self, spans: Iterable[Span], kinds: Mapping[str, str]) -> None:
        """`kinds`: name → its kind, from `WordKnowledge.kinds`."""
        self._kinds = kinds
        self._occurrences: dict[str, Counter[str]] = defaultdict(
            Counter
        )  # name → kinds it seems to be of
        for span in spans:
            if span.kind != "name":
                continue
            is_person = _PERSON_BEFORE.search(span.before) or _PERSON_BEHIND.match(span.behind)
            is_place = _PLACE_BEFORE.search(span.before)
            self._occurrences[span.answer][
                "person" if is_person else "place" if is_place else ""
            ] += 1

    def of(self, span: Span, before: str, behind: str, rng: random.Random) -> tuple[str, str]:
        """The question word for `span`, and the words `before` it in its clause without those it
        replaces.
        """
        # 1. clauses lose their conjunction
        if span.kind == "reason":
            return "Why", re.sub(r"\bbecause $", "", before)
        if span.kind == "way":
            return "How", re.sub(r"\bby $", "", before)
        # 2. names: a noun next to the name becomes part of the question word
        if span.kind == "name" and (apposition := _APPOSITION.search(before)):
            return f"{rng.choice(['What', 'Which'])} {apposition['noun']}", before[
                : apposition.start()
            ]
        # 3. the others
        before = re.sub(rf"\b{DETERMINER} $", "", before)
        preposition, asking = PREPOSITION.search(before), "What"
        if span.kind == "when":
            asking = _when(span.answer, rng)
        elif span.kind == "number":
            asking = _how_many(span.answer, behind, rng)
        elif span.kind == "name":
            asking = self._who_or_what(
                span, preposition["word"].lower() if preposition else "", behind, rng
            )
        elif (
            span.kind == "phrase"
            and " " in span.answer
            and " of " not in span.answer
            and rng.random() < _WHAT_KIND
        ):
            noun = span.answer.split()[-1]
            asking = rng.choice(
                [f"What kind of {noun}", f"What type of {noun}", f"What {noun}", f"Which {noun}"]
            )
        # 4. remove a preposition left without its noun
        if preposition and asking.split()[0] in ("When", "Where", "In", "On", "During", "How"):
            before = before[: preposition.start()]
        return asking, before

    def acts(self, name: str) -> bool:
        """Whether `name` is that of a person or of a group that acts, such as a company."""
        if " " in name and _NOUN_IN_NAME.fullmatch(name.split()[-1].lower()):
            return False
        return self._seems_person(name) or self._kinds.get(name, "") in PERSONS | ACTORS

    def _seems_person(self, name: str) -> bool:
        """Whether a title, a surname that occurs by itself, or the words around the name show
        that it is a person's.
        """
        first, last = name.split()[0], name.split()[-1]
        has_surname = (
            first != last
            and " of " not in name
            and not _NO_FIRST_NAME.fullmatch(first)
            and last in self._occurrences
        )
        kinds = self._occurrences[name]
        titled = re.match(rf"(?:{_TITLE})\b", name)
        return bool(5 * kinds["person"] > kinds.total() or titled or has_surname)

    def _who_or_what(self, span: Span, preposition: str, behind: str, rng: random.Random) -> str:
        first, last = span.answer.split()[0], span.answer.split()[-1]
        # 1. the name shows its kind: "Saltby University", "King Mill", or "Moss" elsewhere for "Ada
        #    Moss"
        if first != last and _NOUN_IN_NAME.fullmatch(last.lower()):
            return rng.choice([f"What {last.lower()}", f"Which {last.lower()}", "What"])
        if self._seems_person(span.answer):
            return "Who"
        # 2. the LM predicts the kind
        kind = self._kinds.get(span.answer, "")
        if kind in PERSONS:
            return "Who"
        if kind in PLACES and preposition in ("in", "at", "near", "to", "from"):
            return "Where"
        if kind in ACTORS and rng.random() < _WHO_SHARE:
            return "Who"
        if kind in UNNAMED:
            return "What"
        if kind:
            return rng.choice([f"What {kind}", f"Which {kind}", "What"])
        # 3. the words around the name suggest the kind
        return self._by_surroundings(span, preposition, behind, rng)

    def _by_surroundings(
        self, span: Span, preposition: str, behind: str, rng: random.Random
    ) -> str:
        kinds = self._occurrences[span.answer]
        if (apposition := _APPOSITION_BEHIND.match(behind)) and rng.random() < 0.7:
            return f"{rng.choice(['What', 'Which'])} {apposition['noun']}"
        if preposition in ("in", "at", "near"):
            return "Where"
        if 2 * kinds["place"] > kinds.total():
            return rng.choice(["What place", "What country", "Which city", "What"])
        return "Who" if preposition == "by" else rng.choice(["What", "What", "What", "Which"])


def _when(answer: str, rng: random.Random) -> str:
    if re.fullmatch(r"\d{4}", answer):
        return rng.choice(["When", "When", "In what year", "What year"])
    if answer.endswith(("century", "s")):
        return rng.choice(["When", "During what period"])
    return rng.choice(["When", "When", "On what date"])


def _how_many(answer: str, behind: str, rng: random.Random) -> str:
    if answer.endswith(("%", "percent")):
        return rng.choice(["What percentage", "How much"])
    if answer[0] in "$£€":
        return "How much"
    unit = answer.split()[-1]
    if re.match("(?:year|month|week|day|hour|minute)", unit):
        return rng.choice(
            ["How long", "How old" if re.match(r" (?:old|ago)", behind) else f"How many {unit}"]
        )
    if re.fullmatch("km|kilomet(?:re|er)s|miles|met(?:re|er)s|feet", unit):
        return rng.choice(["How far", "How long", f"How many {unit}"])
    return (
        "How many"
        if re.match(r"\s+[a-z]", behind)
        else rng.choice(["How many", "How much", "What"])
    )
