"""Questions for all things of a kind: "Which dogs have won sheepdog trials?", "list the pencil
makers".
"""

import re

# ends in "s" and is no plural
_NO_PLURAL = r"(?!(?:is|was|has|does|this|its|his|us|\w*(?:ss|us|is|series|species|news))\b)"
_PLURAL = rf"{_NO_PLURAL}[a-z-]{{2,}}s"
_ARE = r"(?:are|were|have|won|made|make|raised?|held|took|play(?:ed)?|sold|got|had)"
_WHICH = re.compile(
    rf"^\W*(?:which|what) (?!of\b)(?:[\w'’-]+ ){{0,2}}?(?:{_PLURAL}|children|people|men|women)"
    rf"(?: (?:in|on|at|of|from) [\w'’ -]+?)? {_ARE}\b",
    re.IGNORECASE,
)
_WHAT = re.compile(r"^\W*what\b", re.IGNORECASE)
_COUNTED = re.compile(r"^\W*(?:which|what) (?:of|two|three|four|five|six|\d+)\b", re.IGNORECASE)
_LIST = re.compile(
    r"^\W*(?:(?:please|can you|could you) )*(?P<list>list|enumerate|name (?:all|every)"
    r"|give me (?:all|a list of)|show me (?:all|every))(?: all)?(?: of)?(?: the)?"
    r" (?P<what>(?!one\b)\w.+)$",
    re.IGNORECASE,
)
_ALL = re.compile(
    rf"^\W*(?:every|all(?: of)? the|(?:\w+ )?{_PLURAL} (?:that|who))"
    r" (?!.*\b(?:what|which|whom|how|where|when)\b)\w"
    r"|^.+,? which ones\W*$|[.?] list (?:all|them)\b",
    re.IGNORECASE,
)
_ENDS = {"ies": "y", "ches": "ch", "shes": "sh", "s": ""}
_SINGULAR_OF = {"have": "has", "were": "was", "are": "is", "do": "does"}
_FIRST_PLURAL = re.compile(
    r"^(?P<before>\W*(?:which|what) (?:[\w'’-]+ ){0,2}?)"
    rf"{_NO_PLURAL}(?P<stem>[a-z'’-]+?)(?P<end>{'|'.join(_ENDS)})\b",
    re.IGNORECASE,
)


def list_question(question: str) -> str | None:
    """The question for one of the things that `question` asks for, which the reader reads better:
    "Which dog has won sheepdog trials?"; None for a question that does not ask for all of a kind.
    """
    if match := _LIST.match(question):
        return match["what"]
    if _ALL.search(question):
        return question
    if _COUNTED.match(question) or _WHAT.match(question) or not _WHICH.match(question):
        return None
    one = _FIRST_PLURAL.sub(
        lambda found: f"{found['before']}{found['stem']}{_ENDS[found['end'].lower()]}", question
    )
    return re.sub(
        rf"\b(?:{'|'.join(_SINGULAR_OF)})\b", lambda are: _SINGULAR_OF[are[0]], one, count=1
    )
