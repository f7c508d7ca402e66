"""Follow-up questions, completed from the questions before them and their answers
(docs/concepts.md#follow-up-questions):

    How full is the tank? 52 percent   and in June?      How full was the tank in June?
    Who is the mayor? Osei             And before her?   Who was the mayor before Osei?
    What does a car pay? 4 crowns      and a motorbike?  What does a motorbike pay?
    Who won the race? Feld             On which horse?   On which horse did Feld win the race?

Rules recognise a follow-up. A question that is complete in itself stays as it is.
"""

import re
from collections.abc import Callable, Sequence

from cmt.questions._clauses import (
    ASKING,
    AUXILIARY,
    PREPOSITION,
    Clause,
    before_value,
    clause_of,
    find_time,
    object_of,
    with_asked_part,
    with_time,
)
from cmt.text.names import RUN_WITH_PARTICLES
from cmt.text.words import is_function_word, words

Turn = tuple[str, str]
"""A question and its answer; "" if there is none."""

INCOMPLETE = (
    "the question continues an earlier one that is missing or does not fit: ask it in full, such as"
    ' "Who was the mayor before Osei?" and not "And before her?"'
)
_TURNS = 8  # earlier turns that are read
_LONGEST = 25  # words of a follow-up, and of a question that it continues
_ANSWER_WORDS = 8  # of an answer that is repeated in a question
_MEANING_WORDS = 12  # of what replaces a pronoun
_FEW = 1  # words with content: a question with a pronoun and no more says too little
_PHRASE = 5  # most words of a follow-up that only a preposition shows: "for the Team plan?"
_ELLIPSIS = 9  # most words of a follow-up that is no sentence

_LEAD = re.compile(
    r"^(?:(?:ok|okay|well|thanks|so|but|then)[, ]+)*(?P<and>and|or|also|what about|how about)[, ]+"
    r"(?:also |then )?",
    re.IGNORECASE,
)
_CLAUSE_WORD = re.compile(rf"\b(?:{AUXILIARY}|{ASKING}|that|because|if)\b", re.IGNORECASE)

# 1. parts of sentences
_BEFORE = re.compile(
    r"(?:(?:who|what|which|how much|how many) (?:was|were|is) (?:it|that|he|she|they) |who |what )?"
    r"(?:(?:just |right )?before(?: (?P<value>(?:[\w&.'’-]+ ){0,3}[\w&.'’-]+))?"
    r"|previously|earlier|formerly)",
    re.IGNORECASE,
)
_REFERS_BACK = re.compile(r"(?:he|him|she|her|it|that|this|them|then|now)", re.IGNORECASE)
_SAME_AT = re.compile(
    r"(?:(?:what|how much|how many|how|who) (?:was|is|were|are) (?:it|that|they|this) )?"
    r"(?P<time>.+)",
    re.IGNORECASE,
)
_ASKED_PART = re.compile(
    r"(?:(?:since|until|till|from) when|(?:for )?how long|why|when|where|how|why not"
    r"|by how (?:much|many)(?: [\w'’-]+)?"
    rf"|(?:{PREPOSITION}) (?:what|which|whom|whose|who)(?: [\w'’-]+){{0,3}})",
    re.IGNORECASE,
)
_NOUN_PHRASE = re.compile(
    rf"(?:(?P<preposition>(?!about){PREPOSITION}) )?(?P<phrase>(?P<article>the|an?|its|their)?\b ?"
    r"[\w&.'’-]+(?: [\w&.'’-]+){0,4})",
    re.IGNORECASE,
)
_NOUN = rf"(?!(?:the|an?|{AUXILIARY}|{PREPOSITION}|{ASKING})\b)[\w'’-]+"
_NAME = rf"{RUN_WITH_PARTICLES}(?: {_NOUN}(?=\W*$| (?:{AUXILIARY}|{PREPOSITION})\b))?"

