"""A synthetic stream of any length: dated news of invented towns, people and firms that change, drawn from a seed.

It serves tests of load and supersession, never claims about quality: a few patterns make all its sentences, so a score
on it says nothing about text that people wrote.

The stream consists of eras with ENTITIES entities of DOCUMENTS_PER_ENTITY documents each. An era depends on the seed
and its number alone: memory for one era is enough for any length, and a longer stream begins with the shorter one. Of
each attribute of an entity one statement holds at a time: a changed fact supersedes the statement before it, and so
does the same fact in other words. A rumour supersedes nothing. A duplicate repeats an earlier text, which `cmt ingest`
leaves out.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cmt.common.dates import iso
from cmt.common.progress import OnProgress
from cmt.common.storage import atomic_path
from cmt.errors import ConfigError, StreamError
from cmt.stream.synthetic_vocabulary import ASIDES, KINDS, NOISE, RUMOURS, Attribute, name, person

ENTITIES = 100
"""Entities in one era."""
DOCUMENTS_PER_ENTITY = 20
"""Documents about each entity of an era."""
FIRST = datetime(1990, 1, 1, tzinfo=UTC)
"""Date of the first document."""
INTERVAL = timedelta(days=1) / 100
"""Time between two documents: a million of them end in 2017."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Mix:
    """Shares of the documents without a new fact, 0–1; the rest are facts. Raises ConfigError if none remain."""

    paraphrase: float = 0.10
    """The current fact in other words."""
    duplicate: float = 0.05
    """The current statement, repeated literally."""
    contradiction: float = 0.05
    """A rumour with another value."""
    noise: float = 0.20
    """A text about the same entity that answers no question."""

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0 or sum(astuple(self)) >= 1:
            raise ConfigError(f"{self}: shares are 0 or more and leave room for facts, so their sum is below 1")


class _Statement(NamedTuple):
    """A document that states the current value of an attribute."""

    row: Row
    published_at: datetime
    valid_from: datetime
    """When the value became true; earlier than `published_at` in a paraphrase."""
    value: str
    pattern: str


