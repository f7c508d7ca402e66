"""Requests that no document can answer: tasks, advice, small talk, and the present time."""

import re

_POLITE = r"\W*(?:(?:please|(?:can|could|would|will) you(?: please)?|i want you to)\W+)?"
_SUMMARY = r"(?! (?:an? )?(?:\w+ )?(?:summary|overview|account|list|explanation)\b)"
_TASK = re.compile(
    rf"{_POLITE}(?:"
    rf"(?:write|compose|draft|draw|paint|sing|create|invent|make|cook|plan|book|order|buy|design)"
    rf" (?:me|us|my|our)\b{_SUMMARY}"
    rf"|(?:write|compose|draft|draw|paint|invent){_SUMMARY} (?:an?|some)\b"
    r"|(?:translate|rewrite|rephrase|paraphrase|proofread) (?!as\b)\w"
    r"|tell (?:me |us )?(?:an?|another|some) (?:\w+ )?(?:jokes?|riddles?|fairy ?tales?)\b"
    r"|(?:remind|wake|call|email|text) (?:me|us|my)\b"
    r"|(?:help|teach|entertain) (?:me|us)\b|give (?:me|us) (?:an? )?(?:recipe|advice|tips?)\b"
    r"|(?:calculate|compute|solve|convert|predict|guess|imagine|pretend)\b"
    r"|(?:set|start) (?:an?|the|my) (?:alarm|timer|reminder)\b)",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\W*(?:should|shall|ought) (?:i|we)\b"
    r"|\W*what (?:should|shall|can) (?:i|we) (?:do|wear|cook|eat|say|read|watch)"
    r"(?: now| next| today| tonight| tomorrow| this \w+| on \w+day)?\W*$"
    r"|\W*(?:do you (?:think|like|believe|love)|what do you (?:think|like|recommend|suggest))\b"
    r"|\W*what(?: is|'s|’s) your (?:opinion|favou?rite|advice)\b"
    r"|\W*what(?: is|'s|’s) the meaning of life\W*$"
    r"|\W*(?:is it|would it be) (?:worth (?:it|visiting|going)|a good idea)\b"
    r"|\W*(?:recommend|suggest|advise)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"\W*(?:what(?: is|'s|’s) (?:the (?:time|date)|today(?:'s|’s)? date)"
    r"|what (?:time|day|date) is it)(?: right)?(?: now| today| here)?(?: please)?\W*$",
    re.IGNORECASE,
)
_FORECAST = re.compile(
    r"\W*(?:what will (?:the )?(?:\w+ )?weather|what(?: is|'s|’s) the weather|how will the weather"
    r"|will it (?:rain|snow|be (?:sunny|warm|cold|dry|wet)))\b",
    re.IGNORECASE,
)
_TALK = re.compile(
    r"\W*(?:hi|hello|hey|thanks|thank you|good (?:morning|afternoon|evening|night)|bye|goodbye)"
    r"(?: there| you| all| everyone| again| (?:very|so) much)?\W*$"
    r"|\W*(?:how are you|who are you|what are you|what can you do)(?: today)?\W*$",
    re.IGNORECASE,
)
_REASONS = (
    (_TASK, "a task, and the memory only quotes documents"),
    (_ADVICE, "asks for advice or an opinion, and the memory only quotes documents"),
    (_FORECAST, "asks for the weather to come, which no document states"),
    (_CLOCK, "asks for the present time, which no document states"),
    (_TALK, "no question about documents"),
)


def why_unanswerable(question: str) -> str:
    """Why no document can answer `question`, in words; "" if one may."""
    return next((reason for form, reason in _REASONS if form.match(question)), "")
