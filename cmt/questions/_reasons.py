"""Questions for a reason, a manner or a summary, which sentences answer rather than a few words."""

import re

# "please", "can you tell me", "do you know"
_POLITE = r"(?:(?:please|(?:can|could|would|will) you(?: please)?|i(?: want|'d like) to know)\W+)?"
_LEAD = (
    rf"\W*(?:(?:and|but|so|ok|then)\b\W*)?{_POLITE}"
    r"(?:(?:tell|explain to) (?:me|us),? |do you know |i wonder )?"
)
_WHY = re.compile(
    rf"{_LEAD}(?:why|how come|for what reasons?)\b"
    # "In 1863, why …", but not "Who asked why …"
    r"|(?!\W*(?:what|which|who|whom|whose|when|where|how)\b).* why\b"
    r"|.* (?:and|or) why\W?$",
    re.IGNORECASE,
)
_CAUSE = re.compile(
    rf"{_LEAD}what (?:caused|(?:is|are|was|were) (?:the|an?|one|two|some)(?: of the)?"
    r"(?: main| major| real| given| official)? (?:causes?|reasons?)\b)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(
    rf"\W*{_POLITE}(?:explain|describe|outline|summari[sz]e|sum up|tell (?:me|us) (?:more )?about"
    r"|(?:give|write)(?: me| us)?(?: an?)?(?: \w+)? (?:summary|account|overview|explanation) of)\b"
    r"(?: (?:for|to) (?:me|us)\b)?(?: in (?:\w+ ){1,2}(?:sentences?|words?|lines?)\b)?\W*"
    r"(?P<topic>(?!(?:why|how|what|who|whom|whose|which|when|where|whether|if|that)\b)\w.*)?",
    re.IGNORECASE | re.DOTALL,
)
# "is" and "was" only with a participle: "how was he found", not "how was the concert"
_MANNER = re.compile(
    rf"{_LEAD}how (?:(?:did|do|does|could|can|might|would|had|has|have"
    r"|the|an?|its?|his|her|he|she|they|their)\b|(?:is|are|was|were)\b"
    r"(?= .* (?:\w+(?:ed|en|wn)|made|found|caught|built|won|lost|paid|done|sold|kept|held|cut|put"
    r"|set|shot|bought|brought|taught|spent|sent|left|met|led|hit|fought|hurt)\b))",
    re.IGNORECASE,
)
# a name, a measure, a comparison, an opinion: a few words answer it
_SHORT = re.compile(
    r".* (?:chang(?:e|es|ed)|differ|differs|different|compare[ds]?|var(?:y|ies|ied)|rank(?:s|ed)?"
    r"|rated?|scored?|perform(?:ed)?|grow|develop(?:ed)?|feel|call(?:ed)?|named?|known|identified|perceived?"
    r"|characteri[sz]ed?|spell(?:ed)?|spelt|pronounced?|say|written|abbreviated|translated|termed"
    r"|defined?|described?|refer(?:red)?|view(?:ed)?|regard(?:ed)?|classif(?:y|ied)|measured|react"
    r"|respond)\b",
    re.IGNORECASE,
)


def asks_for_reason(question: str) -> bool:
    """Whether `question` asks why, by what means, or what caused something.

    A "how" that a few words answer does not: "how many", "how is it called", "how did the price
    change".
    """
    if _WHY.match(question) or _CAUSE.match(question):
        return True
    return bool(_MANNER.match(question)) and not _SHORT.match(question)


def summary_question(question: str) -> str | None:
    """The question for what is to be explained or summarised: of "tell me about X" that for X, of
    "summarise who …" itself. None for other questions.
    """
    summary = _SUMMARY.match(question)
    if not summary:
        return None
    topic = (summary["topic"] or "").rstrip(" .?!")
    return f"What is known about {topic}?" if topic else question
