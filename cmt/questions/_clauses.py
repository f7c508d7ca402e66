"""A question taken apart: question word, auxiliary, subject and the rest, by rules of English."""

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from cmt.text.names import RUN_WITH_PARTICLES
from cmt.text.question_dates import time_of
from cmt.text.verbs import PARTICIPLES, infinitive, participle, past

AUXILIARY = (
    "is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|shall|may|might|must"
)
ASKING = "who|whom|whose|what|which|when|where|why|how"
PREPOSITION = "in|on|at|by|for|with|from|to|of|about|under|into"

_SOME_DAY = date(2028, 12, 31)  # only the place of a time is asked for, not what it means
_NOW = r"\b(?:right now|now|currently|today|at the moment|at present|these days|nowadays)\b"
_NAMED_TIME = re.compile(
    rf"{_NOW}|\b(?:this|next|last) (?:week|weekend|month|year|season|spring|summer|autumn|winter)\b"
    r"|\b(?:in|during|since) (?:1\d|2[01])\d\d\b|\b(?:yesterday|tomorrow|back then)\b",
    re.IGNORECASE,
)
_STILL = re.compile(rf"{_NOW}|\b(?:next|this|tomorrow)\b", re.IGNORECASE)
_CONTRACTION = re.compile(r"^(who|what|when|where|why|how)['’]?s (?!own\b)", re.IGNORECASE)
_BEFORE = re.compile(r",? before (?:[\w&.'’-]+ ){0,3}[\w&.'’-]*\w$", re.IGNORECASE)
_ASKED_FOR = rf"(?:(?:{PREPOSITION}) )?(?:{ASKING})\b(?: [\w'’&-]+){{0,6}}?"
_WITH_AUXILIARY = re.compile(
    rf"^(?:(?P<asking>{_ASKED_FOR}) )?(?P<auxiliary>{AUXILIARY}) (?P<rest>.+)$", re.IGNORECASE
)
# that end a subject
_PREDICATES = PARTICIPLES | frozenset(
    """
    open closed shut available ready safe free due still over worth married dead alive ill sick
    allowed legal called going able unable likely afraid born back home there not yet already on off
    up down out after before because when while
    """.split()  # noqa: SIM905 - quoted words read worse
)
_VERBS = frozenset(
    """
    cost have run start open close take make say want live play go come mean weigh sell earn begin
    end work win own lead hold pay need look stand sit last plan stop leave get meet expect use call
    think do give buy build find keep cross rise fall happen move become join replace serve carry
    claim study teach raise lose beat finish sail walk travel show offer produce contain belong
    change cover charge employ lie reach include receive serve send write paint sing swim catch
    """.split()  # noqa: SIM905 - quoted words read worse
)
_LONGEST_SUBJECT = 5  # words, in front of a verb that no list has
_NAMED_SUBJECT = re.compile(rf"{RUN_WITH_PARTICLES}(?= [a-z])")
_OBJECT_END = re.compile(r" (?:in|on|at|with|by|before|after|for|to|as|because|when)\b.*$", re.I)
_PAST_TENSE = {"is": "was", "are": "were", "do": "did", "does": "did"}
_DOES = ("do", "does", "did")
_PRESENT = {"was": "is", "were": "are"}


class Clause(NamedTuple):
    """A question without its time."""

    asking: str  # "who", "how many beds"; "": yes or no
    auxiliary: str  # "is"; "": the question asks for the subject of `verb`
    subject: str  # "the ferry"; "": asked for
    predicate: str  # what is behind the subject, or behind `verb`
    verb: str = ""

    @property
    def asks_for_subject(self) -> bool:
        """Whether the answer is the subject: "Who won …?", "What was stolen …?"."""
        return not self.subject


def find_time(text: str) -> tuple[int, int] | None:
    """The characters of `text` that name a time, "now" and "in 2029" included."""
    found = time_of(text, _SOME_DAY)
    named = _NAMED_TIME.search(text)
    spans = [span for span in (found and (found.begin, found.end), named and named.span()) if span]
    return min(spans, default=None)


def is_present(time: str) -> bool:
    """Whether a time is now, or still to come."""
    return bool(_STILL.search(time))


def bare(question: str) -> str:
    """`question` without its mark, its time, "before …", and contractions of "is"."""
    text = _CONTRACTION.sub(r"\1 is ", question.rstrip(" ?.!"))
    if time := find_time(text):
        text = f"{text[: time[0]].rstrip(' ,')} {text[time[1] :].lstrip(' ,')}".strip()
    return _BEFORE.sub("", text)


def clause_of(question: str) -> Clause | None:
    """The parts of a question; None if no rule takes it apart."""
    text = bare(question)
    if match := _WITH_AUXILIARY.match(text):
        auxiliary = match["auxiliary"].lower()
        subject, predicate = _split(match["rest"], does=auxiliary in _DOES)
        asking = match["asking"] or ""
        if asking.lower() in ("who", "what") and auxiliary in ("has", "have", "had", "will"):
            subject, predicate = "", match["rest"]
        if not (subject or predicate):
            return None
        return Clause(asking, auxiliary, subject, predicate)
    words = text.split()
    if place := _verb(words):
        asking, rest = " ".join(words[:place]), " ".join(words[place + 1 :])
        return Clause(asking, "", "", rest, words[place])
    return None


def _verb(words: Sequence[str]) -> int:
    """The place of the verb in a question for its subject, "which company runs …"; 0 if there is
    none.
    """
    first = words[0].lower() if words else ""
    starts = {"who": 1, "what": 1, "which": 2, "how": 3}
    if first not in starts or (first == "how" and words[1:2] != ["many"]):
        return 0
    for place in range(starts[first], min(len(words) - 1, 6)):
        if infinitive(words[place]):
            return place
    return 0


