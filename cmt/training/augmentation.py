"""Augmentation of training text: an outdated value is added next to some answers.

An update says "two euros instead of three"; encyclopedic training text rarely does. So some answers
get a second value of their kind – another figure, another name – in a phrase that marks the current
one. Questions and answers stay unchanged.
"""

import random
import re
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from cmt.common.arrow import replace_column
from cmt.text.numbers import NUMBER, YEAR, value_of

DOCUMENT_SHARE = 0.5  # of the documents are changed
ANSWER_SHARE = 0.5  # of the answers in such a document get an earlier value, if one is found
MAX_ANSWER_WORDS = 4  # longer answers stay as they are

_ANY_VALUE = (
    "{new} instead of {old}",
    "no longer {old} but {new}",
    "{new}, not {old} any more,",
    "{new} ({old} until then)",
    "{new} in place of {old}",
)
_FIGURES = (
    "from {old} to {new}",
    "{new} from {old}",
    "{new}, {direction} from {old},",
    "{new}, after {old} before,",
    "{new} ({old} a year earlier)",
    "{new}, against {old} so far,",
    "{old}, now {new}",
)
_NAMES = (
    "{new}, successor to {old},",
    "{new}, who followed {old},",
    "{new} (formerly {old})",
    "{new}, replacing {old},",
    "first {old}, now {new}",
)
_ASKED_FOR = re.compile(r"\b(?:(who|where)|(?:what|which) (\w+))")
# after a complete answer: punctuation, or a word that is not part of a name or a figure
_ANSWER_END = re.compile(r"\W*(?:$|[,.;:)?!]| [^A-Z\d])")


def add_changed_values(documents: pa.Table, questions: pa.Table, *, seed: int) -> pa.Table:
    """`documents` with earlier values added to the `text` of some; a pure function of the tables
    and the seed.

    Every answer that is verbatim in a text stays in it, and no added value is an answer to a
    question on that document.
    """
    # 1. the answers of each document, and all answers of each kind
    answers_by_document, answers_by_kind = defaultdict(list), defaultdict(set)
    for row in questions.select(["doc_id", "question", "answers"]).to_pylist():
        if not row["answers"]:
            continue
        answer = row["answers"][0]
        kind = _kind(row["question"], answer)
        answers_by_document[row["doc_id"]].append((answer, kind))
        answers_by_kind[kind].add(answer)
    names = {kind: sorted(answers) for kind, answers in answers_by_kind.items() if kind}
    # 2. change a share of the texts, each with its own random numbers
    texts = []
    for row in documents.select(["doc_id", "text"]).to_pylist():
        rng = random.Random(f"{seed} {row['doc_id']}")
        is_changed = rng.random() < DOCUMENT_SHARE
        answers = answers_by_document[row["doc_id"]]
        texts.append(
            _with_earlier_values(row["text"], answers, names, rng) if is_changed else row["text"]
        )
    return replace_column(documents, "text", texts)


def _with_earlier_values(
    text: str,
    answers_with_kind: Sequence[tuple[str, str]],
    names: dict[str, list[str]],
    rng: random.Random,
) -> str:
    """The text with an earlier value next to some of its answers, in which all answers stay."""
    answers = [answer for answer, _ in answers_with_kind]
    for answer, kind in answers_with_kind:
        old = None
        if rng.random() < ANSWER_SHARE:
            old = _earlier_value(answer, names.get(kind, []), rng)
        place = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
        if old is None or place is None or not _fits(old, place, answers):
            continue
        changed = _with_earlier_value(answer, old, place, rng)
        if all(other in changed for other in answers if other in text):
            text = changed
    return text


def _fits(old: str, place: re.Match[str], answers: Sequence[str]) -> bool:
    """Whether `old` is neither in the text nor part of an answer, and the answer at `place` is
    complete.
    """
    if old in place.string or not _ANSWER_END.match(place.string, place.end()):
        return False
    return not any(old.lower() in other.lower() for other in answers)


def _with_earlier_value(answer: str, old: str, place: re.Match[str], rng: random.Random) -> str:
    """The text with a phrase of both values at `place`, without its last comma where punctuation
    follows.
    """
    text = place.string
    of_kind: tuple[str, ...] = _NAMES
    if re.search(YEAR, answer):
        of_kind = ()
    elif re.search(NUMBER, answer):
        of_kind = _FIGURES
    phrase, rest = rng.choice(_ANY_VALUE + of_kind), text[place.end() :]
    if rest[:1] in tuple(",.;:)?!"):
        phrase = phrase.removesuffix(",")
    direction = "up" if value_of(answer) > value_of(old) else "down"
    return text[: place.start()] + phrase.format(new=answer, old=old, direction=direction) + rest


def _earlier_value(answer: str, names: Sequence[str], rng: random.Random) -> str | None:
    """Another value of the answer's kind: a figure with other digits, or one of `names`; None
    without one.
    """
    if len(answer.split()) > MAX_ANSWER_WORDS:
        return None
    if number := re.search(NUMBER, answer):
        digits = [index for index in range(*number.span()) if answer[index].isdigit()]
        # only the last digits of a longer figure, so that it keeps its magnitude: 365 and 340, 1987
        # and 1983
        replaced = digits[-min(2, max(1, len(digits) - 1)) :]
        new_digits = {index: rng.choice("123456789") for index in replaced}
        old = "".join(new_digits.get(index, letter) for index, letter in enumerate(answer))
    else:
        old = rng.choice(names) if names else answer
    return old if old != answer else None


def _kind(question: str, answer: str) -> str:
    """The question word with the shape of the name that answers it, such as "who XX"; empty if it
    is not a name.
    """
    asked_for = _ASKED_FOR.search(question.lower())
    shape = "".join("X" if word[0].isupper() else "x" for word in answer.split())
    return f"{asked_for[1] or asked_for[2]} {shape}" if asked_for and shape.startswith("X") else ""
