"""The form of a question: does it ask for a fact as it is or at another time, for the time, or for
a reason?

Rules recognise the form. What they do not recognise surely is a plain question.
"""

import re
from datetime import date
from typing import Literal, NamedTuple

from cmt.questions._comparisons import Comparison, comparison_of
from cmt.questions._lists import list_question
from cmt.questions._reasons import asks_for_reason, summary_question
from cmt.questions._requests import why_unanswerable
from cmt.text.question_dates import QuestionTime, time_of
from cmt.text.question_windows import QuestionWindow, window_of

Form = Literal[
    "plain", "at", "since", "before", "changed", "why", "yesno", "compare", "list", "none"
]
"""What a question asks for.

"plain": a fact, as of the asked date. "at": the value in force at a time that it names ("in May").
"since": the moment from which, or until which, a statement holds, or for how long.
"before": the value before another one ("the captain before Larsen", "the previous fare"), the
latest one, or the next one.
"changed": what documents of a stretch of time report about a subject ("what changed since May").
"why": a reason, a manner or a summary, which sentences answer. "yesno": whether something holds,
with the sentence that says so. "compare": which of two things has more of something, or less.
"list": all things of a kind. "none": what no document can answer, such as a task ("write me a
poem") or advice.
"""

RECENT = 2  # years before the asked date; an earlier time belongs to an event: "in May 1953"
LEAST_WORDS = 3  # "since when?" asks on


class AskedForm(NamedTuple):
    """A question of a form, taken apart."""

    form: Form
    # the question without its time: "What did the ferry cost?" of "… in May?"; of "changed", the
    # subject
    fact: str
    time: QuestionTime | QuestionWindow | None = None  # of "at" and "changed"
    before: str = ""  # of "before": the value that replaced it; "": the one in force
    neighbour: Literal["before", "latest", "next"] = "before"  # which value of the history
    changes: bool = False  # of "since": whether it asks when the fact changed
    reason: str = ""  # of "none": why no document can answer, in words
    comparison: Comparison | None = None  # of "compare"


_SINCE = re.compile(
    r"\b(?:since|until|till|from) when\b|^\W*(?:for )?how long (?:has|have|had|was|were)\b"
    r"|^\W*(?:for )?how (?:much )?long(?:er)? (?:can|will)\b"
    r"|^\W*when did .+ (?:begin|start|stop|end|close|expire|run out)\W*$"
    r"|^\W*when did .+ take (?:over|office|charge)\b(?: \w+){0,3}\W*$"
    r"|^\W*when did .+ become (?:the |acting )?\w+(?: (?:of|at|for) [\w .'’-]+)?\W*$",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"^\W*when (?:did|was|were|has|have) (?P<subject>.+?) (?:last )?(?:been )?"
    r"(?:changed?|rise|risen|raised|go(?:ne)? (?:up|down)|fall(?:en)?|drop(?:ped)?|increased?"
    r"|reduced?|cut|lowered)\W*$",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"^(?P<fact>(?:who\b|which\b|(?:the )?(?!(?:what|when|where|why|how|did|was|is)\b)\w).+?)"
    r",? before (?:it \w+ (?:up |down )?to )?(?P<value>(?:[\w&.'’-]+ ){0,2}[\w&.'’-]*\w)[\s?.]*$",
    re.IGNORECASE,
)
# an event, or a clause
_EVENT = re.compile(
    r"^(?:the|an?|its?|his|her|their|he|she|they|that|this|we|you|him|them|in|at|on|being)\b"
    r"|\w\wing\b|then\b|other\b|\b\w+ed\b|\b\d{4}\b",
    re.IGNORECASE,
)
_PREVIOUS = re.compile(
    r"^(?P<ask>(?:(?:who|what) (?:is|was|are|were) (?:[\w&.'’-]+ ){0,4}?|(?:the )?))"
    r"(?:(?:previous|former|preceding|outgoing) (?!name)(?=[a-z])|old (?=(?:[\w'’-]+ ){0,3}"
    r"(?:records?|price|fare|rate|fee|toll|figure|champion|level|limit|deadline|holder)\b))",
    re.IGNORECASE,
)
# of who held an office, and of what a thing was, also before a clause
_WHO_BEFORE = re.compile(
    r"^(?P<fact>who (?:was|were|is|used|held|ran|led|did|[a-z]+ed) .{3,80}?"
    r"|what (?:was|were) .{3,80}?),? before (?P<value>(?!.*\b\d{4}|.*\bcentury\b|\w+ing\b"
    r"|(?:he|she|they|it|we|you|him|her|them)\b|(?:the|an?|his|her|its|their) \w+[\s?.]*$)"
    r"(?:[\w&.'’-]+ ){0,5}[\w&.'’-]*\w)[\s?.]*$",
    re.IGNORECASE,
)
_NEIGHBOUR = re.compile(
    r"^(?P<ask>(?:(?:what|who|when) (?:is|are) )?(?:the )?)"
    r"(?:(?P<latest>latest|most recent|newest) (?:on )?(?=[a-z])|next (?!to\b)(?=[a-z]))",
    re.IGNORECASE,
)
_NEXT = re.compile(r"^(?P<ask>when (?:does|do|will|is|are) .+?) next\W*$", re.IGNORECASE)
_TOOK_OVER = re.compile(
    r"^\W*who did (?P<value>.+?) (?:take over from|succeed|replace|follow) as (?P<role>.+?)\W*$",
    re.IGNORECASE,
)
_WHAT_CHANGED = re.compile(
    r"\bwhat(?:['’]?s| is| has| have| else has)?(?: been)? (?:changed?|new|different)\b"
    r"|\b(?:is there |has )?(?:anything|any|something|what) (?:has )?(?:changed?|new|different)\b"
    r"|^\W*(?:list )?(?:the |any |all )?changes?\b"
    r"|\b(?:(?:what (?:(?:are|is|were) )?)?(?:the |any )?(?:latest |recent |new )?"
    r"(?:changes|news|updates?|developments)(?: (?:are|is|were|have been) (?:there|made))?"
    r"|what(?:['’]?s| has| have)? happened)\b"
    r"|^\W*how (?:did|has|have)(?= .{1,200} (?:changed?|developed?)\b)|\b(?:changed?|developed?)\b"
    r"|\bis different\b",
    re.IGNORECASE,
)
_ONLY_CHANGED = re.compile(
    r"^\W*what(?:['’]s| has) changed (?:about|at|in|with|on|for)\b", re.IGNORECASE
)
_ABOUT = re.compile(
    r"^(?:[\s,;:?!-]+|(?:about|at|in|with|on|to|for|of|the|regarding|and|has|have|did|please"
    r"|(?:tell|give|show) me)\b)+"
    r"|[\s,;:?!.-]+$",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"^\W*(?:(?:and|but|so)\W+)?(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)"
    r"(?:n['’]t)?\b(?! (?:you (?:know|tell)|there anything)\b)"
    r"(?!.*\b(?:or|who|whom|whose|what|which|when|where|why|how)\b)",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    r"\s*(?:when|why|list|name|which (?:day|date|month|year)|what happened)\b"
    r"|.*\b(?:will|next|all|every|how often|how many times)\b",
    re.IGNORECASE,
)
# the time belongs to what a clause describes: "the crane that was in pieces in February"
_CLAUSE = re.compile(r"\w+ \w+ .*\b(?:that|who|which|whose|when)\b", re.IGNORECASE)
_SENTENCE = re.compile(
    r"\b(?:what|which|who|whose|whom|when|where|how|why|is|are|was|were|do|does|did)\b",
    re.IGNORECASE,
)


