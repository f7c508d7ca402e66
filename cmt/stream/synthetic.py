"""A stream without end: dated news of made-up towns, people and firms whose circumstances change, drawn from a seed.

For load and supersession tests, never for claims about quality: a few patterns make all its sentences, so a score on it
says nothing about text that people wrote.

It is told in eras of CAST lives with LAPS documents each. An era follows from the seed and its number alone: the memory
of one era is enough for any length, and a longer stream begins with the shorter one. Of each thing that is asked about
one statement holds at a time: a changed fact supersedes the statement before it, and so does the same fact in other
words. A rumour supersedes nothing, and a duplicate is a text that is there already, which `cmt ingest` leaves out.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cmt.common.dates import iso
from cmt.errors import ConfigError, StreamError
from cmt.stream.synthetic_vocabulary import ASIDES, KINDS, NOISE, RUMOURS, Attribute, name, person

CAST = 100
LAPS = 20
FIRST = datetime(1990, 1, 1, tzinfo=UTC)
BETWEEN = timedelta(days=1) / 100
"""From one document to the next: a million of them end in 2017."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Mix:
    """Shares of the documents that bring no new fact; the others do. ConfigError when they leave none."""

    paraphrase: float = 0.10
    """The standing fact in other words."""
    duplicate: float = 0.05
    """The standing statement again, to the letter."""
    contradiction: float = 0.05
    """A rumour of something else."""
    noise: float = 0.20
    """About the same name, and nothing that is asked for."""

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0 or sum(astuple(self)) >= 1:
            raise ConfigError(f"{self}: shares are 0 or more and leave room for facts, so their sum is below 1")


class _Statement(NamedTuple):
    """A document that says what holds from `at` on; `since` is when that became so."""

    row: Row
    at: datetime
    since: datetime
    value: str
    pattern: str


@dataclass
class _Life:
    """An entity in its era, and what was said of it so far."""

    name: str
    rng: random.Random
    seed: int
    said: dict[Attribute, list[_Statement]] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    """Texts and values that must not come again."""

    def document(self, number: int, attribute: Attribute, mix: Mix) -> Row:
        """The next document of this life, number `number` of the stream."""
        said = self.said.setdefault(attribute, [])
        kinds, shares = (*mix.__dataclass_fields__, "fact"), astuple(mix)
        kind = self.rng.choices(kinds, (*shares, 1 - sum(shares)))[0]
        if kind != "noise" and not said:
            kind = "fact"
        row = {
            "doc_id": f"c{self.seed}-{number:07d}",
            "published_at": iso(_published(number)),
            "title": attribute.title.format(name=self.name),
            "source": f"chronicle/{kind}",
            "supersedes": said[-1].row["doc_id"] if said and kind in ("fact", "paraphrase") else None,
        }
        if kind == "duplicate":
            return row | {"text": said[-1].row["text"]}
        if kind == "noise":
            return row | {"title": self.name, "text": self._told(lambda: self.rng.choice(NOISE))}
        if kind == "contradiction":
            return row | {"text": self._told(lambda: self._rumour(attribute))}
        return self._stated(row, attribute, _published(number), fresh=kind == "fact")

    def questions(self, until: datetime) -> Iterator[tuple[datetime, Row]]:
        """A question for each statement and when it is asked: while the statement stands, and before `until`."""
        for attribute, said in self.said.items():
            wording = self.rng.choice(attribute.questions).format(name=self.name)
            for place, one in enumerate(said):
                stands = (said[place + 1].at if place + 1 < len(said) else until) - one.at
                asked = one.at + timedelta(seconds=self.rng.randint(1, int(stands.total_seconds()) - 1))
                yield (
                    asked,
                    {
                        "question_id": f"{one.row['doc_id']}-q",
                        "doc_id": one.row["doc_id"],
                        "question": wording,
                        "answers": [one.value],
                        "asked_at": iso(asked),
                        "valid_from": iso(one.since),
                        "valid_to": next((iso(later.since) for later in said if later.since > one.since), None),
                    },
                )

    def _stated(self, row: Row, attribute: Attribute, at: datetime, *, fresh: bool) -> Row:
        said = self.said[attribute]
        last = said[-1] if said else None
        pattern = self.rng.choice([one for one in attribute.statements if last is None or one != last.pattern])
        value, since = (last.value, last.since) if last and not fresh else (self._value(attribute), at)
        sentence = pattern.format(name=self.name, value=value)
        if last and fresh and self.rng.random() < 0.5:
            sentence += f" Until now it was {last.value}."
        row["text"] = self._told(lambda: sentence)
        said.append(_Statement(row, at, since, value, pattern))
        return row

    def _rumour(self, attribute: Attribute) -> str:
        said = self.rng.choice(attribute.statements).format(name=self.name, value=self._value(attribute))
        return self.rng.choice(RUMOURS).format(said=said)

    def _value(self, attribute: Attribute) -> str:
        return self._new(lambda: attribute.draw(self.rng, self.seed))

    def _told(self, sentence: Callable[[], str]) -> str:
        """The sentence with two asides: a text of its own."""
        return self._new(lambda: " ".join(map(self._filled, (sentence(), *self.rng.sample(ASIDES, 2)))))

    def _filled(self, pattern: str) -> str:
        return pattern.format(name=self.name, who=person(self.rng, self.seed), n=self.rng.randint(2, 998))

    def _new(self, draw: Callable[[], str]) -> str:
        while (drawn := draw()) in self.spent:
            continue
        self.spent.add(drawn)
        return drawn


