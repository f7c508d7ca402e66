"""Measure changes that no document declares: right answers, and the changes that are recorded.

    python benchmarks/undeclared_changes.py data/company
    python benchmarks/undeclared_changes.py data/company --one-date    # compares no documents
    python benchmarks/undeclared_changes.py NEWS

A folder has `documents.jsonl` and `questions.jsonl`, and one of two files:

- `changes.jsonl`: a change a line, with the ids of its `earlier` and `later` document.
- `links.jsonl`: a story a line, whose `documents` change one fact in the order of their dates, or,
  if `update_of` (new → old) is there, only the documents that it names.

A question has a `kind`, or belongs to the group in which its story is asked: at its end, between
its dates, or on a trap. It has `answers`, or `tell`: for each value of its story the words that
distinguish the value from the others, and `right`, the index of the value in force; an answer then
gives the value of which it has the largest share of these words, and two alike are wrong. All
documents lie in one bank, without sources and without `supersedes`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from changes import asked_at, gives, knowing, when_asked
from protocol import ROOT, lines_file, read_lines, valid_rows

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.bank.changes import without_rivals
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column, rows_with
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.text.answers import words_of

Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """Documents, questions on them, and the changes between them."""

    documents: pa.Table
    questions: list[Row]  # each with the `kind` under which its outcome counts
    declared: set[tuple[str, str]]  # (earlier, later) documents: the changes to find
    right: set[tuple[str, str]]  # all pairs between which a change is right

    @classmethod
    def read(cls, folder: Path) -> "DataSet":
        """The data set in `folder`."""
        documents = valid_rows(lines_file(folder, "documents")).documents
        for name in ("source", "supersedes"):
            documents = replace_column(documents, name, [None] * documents.num_rows)
        questions = read_lines(folder, "questions")
        if lines_file(folder, "changes").exists():
            changes = read_lines(folder, "changes")
            pairs = {(change["earlier"], change["later"]) for change in changes}
            return cls(documents, questions, pairs, pairs)
        # 1. the stories, and their documents; a text that two stories share is there once
        stories = read_lines(folder, "links")
        story_of = {doc_id: story for story in stories for doc_id in story["documents"]}
        documents = rows_with(documents, "doc_id", set(story_of))
        # 2. their questions
        asked = [row for row in questions if row["doc_id"] in story_of]
        asked = [row | {"kind": when_asked(row, story_of[row["doc_id"]])} for row in asked]
        # 3. their changes
        banked = set(documents["doc_id"].to_pylist())
        links = {pair for story in stories for pair in linked(story) if banked.issuperset(pair)}
        return cls(documents, asked, links, links | set(pairs_of_changes(stories)))


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
    one_date: Annotated[
        bool, typer.Option(help="Give all documents one date, so that none are compared.")
    ] = False,
) -> None:
    """Measure answers and recorded changes."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    data, params = DataSet.read(folder), workspace.params
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
    answers = knowing(answerer, found).answer(
        [row["question"] for row in data.questions], as_of=[asked_at(row) for row in data.questions]
    )
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
    precision = len(data.right & pairs) / max(1, len(pairs))
    console().print(
        f"{len(pairs)} changes recorded, recall {recall:.2f}, precision {precision:.2f}"
    )


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


if __name__ == "__main__":
    run_script(main)