@dataclass
class _Entity:
    """An entity in its era, and the statements about it so far."""

    name: str
    rng: random.Random
    seed: int
    statements: dict[Attribute, list[_Statement]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Texts and values that must not be drawn again."""

    def document(self, number: int, attribute: Attribute, mix: Mix) -> Row:
        """Draw the next document about this entity, which is number `number` of the stream."""
        statements = self.statements.setdefault(attribute, [])
        kinds, shares = (*mix.__dataclass_fields__, "fact"), astuple(mix)
        kind = self.rng.choices(kinds, (*shares, 1 - sum(shares)))[0]
        if kind != "noise" and not statements:  # there is nothing to repeat or to contradict yet
            kind = "fact"
        row = {
            "doc_id": f"c{self.seed}-{number:07d}",
            "published_at": iso(_published_at(number)),
            "title": attribute.title.format(name=self.name),
            "source": "chronicle",
            "kind": kind,
            "supersedes": statements[-1].row["doc_id"] if statements and kind in ("fact", "paraphrase") else None,
        }
        if kind == "duplicate":
            return row | {"text": statements[-1].row["text"]}
        if kind == "noise":
            return row | {"title": self.name, "text": self._draw_text(lambda: self.rng.choice(NOISE))}
        if kind == "contradiction":
            return row | {"text": self._draw_text(lambda: self._draw_rumour(attribute))}
        return self._draw_statement(row, attribute, _published_at(number), new_value=kind == "fact")

    def questions(self, end: datetime) -> Iterator[tuple[datetime, Row]]:
        """Yield (instant of asking, question) for each statement: asked while it holds, and before `end` of the era."""
        for attribute, statements in self.statements.items():
            question = self.rng.choice(attribute.questions).format(name=self.name)
            for place, statement in enumerate(statements):
                superseded_at = statements[place + 1].published_at if place + 1 < len(statements) else end
                seconds = int((superseded_at - statement.published_at).total_seconds())
                asked_at = statement.published_at + timedelta(seconds=self.rng.randint(1, seconds - 1))
                later = (other.valid_from for other in statements if other.valid_from > statement.valid_from)
                row = {
                    "question_id": f"{statement.row['doc_id']}-q",
                    "doc_id": statement.row["doc_id"],
                    "question": question,
                    "answers": [statement.value],
                    "asked_at": iso(asked_at),
                    "valid_from": iso(statement.valid_from),
                    "valid_to": next(map(iso, later), None),
                }
                yield asked_at, row

    def _draw_statement(self, row: Row, attribute: Attribute, at: datetime, *, new_value: bool) -> Row:
        """`row` with the text of a statement that supersedes the last one: a new value, or the same in other words."""
        statements = self.statements[attribute]
        last = statements[-1] if statements else None
        pattern = self.rng.choice([text for text in attribute.statements if last is None or text != last.pattern])
        if last and not new_value:
            value, valid_from = last.value, last.valid_from
        else:
            value, valid_from = self._draw_value(attribute), at
        sentence = pattern.format(name=self.name, value=value)
        if last and new_value and self.rng.random() < 0.5:
            sentence += f" Until now it was {last.value}."
        row["text"] = self._draw_text(lambda: sentence)
        statements.append(_Statement(row, at, valid_from, value, pattern))
        return row

    def _draw_rumour(self, attribute: Attribute) -> str:
        statement = self.rng.choice(attribute.statements).format(name=self.name, value=self._draw_value(attribute))
        return self.rng.choice(RUMOURS).format(said=statement)

    def _draw_value(self, attribute: Attribute) -> str:
        return self._draw_unused(lambda: attribute.draw(self.rng, self.seed))

    def _draw_text(self, sentence: Callable[[], str]) -> str:
        """The sentence and two asides, as a text that was not used before."""
        return self._draw_unused(lambda: " ".join(map(self._fill, (sentence(), *self.rng.sample(ASIDES, 2)))))

    def _fill(self, pattern: str) -> str:
        return pattern.format(name=self.name, who=person(self.rng, self.seed), n=self.rng.randint(2, 998))

    def _draw_unused(self, draw: Callable[[], str]) -> str:
        while (text := draw()) in self.used:
            continue
        self.used.add(text)
        return text


def chronicle(*, documents: int, seed: int, mix: Mix | None = None) -> Iterator[Row]:
    """Yield the first `documents` of the stream and the questions asked meanwhile, by date, as rows of format `jsonl`.

    A question also has the dates from which (`valid_from`) and until which (`valid_to`, None: no change follows) its
    answer is true. The `kind` of a document is fact, paraphrase, duplicate, contradiction or noise. Raises ConfigError
    if `documents` is below 1.
    """
    if documents < 1:
        raise ConfigError(f"a chronicle of {documents} documents is empty: ask for 1 or more")
    remaining = documents
    for era in range(-(-documents // (ENTITIES * DOCUMENTS_PER_ENTITY))):
        for row in _era(era, seed, mix or Mix()):
            if remaining == 0:
                return
            remaining -= "text" in row
            yield row


def write_chronicle(
    path: Path, *, documents: int, seed: int, mix: Mix | None = None, on_progress: OnProgress | None = None
) -> int:
    """Write the chronicle to `path` as JSON lines, atomically, and return the number of questions.

    `on_progress` is called for every document. Raises StreamError if the file cannot be written.
    """
    questions = 0
    try:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
            for row in chronicle(documents=documents, seed=seed, mix=mix):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                questions += "question" in row
                if on_progress and "text" in row:
                    on_progress(1)
    except OSError as error:
        raise StreamError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
    return questions


def _era(number: int, seed: int, mix: Mix) -> list[Row]:
    """The documents and questions of era `number`, by date."""
    rng = random.Random(f"{seed} {number}")
    # 1. the entities
    entities: list[tuple[_Entity, tuple[Attribute, ...]]] = []
    for place in range(number * ENTITIES, (number + 1) * ENTITIES):
        kind = KINDS[place % len(KINDS)]
        entities.append((_Entity(name(kind.forms, place // len(KINDS), seed), rng, seed), kind.attributes))
    # 2. the documents; every entity has its turn once in each pass
    first = number * ENTITIES * DOCUMENTS_PER_ENTITY
    turns = [entry for _ in range(DOCUMENTS_PER_ENTITY) for entry in rng.sample(entities, ENTITIES)]
    documents = [
        (_published_at(place), entity.document(place, rng.choice(attributes), mix))
        for place, (entity, attributes) in enumerate(turns, first)
    ]
    # 3. the questions
    end = _published_at(first + len(turns))
    questions = [entry for entity, _ in entities for entry in entity.questions(end)]
    # sorting is stable: at the same instant the document comes first
    return [row for _, row in sorted(documents + questions, key=lambda entry: entry[0])]


def _published_at(number: int) -> datetime:
    return FIRST + number * INTERVAL