def chronicle(*, documents: int, seed: int, mix: Mix | None = None) -> Iterator[Row]:
    """The first `documents` of the stream and the questions asked meanwhile, by date, as rows of the `jsonl` format.

    A question also says from when (`valid_from`) and until when (`valid_to`, None: no change is to come) its answer
    holds. A document's `source` says what kind it is: chronicle/fact, /paraphrase, /duplicate, /contradiction, /noise.
    """
    if documents < 1:
        raise ConfigError(f"a chronicle of {documents} documents has nothing to tell: ask for 1 or more")
    left = documents
    for number in range(-(-documents // (CAST * LAPS))):
        for row in _era(number, seed, mix or Mix()):
            if left == 0:
                return
            left -= "text" in row
            yield row


def write_chronicle(
    path: Path, *, documents: int, seed: int, mix: Mix | None = None, on_progress: Callable[[int], None] | None = None
) -> int:
    """Write the chronicle to `path`, whole or not at all, as JSON lines; how many of them are questions.

    `on_progress` hears of every document. StreamError when the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    questions = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as out:
            for row in chronicle(documents=documents, seed=seed, mix=mix):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                questions += "question" in row
                if on_progress and "text" in row:
                    on_progress(1)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StreamError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return questions


def _era(number: int, seed: int, mix: Mix) -> list[Row]:
    """The documents and questions of an era, by date."""
    rng = random.Random(f"{seed} {number}")
    lives: list[tuple[_Life, tuple[Attribute, ...]]] = []
    for place in range(number * CAST, (number + 1) * CAST):
        kind = KINDS[place % len(KINDS)]
        lives.append((_Life(name(kind.forms, place // len(KINDS), seed), rng, seed), kind.attributes))
    first = number * CAST * LAPS
    order = [entry for _ in range(LAPS) for entry in rng.sample(lives, CAST)]
    told = [
        (_published(place), life.document(place, rng.choice(attributes), mix))
        for place, (life, attributes) in enumerate(order, first)
    ]
    end = _published(first + len(order))
    asked = [entry for life, _ in lives for entry in life.questions(end)]
    # sorting is stable: of one instant the document comes first
    return [row for _, row in sorted(told + asked, key=lambda entry: entry[0])]


def _published(number: int) -> datetime:
    return FIRST + number * BETWEEN
