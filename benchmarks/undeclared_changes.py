"""Measure changes that no document declares: right answers, and the changes that are recorded.

    python benchmarks/undeclared_changes.py data/company
    python benchmarks/undeclared_changes.py data/company --one-date    # compares no documents
    python benchmarks/undeclared_changes.py NEWS [--groups FILE]

A folder has `documents.jsonl` and `questions.jsonl`, and one of two files:

- `changes.jsonl`: a change a line, with the ids of its `earlier` and `later` document.
- `links.jsonl`: a story a line, whose `documents` change one fact in the order of their dates, or,
  if `update_of` (new → old) is there, only the documents that it names.

A question has a `kind`, or belongs to the group in which its story is asked: at its end, between
its dates, or on a trap. It has `answers`, or `tell`: for each value of its story the words that
distinguish the value from the others, and `right`, the index of the value in force; an answer then
gives the value of which it has the largest share of these words, and two alike are wrong. All
documents lie in one bank, without sources and without `supersedes`. `--groups`: a file with the
`group` of each story; only the groups that `kept_apart` chooses are measured.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import typer
from protocol import ROOT, lines_file, read_lines, valid_rows

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.bank.changes import Change, without_rivals
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column, rows_with
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.gate.canary import RIGHT, contradicts
from cmt.evaluation.metrics import f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.text.answers import words_of

KEPT_APART = 0.2  # share of the groups that only measure

Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """Documents, questions on them, and the changes between them."""

    documents: pa.Table
    questions: list[Row]  # each with the `kind` under which its outcome counts
    declared: set[tuple[str, str]]  # (earlier, later) documents: the changes to find
    right: set[tuple[str, str]]  # … and other pairs of documents that are right too

    @classmethod
    def read(cls, folder: Path, groups: Path | None = None) -> "DataSet":
        """The data set in `folder`, or its stories in the `groups` that are kept apart."""
        documents = valid_rows(lines_file(folder, "documents")).documents
        for name in ("source", "supersedes"):
            documents = replace_column(documents, name, [None] * documents.num_rows)
        questions = read_lines(folder, "questions")
        if (folder / "changes.jsonl").exists():
            changes = read_lines(folder, "changes")
            pairs = {(change["earlier"], change["later"]) for change in changes}
            return cls(documents, questions, pairs, pairs)
        # 1. the stories, and their documents; a text that two stories share is there once
        stories = read_lines(folder, "links")
        if groups:
            group_of = {
                row["story"]: row["group"]
                for row in map(json.loads, groups.read_text(encoding="utf-8").splitlines())
            }
            stories = [story for story in stories if kept_apart(group_of[story["story"]])]
        story_of = {doc_id: story for story in stories for doc_id in story["documents"]}
        documents = rows_with(documents, "doc_id", set(story_of))
        # 2. their questions
        asked = [row for row in questions if row["doc_id"] in story_of]
        asked = [row | {"kind": when_asked(row, story_of[row["doc_id"]])} for row in asked]
        # 3. their changes
        banked = set(documents["doc_id"].to_pylist())
        links = {pair for story in stories for pair in linked(story) if banked.issuperset(pair)}
        return cls(documents, asked, links, links | set(pairs_of_changes(stories)))


def kept_apart(group: str) -> bool:
    """Whether stories of `group` only measure; no training sees them."""
    return crc32(group.encode()) % 1000 < 1000 * KEPT_APART


def when_asked(question: Row, story: Row) -> str:
    """Whether the question is asked at the end of its story, between its dates, or on a trap."""
    if story["kind"].startswith("trap"):
        return "trap"
    return "end" if question["doc_id"] == story["documents"][-1] else "between"


def linked(story: Row) -> Iterator[tuple[str, str]]:
    """The pairs (earlier, later) of documents of which the later one changes the earlier one."""
    ids = story["documents"]
    for new, old in story.get("update_of", dict(zip(ids[1:], ids, strict=False))).items():
        yield old, new


def pairs_of_changes(stories: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """All pairs of documents of the stories without traps: a change between them is right."""
    for story in stories:
        if story["kind"].startswith("change"):
            for index, later in enumerate(story["documents"]):
                yield from ((earlier, later) for earlier in story["documents"][:index])


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    groups: Annotated[Path | None, typer.Option(help="File with the group of each story.")] = None,
    one_date: Annotated[
        bool, typer.Option(help="Give all documents one date, so that none are compared.")
    ] = False,
) -> None:
    """Measure answers and recorded changes."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    data, params = DataSet.read(folder, groups), workspace.params
    documents = data.documents
    if one_date:
        first = documents["published_at"][0]
        documents = replace_column(documents, "published_at", [first] * documents.num_rows)
    lm, path = workspace.project.lm, params.compressor.path
    bank = TemporaryBank.of(path, lm=lm, documents=documents, params=params)
    with bank.answerer() as answerer:
        write_measured(data, answerer, bank.rows)