# 2. pronouns that nothing in the question explains
_PRONOUN = re.compile(r"\b(?:he|him|his|she|her|it|its|they|them|their|there)\b", re.IGNORECASE)
_HEAD = rf"(?:(?:(?:{PREPOSITION}) )?(?:{ASKING})(?: (?!that\b|who\b|which\b)[\w'’-]+){{0,5}}? )?"
_SUBJECT = re.compile(
    rf"{_HEAD}(?:{AUXILIARY}) (?P<pronoun>he|she|it|they|(?<!has )(?<!have )(?<!had )"
    r"(?:his|her(?= \w)|its|their))\b(?!['’])",
    re.IGNORECASE,
)
_OBJECT = re.compile(
    rf"(?:(?:who|what|which [\w'’-]+)(?: (?:has|have|had))? (?!(?:{AUXILIARY})\b)[\w'’-]+"
    r"|(?:(?:why|how|when|where) )?(?:did|does|do|will|can) (?:the )?[\w'’.-]+ (?:[\w'’.-]+ )?"
    r"(?P<verb>[\w'’-]+))"
    r" (?:up |off |for |at |of |to )?(?P<pronoun>it|him|them|her)\b"
    rf"(?!['’]| (?:{AUXILIARY}|\w+ed|to)\b)",
    re.IGNORECASE,
)
_THERE = re.compile(
    rf"(?!.*\b(?:is|are|was|were|be|been|get|got|go) there\b)"
    rf"(?:{ASKING})\b.* (?P<pronoun>there)$",
    re.IGNORECASE,
)
_EMPTY_IT = re.compile(
    r"\bwhat (?:time|day|date|year|month) (?:is|was) it|\bhow (?:cold|hot|warm|dark|wet|windy|late"
    r"|far|long ago) (?:is|was) it|\bit (?:true|possible|clear|certain|likely|worth|legal|because"
    r"|not|safe|necessary|said|believed|estimated|thought|claimed|when|rain|snow|say)\b"
    r"|\bit\b.*\b(?:that|who|which)\b|\bit \w+ (?:how|to)\b"
    r"|\bit (?:take|cost|mean|feel|need|matter|help|become|be|\w+ed)\b.*\b(?:to|for|when|if)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(r"he|she|him|her|his", re.IGNORECASE)
_POSSESSIVE = re.compile(r"his|its|their", re.IGNORECASE)
_IS_OWNED = re.compile(rf" (?!(?:{PREPOSITION}|and|or|last|this|now)\b)\w", re.IGNORECASE)
_WHO = re.compile(
    r"(?:\w+ )?(?:who|whom|whose)\b|(?:what|which) \w*(?:man|woman|person|player|er|or|ist)s?\b"
    r"|what (?:is|was) the name\b",
    re.IGNORECASE,
)
_OF_A_PERSON = re.compile(r"\w+(?:er|or|ist|man|woman|ian|child|boy|girl|king|queen|pope|judge)")
_NO_VALUE = re.compile(r"(?:not in memory|yes|no|none|unknown)\b.*", re.IGNORECASE)
_PLACE = re.compile(rf"\b(?:in|at) (?:the )?{RUN_WITH_PARTICLES}")


def complete(question: str, before: Sequence[Turn]) -> str:
    """`question`, completed from the turns `before` it, the latest last; itself if it is complete.

    Raises ValueError if it says too little and the turns before it do not complete it.
    """
    turns: list[Turn] = []
    for earlier, answer in before[-_TURNS:]:
        full = _completed(earlier, turns) if _is_short(earlier) else None
        turns = [*turns, (full, _value(answer))] if full else []  # nothing continues an unclear one
    completed = _completed(question, turns) if _is_short(question) else question
    if completed is None:
        raise ValueError(INCOMPLETE)
    return completed


def _completed(question: str, turns: Sequence[Turn]) -> str | None:
    """The question completed; None if it is incomplete."""
    lead = _LEAD.match(question)
    body = question[lead.end() if lead else 0 :].rstrip(" ?.!")
    if len(body.split()) <= _ELLIPSIS:
        for recognise in (_before, _at_a_time, _asked_part, _other_subject):
            if complete_from := recognise(body, lead is not None):
                return complete_from(*turns[-1]) if turns else None
    return _without_pronouns(question, body, turns)


Complete = Callable[[str, str], str | None]
"""Completes a recognised follow-up from a question and its answer; None if they do not fit."""


def _before(body: str, _: bool) -> Complete | None:
    """ "before him", "who was it before", "previously"."""
    match = _BEFORE.fullmatch(body)
    if not match:
        return None
    value = match["value"] or ""

    def complete_from(first: str, answer: str) -> str | None:
        replaced = _short(answer) if not value or _REFERS_BACK.fullmatch(value) else value
        return before_value(first, replaced) if replaced and clause_of(first) else None

    return complete_from


def _at_a_time(body: str, _: bool) -> Complete | None:
    """ "in June", "june", "last year", "what was it in june"."""
    match = _SAME_AT.fullmatch(body)
    time = match["time"] if match else ""
    time = re.sub("^[A-Z](?=[a-z]+ )", lambda first: first[0].lower(), time)  # "In May", not "May"
    for wanted in (time, f"in {time}", f"on {time}"):
        if len(wanted) < 40 and find_time(wanted) == (0, len(wanted)):
            return lambda first, _: with_time(first, wanted)
    return None


def _asked_part(body: str, _: bool) -> Complete | None:
    """ "since when", "how long", "with which book", "why"."""
    if not _ASKED_PART.fullmatch(body) or re.search(rf"\b(?:{AUXILIARY})\b", body):
        return None
    part = re.sub("^for how long", "how long", body, flags=re.IGNORECASE)
    return lambda first, answer: with_asked_part(part, first, answer)


def _other_subject(body: str, led: bool) -> Complete | None:
    """ "and motorcycles", "for the Team plan": a noun phrase, with "and" or a preposition."""
    match = _NOUN_PHRASE.fullmatch(body)
    if not match or _CLAUSE_WORD.search(body):
        return None
    if not led and (not match["preposition"] or len(body.split()) > _PHRASE):
        return None
    phrase, preposition = match["phrase"], match["preposition"]

    def complete_from(first: str, _: str) -> str | None:
        if old := _place_of(first, phrase, preposition, match["article"]):
            new = body if preposition else phrase
            return f"{first[: old[0]]}{new}{first[old[1] :]}"
        text = first.rstrip(" ?.!")
        return f"{text} {body}{first[len(text) :]}" if preposition else None

    return complete_from


def _place_of(
    first: str, phrase: str, preposition: str | None, article: str | None
) -> tuple[int, int] | None:
    """The characters of `first` that a noun phrase of the same kind replaces."""
    # 1. what stands behind the same preposition
    noun = rf"(?:(?:the|an?) )?(?:{_NAME}|{_NOUN}(?: {_NOUN}){{0,2}})"
    if preposition:
        return _last(rf"\b{preposition} {noun}", first)
    head = words(phrase)[-1]
    # 2. a phrase with the same last word: "a single ticket" for "a return ticket"
    if found := _last(rf"\b(?:(?:the|an?) )?(?:{_NOUN} ){{0,3}}{re.escape(head)}\b", first):
        return found
    # 3. a name for a name
    if re.search(r"[A-Z]", phrase):
        return _last(rf"(?<=\w )(?:(?:the|an?) )?{_NAME}", first)
    # 4. what is counted
    if not article and (counted := re.search(r"(?<=how many )[\w'’-]+", first, re.IGNORECASE)):
        return counted.span()
    # 5. what it is for, or the last phrase with such an article
    if found := _last(rf"(?<=\bfor ){noun}", first):
        return found
    kind = "the" if article == "the" else "an?"
    return _last(rf"\b{kind} {_NOUN}(?: {_NOUN}){{0,2}}", first)


def _last(pattern: str, text: str) -> tuple[int, int] | None:
    found = list(re.finditer(pattern, text))
    return found[-1].span() if found else None


def _without_pronouns(question: str, body: str, turns: Sequence[Turn]) -> str | None:
    """The question with its unexplained pronouns replaced; None if one stays and it says too
    little.
    """
    completed = body
    for _ in range(3):
        match = _unexplained(completed)
        if not match:
            break
        pronoun = match["pronoun"].lower()
        if pronoun == "her" and _IS_OWNED.match(completed, match.end("pronoun")):
            pronoun = "his"
        meant = next(filter(None, (_meaning(pronoun, *turn) for turn in reversed(turns))), "")
        if not meant:
            return question if _says_enough(completed) else None
        begin, end = match.span("pronoun")
        completed = f"{completed[:begin]}{meant}{completed[end:]}"
    if completed == body:
        return question
    rest = question[len(question.rstrip(" ?.!")) :]
    return completed + rest


def _unexplained(body: str) -> re.Match[str] | None:
    """The first pronoun that nothing in a question explains."""
    if not _PRONOUN.search(body):
        return None
    for pattern in (_SUBJECT, _OBJECT, _THERE):
        match = pattern.match(body)
        if not match or (match["pronoun"].lower() == "it" and _EMPTY_IT.search(body)):
            continue
        if not re.search(r"(?<=\w )[A-Z]", body[: match.start("pronoun")]) or pattern is _OBJECT:
            return match
    return None


def _says_enough(body: str) -> bool:
    """Whether a question with a pronoun can be answered as it is: by a name, or several words."""
    time = find_time(body)
    text = body[: time[0]] + body[time[1] :] if time else body
    content = [word for word in words(text) if not is_function_word(word)]
    return len(content) > _FEW or any(word[0].isupper() for word in words(text)[1:])


def _meaning(pronoun: str, first: str, answer: str) -> str:
    """What a pronoun means after a question and its answer; "" if neither fits."""
    clause = clause_of(first)
    if clause is None:
        return ""
    if pronoun == "there":
        return _place(clause, first, answer)
    asks_for_one = clause.asking.lower().startswith(("which", "what ")) and not clause.auxiliary
    is_person = _PERSON.fullmatch(pronoun) is not None
    has_name = not is_person or answer != answer.lower() or not clause.subject
    if _WHO.match(clause.asking) and not pronoun.startswith("it") and has_name:
        meant = answer
    elif is_person:
        owner = re.match(rf"({RUN_WITH_PARTICLES})['’]s? ", clause.subject)
        meant = owner[1] if owner else clause.subject
        meant = meant if _may_be_a_person(meant, first) else ""
    elif clause.verb:
        meant = answer if asks_for_one else object_of(clause)
    elif clause.asks_for_subject:  # "what was stolen from the museum" names it best
        meant = f"what {clause.auxiliary} {clause.predicate}"
    elif _WHO.match(clause.asking):
        meant = clause.subject.partition(" of ")[2]
    else:
        meant = clause.subject
    meant = re.sub("^an? ", "the ", meant)
    if len(meant.split()) > _MEANING_WORDS:
        return ""
    owns = _POSSESSIVE.fullmatch(pronoun)
    return f"{meant}'s" if meant and owns else meant


def _may_be_a_person(subject: str, first: str) -> bool:
    has_article = re.match("(?:the|an?) ", subject, re.IGNORECASE)
    if has_article:
        return _OF_A_PERSON.match(subject.split()[1]) is not None
    return subject[:1].isupper() or not re.search("[A-Z]", first)


def _place(clause: Clause, first: str, answer: str) -> str:
    """ "in Saltby" for "there"."""
    if clause.asking.lower().startswith("where") and answer:
        return answer if re.match(rf"(?:{PREPOSITION}|near)\b", answer) else f"in {answer}"
    found = _PLACE.search(first)
    return found[0] if found else ""


def _is_short(question: str) -> bool:
    return len(question) < 300 and len(question.split()) <= _LONGEST


def _value(answer: str) -> str:
    """An answer as it can be repeated in a question; "" for none, and for a long one."""
    text = answer[:300].strip(" .")
    if _NO_VALUE.fullmatch(text) or len(text.split()) > _ANSWER_WORDS:
        return ""
    return text


def _short(answer: str) -> str:
    """At most three words of an answer, its name if it has one."""
    text = answer.partition(",")[0]
    if len(text.split()) <= 3:
        return text
    name = re.search(RUN_WITH_PARTICLES, text)
    return " ".join((name[0] if name else text).split()[-3:])