def object_of(clause: Clause) -> str:
    """The noun phrase behind the verb: "the ferry" of "runs the ferry on Sundays"."""
    return _OBJECT_END.sub("", clause.predicate)


def with_time(question: str, time: str) -> str:
    """`question` at another time, in the tense of that time; `time` is "now", "in May" …"""
    body, mark = _marked(_CONTRACTION.sub(r"\1 is ", question))
    body = _BEFORE.sub("", body)
    old = find_time(body)
    if old and old[0] == 0:  # "In May, what …"
        body = f"{time[:1].upper() if body[0].isupper() else time[:1]}{time[1:]}{body[old[1] :]}"
    elif old:
        body = f"{body[: old[0]]}{time}{body[old[1] :]}"
    else:
        body = f"{body} {time}"
    return (in_present if is_present(time) else in_past)(body) + mark


def before_value(question: str, value: str) -> str:
    """`question` for the value before `value`."""
    _, mark = _marked(question)
    return f"{in_past(bare(question))} before {value}{mark}"


def in_past(question: str) -> str:
    """`question` in the past tense, if it is in the present."""
    match = _WITH_AUXILIARY.match(question)
    if match:
        old = match["auxiliary"]
        begin, end = match.span("auxiliary")
        return f"{question[:begin]}{_cased(_PAST_TENSE.get(old.lower(), old), old)}{question[end:]}"
    words = question.split()
    place = _verb(words)
    if place and words[place].endswith("s"):
        words[place] = past(infinitive(words[place]) or words[place])
    return " ".join(words)


def in_present(question: str) -> str:
    """`question` in the present tense, if it has "was" or "were"."""
    match = _WITH_AUXILIARY.match(question)
    if not match:
        return question
    begin, end = match.span("auxiliary")
    old = match["auxiliary"]
    return f"{question[:begin]}{_cased(_PRESENT.get(old.lower(), old), old)}{question[end:]}"


def with_asked_part(part: str, question: str, answer: str) -> str | None:
    """The statement of `question` and its answer, with `part` asked: "Since when", "With which
    book"; None if `part` cannot be asked of it.
    """
    clause = clause_of(question)
    if clause is None:
        return None
    asking = clause.asking.lower()
    lasting = re.search(r"\b(?:since when|how long)$", part, re.IGNORECASE)
    is_be = clause.auxiliary in ("is", "are", "was", "were")
    # 1. no value belongs to the statement: yes or no, "when", "why" …
    value = _value(asking, answer)
    adjunct = not asking or asking.startswith(("when", "why"))
    if asking.startswith(("where", *(f"{word} " for word in PREPOSITION.split("|")))):
        adjunct = bool(clause.predicate)
    if adjunct:
        words = [clause.auxiliary, clause.subject, clause.predicate]
    elif not value:
        return None
    # 2. the answer is the subject
    elif clause.verb:
        base = infinitive(clause.verb) or clause.verb
        words = ["has", value, participle(base)] if lasting else ["did", value, base]
        if not lasting and clause.verb.endswith("s") and clause.verb != base:
            words[0] = "does"
        words.append(clause.predicate)
    elif clause.asks_for_subject or asking.startswith("who"):
        rest = " ".join(filter(None, (clause.subject, clause.predicate)))
        words = [clause.auxiliary, value, rest]
        if lasting and clause.auxiliary in ("is", "are"):
            words = ["has", value, "been", rest]
    # 3. the answer is another part
    elif lasting and is_be and clause.auxiliary in ("is", "are"):
        words = ["has", clause.subject, "been", value, clause.predicate]
    else:
        words = [clause.auxiliary, clause.subject, clause.predicate, value]
    text = " ".join(filter(None, [part, words[0].lower(), *words[1:]]))
    _, mark = _marked(question)
    return (text[0].upper() if question[0].isupper() else text[0].lower()) + text[1:] + mark


def _value(asking: str, answer: str) -> str:
    """The answer as a part of a statement: "52 percent full", "365 beds"."""
    counted = re.match(r"how (?P<word>\w+)(?: (?P<noun>.+))?$", asking)
    if not counted or not answer:
        return answer
    noun = counted["noun"] if counted["word"] in ("many", "much") else counted["word"]
    return answer if not noun or noun.split()[0] in answer.lower() else f"{answer} {noun}"


def _split(rest: str, *, does: bool) -> tuple[str, str]:
    """Subject and predicate of what stands behind an auxiliary; both empty if no rule tells."""
    words = rest.split()
    named = _NAMED_SUBJECT.match(rest) if does else None
    if named:
        return named[0], rest[named.end() + 1 :]
    ends = _VERBS if does else _PREDICATES
    for place, word in enumerate(words):
        is_noun = place > 0 and words[place - 1].lower() in ("the", "a", "an", "of")
        is_participle = not does and re.fullmatch("[a-z]{3,}(?:ed|ing)", word) is not None
        if (word in ends or is_participle) and not is_noun and (place or not does):
            return " ".join(words[:place]), " ".join(words[place:])
    if does:
        return (" ".join(words[:-1]), words[-1]) if len(words) - 1 <= _LONGEST_SUBJECT else ("", "")
    return rest, ""


def _marked(question: str) -> tuple[str, str]:
    body = question.rstrip(" ?.!")
    return body, "?" if "?" in question[len(body) :] else ""


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[:1].isupper() else word
