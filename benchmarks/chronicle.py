"""A synthetic stream: dated news of invented towns, people and firms whose facts change, drawn from
a seed.

    python benchmarks/chronicle.py --documents 1500 --out chronicle.jsonl

It tests load and supersession. Templates (`chronicle.yaml`) make all its sentences, so a score on
it says nothing about text that people wrote.

The stream consists of eras with ENTITIES entities of DOCUMENTS_PER_ENTITY documents each. An era
depends only on the seed and its number: a stream of any length takes the memory of one era, and a
longer stream begins with the shorter one. One statement about each attribute of an entity holds at
a time: a changed fact supersedes the statement before it, and so does the same fact in other words.
A rumour supersedes nothing. A duplicate repeats an earlier text, which `cmt ingest` leaves out.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import yaml

from cmt.cli.context import run_script
from cmt.common.dates import iso

ENTITIES = 100  # of an era
DOCUMENTS_PER_ENTITY = 20
FIRST = datetime(1990, 1, 1, tzinfo=UTC)
INTERVAL = timedelta(days=1) / 100  # between two documents: a million of them end in 2017
SHARES = {"paraphrase": 0.10, "duplicate": 0.05, "contradiction": 0.05, "noise": 0.20}
"""Kinds of documents without a new fact and their shares; the rest are facts. A contradiction is a
rumour with another value, noise a text about the same entity that answers no question."""

Row = dict[str, Any]
WORDINGS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
ASIDES: list[str] = WORDINGS["asides"]
NOISE: list[str] = WORDINGS["noise"]
RUMOURS: list[str] = WORDINGS["rumours"]
_ONSETS, _MIDDLES, _ENDINGS, _COATS, _BEASTS = (
    WORDINGS[name].split() for name in ("onsets", "middles", "endings", "coats", "beasts")
)
_FORMS: dict[str, list[str]] = {
    name: kind["forms"].split() for name, kind in WORDINGS["kinds"].items()
}


@dataclass(frozen=True, eq=False)
class Attribute:
    """A property of an entity whose value changes."""

    title: str
    value: str  # kind of its values, see `draw`
    statements: list[str]
    questions: list[str]


_ATTRIBUTES = {
    name: [Attribute(**one) for one in kind["attributes"]]
    for name, kind in WORDINGS["kinds"].items()
}


def name(kind: str, number: int, seed: int) -> str:
    """Name number `number` of a kind. The first 100,000 names of a kind differ; the order depends
    on `seed`.
    """
    forms = _FORMS[kind]
    index = (number * 1_000_003 + seed * 7_919) % (
        len(_ONSETS) * len(_MIDDLES) * len(_ENDINGS) * len(forms)
    )
    index, onset = divmod(index, len(_ONSETS))
    index, middle = divmod(index, len(_MIDDLES))
    form, ending = divmod(index, len(_ENDINGS))
    return (
        forms[form].format(_ONSETS[onset] + _MIDDLES[middle] + _ENDINGS[ending]).replace("_", " ")
    )


def draw(value: str, rng: random.Random, seed: int) -> str:
    """A value: `crowns`, a `beast`, or a name of the kind `towns`, `people` or `firms`."""
    if value == "crowns":
        return f"{rng.randint(2, 998)} crowns"
    if value == "beast":
        return f"{rng.choice(_COATS)} {rng.choice(_BEASTS)}"
    return name(value, rng.randrange(100_000), seed)


class _Statement(NamedTuple):
    """A document that states the current value of an attribute."""

    row: Row
    published_at: datetime
    value: str
    pattern: str


@dataclass
class _Entity:
    """An entity in its era, and the statements about it so far."""

    name: str
    rng: random.Random
    seed: int
    statements: dict[Attribute, list[_Statement]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # texts and values that must not be drawn again

    def document(self, number: int, attribute: Attribute, shares: Mapping[str, float]) -> Row:
        """Draw the next document about this entity, which is number `number` of the stream."""
        statements = self.statements.setdefault(attribute, [])
        kind = self.rng.choices((*shares, "fact"), (*shares.values(), 1 - sum(shares.values())))[0]
        if kind != "noise" and not statements:  # no statement to repeat or to contradict yet
            kind = "fact"
        row = {
            "doc_id": f"c{self.seed}-{number:07d}",
            "published_at": iso(_published_at(number)),
            "title": attribute.title.format(name=self.name),
            "source": "chronicle",
            "kind": kind,
            "supersedes": statements[-1].row["doc_id"]
            if statements and kind in ("fact", "paraphrase")
            else None,
        }
        if kind == "duplicate":
            return row | {"text": statements[-1].row["text"]}
        if kind == "noise":
            return row | {
                "title": self.name,
                "text": self._draw_text(lambda: self.rng.choice(NOISE)),
            }
        if kind == "contradiction":
            return row | {"text": self._draw_text(lambda: self._draw_rumour(attribute))}
        return self._draw_statement(row, attribute, _published_at(number), new_value=kind == "fact")

    def questions(self, end: datetime) -> Iterator[tuple[datetime, Row]]:
        """Yield (instant of asking, question) for each statement: asked while it holds, and before
        `end` of the era.
        """
        for attribute, statements in self.statements.items():
            question = self.rng.choice(attribute.questions).format(name=self.name)
            for index, statement in enumerate(statements):
                superseded_at = (
                    statements[index + 1].published_at if index + 1 < len(statements) else end
                )
                seconds = int((superseded_at - statement.published_at).total_seconds())
                asked_at = statement.published_at + timedelta(
                    seconds=self.rng.randint(1, seconds - 1)
                )
                row = {
                    "question_id": f"{statement.row['doc_id']}-q",
                    "doc_id": statement.row["doc_id"],
                    "question": question,
                    "answers": [statement.value],
                    "asked_at": iso(asked_at),
                }
                yield asked_at, row

    def _draw_statement(
        self, row: Row, attribute: Attribute, at: datetime, *, new_value: bool
    ) -> Row:
        """`row` with the text of a statement that supersedes the last one: a new value, or the same
        in other words.
        """
        statements = self.statements[attribute]
        last = statements[-1] if statements else None
        pattern = self.rng.choice(
            [text for text in attribute.statements if last is None or text != last.pattern]
        )
        value = last.value if last and not new_value else self._draw_value(attribute)
        sentence = pattern.format(name=self.name, value=value)
        if last and new_value and self.rng.random() < 0.5:
            sentence += f" Until now it was {last.value}."
        row["text"] = self._draw_text(lambda: sentence)
        statements.append(_Statement(row, at, value, pattern))
        return row

    def _draw_rumour(self, attribute: Attribute) -> str:
        statement = self.rng.choice(attribute.statements).format(
            name=self.name, value=self._draw_value(attribute)
        )
        return self.rng.choice(RUMOURS).format(said=statement)

    def _draw_value(self, attribute: Attribute) -> str:
        return self._draw_unused(lambda: draw(attribute.value, self.rng, self.seed))

    def _draw_text(self, sentence: Callable[[], str]) -> str:
        """The sentence and two asides, as a text that was not used before."""
        return self._draw_unused(
            lambda: " ".join(map(self._fill, (sentence(), *self.rng.sample(ASIDES, 2))))
        )

    def _fill(self, pattern: str) -> str:
        return pattern.format(
            name=self.name, who=draw("people", self.rng, self.seed), n=self.rng.randint(2, 998)
        )

    def _draw_unused(self, draw: Callable[[], str]) -> str:
        while (text := draw()) in self.used:
            continue
        self.used.add(text)
        return text


def chronicle(*, documents: int, seed: int, rumours: bool = True) -> Iterator[Row]:
    """Yield the first `documents` of the stream and the questions asked meanwhile, by date, as rows
    of format `jsonl`.

    The `kind` of a document is fact or one of SHARES. Without `rumours` facts take their share.
    """
    remaining, shares = documents, SHARES if rumours else SHARES | {"contradiction": 0.0}
    for era in range(-(-documents // (ENTITIES * DOCUMENTS_PER_ENTITY))):
        for row in _era(era, seed, shares):
            if remaining == 0:
                return
            remaining -= "text" in row
            yield row


def _era(number: int, seed: int, shares: Mapping[str, float]) -> list[Row]:
    """The documents and questions of era `number`, by date."""
    rng = random.Random(f"{seed} {number}")
    # 1. the entities
    entities, kinds = list[tuple[_Entity, list[Attribute]]](), list(_FORMS)
    for index in range(number * ENTITIES, (number + 1) * ENTITIES):
        kind = kinds[index % len(kinds)]
        entities.append(
            (_Entity(name(kind, index // len(kinds), seed), rng, seed), _ATTRIBUTES[kind])
        )
    # 2. the documents; every entity has its turn once in each pass
    first = number * ENTITIES * DOCUMENTS_PER_ENTITY
    turns = [entry for _ in range(DOCUMENTS_PER_ENTITY) for entry in rng.sample(entities, ENTITIES)]
    documents = [
        (_published_at(index), entity.document(index, rng.choice(attributes), shares))
        for index, (entity, attributes) in enumerate(turns, first)
    ]
    # 3. the questions
    end = _published_at(first + len(turns))
    questions = [entry for entity, _ in entities for entry in entity.questions(end)]
    # sorting is stable: at the same instant the document comes first
    return [row for _, row in sorted(documents + questions, key=lambda entry: entry[0])]


def _published_at(number: int) -> datetime:
    return FIRST + number * INTERVAL


def main(
    documents: Annotated[int, typer.Option(min=1, help="Number of documents.")],
    out: Annotated[Path, typer.Option(help="JSON lines, for `cmt ingest --format jsonl`.")],
    seed: int = 0,
) -> None:
    """Write the stream."""
    lines = [
        json.dumps(row, ensure_ascii=False) for row in chronicle(documents=documents, seed=seed)
    ]
    out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    typer.echo(f"{out}: {documents:,} documents and {len(lines) - documents:,} questions")


if __name__ == "__main__":
    run_script(main)