def write_measured(data: DataSet, answerer: Answerer, rows: pa.Table) -> None:
    """Print the answers, then the changes recorded."""
    found = without_rivals(find_changes(answerer, rows))
    # 1. answers
    answers = answers_with(data, answerer, found)
    outcomes = defaultdict(list)
    for question, answer in zip(data.questions, answers, strict=True):
        outcomes[question["kind"]].append(outcome_of(question, answer))
    table = [
        [name, len(shares), *(f"{100 * share:.1f}" for share in np.mean(shares, axis=0))]
        for name, shares in sorted(outcomes.items())
    ]
    names = ("right", "other value", "not in memory", "unsure", "wrong and likely")
    write_table(["asked", "questions", *names], table, left=1)
    # 2. changes
    pairs = {change.doc_ids for change in found}
    recall = len(data.declared & pairs) / max(1, len(data.declared))
    precision = len((data.declared | data.right) & pairs) / max(1, len(pairs))
    console().print(
        f"{len(pairs)} changes recorded, recall {recall:.2f}, precision {precision:.2f}"
    )


def answers_with(data: DataSet, answerer: Answerer, found: Sequence[Change]) -> list[Answer]:
    """The answers to all questions, each as of its date, where the changes `found` are recorded."""

    def changes_of(doc_ids: set[str] | None) -> list[Change]:
        if doc_ids is None:
            return list(found)
        return [change for change in found if not doc_ids.isdisjoint(change.doc_ids)]

    dates = []
    for row in data.questions:
        dates.append(datetime.fromisoformat(row["asked_at"]).replace(hour=23, tzinfo=UTC))
    questions = [row["question"] for row in data.questions]
    return replace(answerer, changes_of=changes_of).answer(questions, as_of=dates)


def outcome_of(question: Row, answer: Answer) -> tuple[bool, ...]:
    """Whether the answer is right, another value, missing, unsure, or wrong and likely."""
    text = answer.text if answer.known else ""
    right, other = given(text, question)
    unsure, likely = answer.verdict == "unsure", answer.verdict == "likely"
    return right, other, not answer.known, unsure, likely and not right


def given(text: str, question: Row) -> tuple[bool, bool]:
    """Whether an answer gives the right value, and whether it gives another value."""
    if "tell" not in question:
        right = gives(text, question["answers"])
        return right, not right and gives(text, question.get("wrong", []))
    words = words_of(text)
    shares = [len(words.intersection(tell)) / max(1, len(tell)) for tell in question["tell"]]
    best = max(shares)
    if best == 0 or shares.count(best) > 1:
        return False, False
    return shares.index(best) == question["right"], shares.index(best) != question["right"]


def gives(text: str, values: list[str]) -> bool:
    """Whether an answer gives one of the values."""
    return bool(values) and f1(text, values) >= RIGHT and not contradicts(text, values)


if __name__ == "__main__":
    run_script(main)