def form_of(question: str, today: date) -> AskedForm:
    """The form of `question`, asked on `today`."""
    if reason := why_unanswerable(question):
        return AskedForm("none", question, reason=reason)
    if asks_for_reason(question):
        return AskedForm("why", question)
    if comparison := comparison_of(question):
        return AskedForm("compare", question, comparison=comparison)
    if _SINCE.search(question) and len(question.split()) > LEAST_WORDS:
        return AskedForm("since", question)
    if change := _CHANGE.match(question):
        return AskedForm("since", f"What is {change['subject']}?", changes=True)
    changed = _changed(question, today)
    if (summary := summary_question(question)) and not changed:
        return AskedForm("why", summary)
    if before := _before(question):
        return before
    if changed:
        return changed
    if _YES_NO.match(question) and len(question.split()) > LEAST_WORDS:
        return AskedForm("yesno", question)
    if one := list_question(question):
        return AskedForm("list", one)
    time = time_of(question, today)
    if not time or _PLAIN.match(question) or _CLAUSE.match(question[: time.begin]):
        return AskedForm("plain", question)
    if time.last >= today or time.last.year < today.year - RECENT:
        return AskedForm("plain", question)
    fact = re.sub(r"\s+(?=[?,.])", "", f"{question[: time.begin]} {question[time.end :]}")
    fact = " ".join(fact.split()).strip(" ,")
    return AskedForm("at", _sentence(fact), time)


def _changed(question: str, today: date) -> AskedForm | None:
    """The question for the changes of a subject; None for others.

    A question that does not begin with "what has changed about" names the stretch of time.
    """
    window = window_of(question, today)
    if not _WHAT_CHANGED.search(question) or not (window or _ONLY_CHANGED.match(question)):
        return None
    if window and window.last.year < today.year - RECENT:
        return None
    rest = f"{question[: window.begin]} {question[window.end :]}" if window else question
    subject = _ABOUT.sub("", _ABOUT.sub("", " ".join(_WHAT_CHANGED.sub(" ", rest).split())))
    return AskedForm("changed", subject, window) if subject else None


def _before(question: str) -> AskedForm | None:
    """The question for a value before another one; None for others, such as "before the strike"."""
    if match := _TOOK_OVER.match(question):
        return AskedForm("before", f"Who is the {match['role']}?", before=match["value"])
    match = _BEFORE.match(question) if " before " in question else None
    if match and not _PLAIN.match(question) and not _EVENT.search(match["value"]):
        fact = re.sub(r"\bused to\b ", "", match["fact"])
        return AskedForm("before", _sentence(fact), before=match["value"])
    if previous := _PREVIOUS.match(question):
        fact = question[: previous.end("ask")] + question[previous.end() :]
        return AskedForm("before", _sentence(re.sub(r",? before .*", "?", fact).strip()))
    if match := _WHO_BEFORE.match(question):
        return AskedForm("before", _sentence(match["fact"]), before=match["value"])
    if match := _NEIGHBOUR.match(question):
        which: Literal["latest", "next"] = "latest" if match["latest"] else "next"
        fact = match["ask"] + question[match.end() :]
        return AskedForm("before", _sentence(fact), neighbour=which)
    if match := _NEXT.match(question):
        return AskedForm("before", f"{match['ask']}?", neighbour="next")
    return None


def _sentence(fact: str) -> str:
    """A few key words as a sentence, which is read better."""
    return fact if _SENTENCE.search(fact) else f"What is the {fact.rstrip(' ?.')}?"
