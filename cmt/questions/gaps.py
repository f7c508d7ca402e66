"""Canaries' questions, made from a text by a rule, for streams that come without questions.

A name, a number or a date of a sentence gives way to a question word: "The ferry to Saltby costs 6
crowns." becomes "The ferry to Saltby costs how many crowns?", and the replaced words are the
answer. It is the identity cloze of Lewis et al. 2019 (Unsupervised question answering by cloze
translation, arXiv 1906.04980) with a question word in the gap.

The rule takes facts that mostly have one answer at a time. Many people live in a town, but a person
lives in one: a name is asked for where it is "the" something ("Moss is the mayor of Port Ellery."),
or at the end of a statement in the present tense. The question has to keep a name that says what it
is about.
"""

import re
from collections.abc import Iterator
from itertools import islice

from cmt.text.markdown import is_sentence, prose
from cmt.text.names import NAME
from cmt.text.numbers import DATE, NUMBER
from cmt.text.sentences import sentences

PER_TEXT = 4  # questions made of one text at most
_IS = r"(?:is|was|are|were|becomes|became)"
_SUBJECT = rf"(?P<gap>{NAME}|^[A-Z]\w+)(?= {_IS} the )"  # GAP is the mayor of Port Ellery.
# Ines Vell lives in GAP.
_OBJECT = rf"^(?:(?:In|At) )?(?:{NAME}|The\b).*?\b[a-z]+s\b.*? (?P<gap>{NAME})(?=\W*$)"
_SPANS = (
    ("when", re.compile(f"(?P<gap>{DATE})")),
    ("how many", re.compile(f"(?P<gap>{NUMBER})")),
    ("who or what", re.compile(_SUBJECT)),
    ("who or what", re.compile(_OBJECT)),
)
_WORDS = range(4, 31)  # of a sentence; others make poor questions


def made_questions(text: str) -> list[tuple[str, str]]:
    """The first PER_TEXT questions that the rule makes of the sentences of `text`, each with its
    answer.
    """
    return list(islice(_made(text), PER_TEXT))


def question_on(text: str, answer: str) -> str | None:
    """The question that `answer` answers in the first sentence of `text` that has it; None if none
    has it.

    The question word is the same for every kind of answer except a number.
    """
    number = re.match(NUMBER, answer)
    word = "how many" if number else "who or what"
    for sentence in sentences(text):
        found = re.search(re.escape(answer), sentence, re.IGNORECASE)
        if answer and found:
            return _question(
                sentence,
                found.start(),
                found.start() + len(number[0]) if number else found.end(),
                word,
            )
    return None


def _made(text: str) -> Iterator[tuple[str, str]]:
    for sentence in _own_sentences(text):
        if len(sentence.split()) not in _WORDS or sentence.startswith(
            ("A ", "An ")
        ):  # one event of many
            continue
        dates = [match.span() for match in re.finditer(DATE, sentence)]
        for word, pattern in _SPANS:
            for match in pattern.finditer(sentence):
                start, end = match.span("gap")
                if word == "how many" and any(first <= start < last for first, last in dates):
                    continue
                if re.search(NAME, f"{sentence[:start]}–{sentence[end:]}"):
                    yield _question(sentence, start, end, word), match["gap"]


def _own_sentences(text: str) -> Iterator[str]:
    """The sentences of `text` without markup; a label, a heading and a row of a table are none."""
    for line in prose(text):
        for sentence in sentences(line):
            if is_sentence(sentence):
                yield sentence


def _question(sentence: str, start: int, end: int, word: str) -> str:
    """The sentence as a question, with `word` in place of its characters `start` … `end`."""
    question = (sentence[:start] + word + sentence[end:]).rstrip(" .!?") + "?"
    return question[0].upper() + question[1:]
