"""Training text that tells of changes: here and there a paragraph names, beside an answer, what held before.

News say "two euros instead of three"; an encyclopedia, which training text is made of, seldom does. So of some
paragraphs the answers get a neighbour of their own kind – another figure, another name – in words from which a reader
knows which of the two holds now. Question and answer stay as they are.
"""

import random
import re
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

SHARE = 0.5  # of the paragraphs
OFTEN = 0.5  # how many of the answers in such a paragraph, where one can be had
MOST_WORDS = 4  # of an answer that is given a neighbour

_EITHER = (
    "{new} instead of {old}",
    "no longer {old} but {new}",
    "{new}, not {old} any more,",
    "{new} ({old} until then)",
    "{new} in place of {old}",
)
_FIGURES = (
    "from {old} to {new}",
    "{new} from {old}",
    "{new}, {way} from {old},",
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
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_YEAR = re.compile(r"\b1\d{3}\b|\b20\d\d\b")
_ASKED_FOR = re.compile(r"\b(?:(who|where)|(?:what|which) (\w+))")
_CLOSED = re.compile(r"\W*(?:$|[,.;:)?!]| [^A-Z\d])")
"""What may follow an answer that stands for itself: punctuation, or a word that is no part of a name or a figure."""


def add_changed_values(documents: pa.Table, questions: pa.Table, *, seed: int) -> pa.Table:
    """`documents`, a share of them with changes told in `text`; a pure function of the tables and the seed.

    Every answer that stood in a text still does, and none of the values that were put in is an answer to a question
    on it.
    """
    asked, kinds = defaultdict(list), defaultdict(set)
    for row in questions.select(["doc_id", "question", "answers"]).to_pylist():
        answer = row["answers"][0]
        kind = _kind(row["question"], answer)
        asked[row["doc_id"]].append((answer, kind))
        kinds[kind].add(answer)
    known = {kind: sorted(members) for kind, members in kinds.items() if kind}
    texts = []
    for row in documents.select(["doc_id", "text"]).to_pylist():
        rng = random.Random(f"{seed} {row['doc_id']}")
        told = rng.random() < SHARE
        texts.append(_told(row["text"], asked[row["doc_id"]], known, rng) if told else row["text"])
    return documents.set_column(documents.schema.get_field_index("text"), documents.field("text"), pa.array(texts))


def _told(text: str, asked: Sequence[tuple[str, str]], known: dict[str, list[str]], rng: random.Random) -> str:
    """The text with some of its answers in a change."""
    answers = [answer for answer, _ in asked]
    for answer, kind in asked:
        old = _before(answer, known.get(kind, []), rng) if rng.random() < OFTEN else None
        place = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
        if old is None or place is None or old in text or not _CLOSED.match(text, place.end()):
            continue
        if any(old.lower() in other.lower() for other in answers):
            continue
        said, following = rng.choice(_patterns(answer)), text[place.end() :]
        if following[:1] in tuple(",.;:)?!"):
            said = said.removesuffix(",")
        way = "up" if _value(answer) > _value(old) else "down"
        changed = text[: place.start()] + said.format(new=answer, old=old, way=way) + following
        if all(other in changed for other in answers if other in text):
            text = changed
    return text


def _patterns(answer: str) -> tuple[str, ...]:
    if _YEAR.search(answer):
        return _EITHER
    return _EITHER + (_FIGURES if _NUMBER.search(answer) else _NAMES)


def _before(answer: str, alike: Sequence[str], rng: random.Random) -> str | None:
    """Something else of the answer's kind; None where that cannot be had."""
    if len(answer.split()) > MOST_WORDS:
        return None
    if number := _NUMBER.search(answer):
        digits = [place for place in range(*number.span()) if answer[place].isdigit()]
        # the last digits of a longer figure, so that it stays one of its size: 365 and 340, 1987 and 1983
        changing = digits[-min(2, max(1, len(digits) - 1)) :]
        drawn = {place: rng.choice("123456789") for place in changing}
        old = "".join(drawn.get(place, letter) for place, letter in enumerate(answer))
    else:
        old = rng.choice(alike) if alike else answer
    return old if old != answer else None


def _kind(question: str, answer: str) -> str:
    """What is asked for, and a letter for every word of a name that was answered; empty for what is not a name."""
    asked = _ASKED_FOR.search(question.lower())
    shape = "".join("X" if word[0].isupper() else "x" for word in answer.split())
    return f"{asked[1] or asked[2]} {shape}" if asked and shape.startswith("X") else ""


def _value(text: str) -> float:
    number = _NUMBER.search(text)
    return float(number[0].replace(",", "")) if number else 0.0
