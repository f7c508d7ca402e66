"""Changes that no document declares: fit the comparison of statements, and measure answers and detected changes.

    python benchmarks/changes.py                       # each writer's stories, by weights fitted on the others'
    python benchmarks/changes.py --stories my/stories  # other stories in the same form, by the weights in use

Without --stories it also prints the weights for cmt/answering/statements.py, fitted on all stories.

A folder of stories has documents.jsonl and questions.jsonl in the project's own format, and links.jsonl with a story a
line: its `kind` (change/… or trap/…), its `documents` by date, and `update_of` (new → old). The first letter of an id
names the writer. A bank holds the documents of one writer without source and supersedes. Questions are asked at the end
of a story, between the dates of a change, or on a trap, where the newest document is not the answer. Prints shares in
percent, and precision and recall of the changes that `cmt.evaluation.change_detection` finds, by kind of telling.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import cmt
from cmt.answering import statements
from cmt.answering.answerer import Answerer
from cmt.answering.statements import FEWEST_SHARED, Features, features
from cmt.bank.lexical import coverage
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column
from cmt.evaluation.canary import RIGHT, contradicts
from cmt.evaluation.change_detection import find_changes
from cmt.evaluation.metrics import Floats, f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.stream import readers
from cmt.stream.admission import select_with_unanswerable

ROOT = Path(__file__).resolve().parent.parent
OTHER_STORY = 0.3
"""Weight of a pair of two stories in the fit, that of one story being 1."""
REGULARISATION = 1.0
"""C of the logistic regression, whose features are standardised."""


@dataclass(frozen=True)
class Stories:
    """The stories of one writer."""

    writer: str
    documents: pa.Table
    questions: list[dict[str, Any]]
    story_of: dict[str, dict[str, Any]]
    """doc_id → its line of links.jsonl."""

    @classmethod
    def read(cls, folder: Path) -> "list[Stories]":
        """The stories in `folder`, by writer."""
        now = datetime.max.replace(tzinfo=UTC)
        accepted = select_with_unanswerable(readers.read(folder / "documents.jsonl", "jsonl"), now=now)
        lines = (folder / "questions.jsonl").read_text().splitlines()
        links = [json.loads(line) for line in (folder / "links.jsonl").read_text().splitlines()]
        story_of = {doc_id: story for story in links for doc_id in story["documents"]}
        by_writer = defaultdict(list)
        for question in map(json.loads, lines):
            by_writer[question["doc_id"][0]].append(question)
        bare = accepted.documents
        for name in ("source", "supersedes"):
            bare = replace_column(bare, name, [None] * bare.num_rows)
        writers = np.array([doc_id[0] for doc_id in bare["doc_id"].to_pylist()])
        return [
            cls(name, bare.filter(pa.array(writers == name)), by_writer[name], story_of) for name in sorted(by_writer)
        ]

    def group(self, question: dict[str, Any]) -> str:
        """Whether `question` is asked at the end, between the dates, or on a trap."""
        story = self.story_of[question["doc_id"]]
        if story["kind"].startswith("trap"):
            return "trap"
        return "end" if question["doc_id"] == story["documents"][-1] else "between"


def main(
    stories: Annotated[Path, typer.Option(help="Folder of stories.")] = ROOT / "data/stories",
) -> None:
    """Measure answers where facts change without a label."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    parts = Stories.read(stories)
    banks = [
        TemporaryBank.of(
            workspace.params.compressor.path, lm=workspace.lm, documents=part.documents, params=workspace.params
        )
        for part in parts
    ]
    own = stories.resolve() == ROOT / "data/stories"
    pairs = [list(training_pairs(part, bank)) for part, bank in zip(parts, banks, strict=True)] if own else []
    for number, (part, bank) in enumerate(zip(parts, banks, strict=True)):
        if own:
            others = [pair for other, rows in enumerate(pairs) if other != number for pair in rows]
            statements.WEIGHTS, statements.CONSTANT = fitted(others)
        with bank.answerer() as answerer:
            write_answers(part, answerer)
            write_changes(part, answerer, bank.rows)
    if own:
        weights, constant = fitted([pair for rows in pairs for pair in rows])
        rounded = ", ".join(f"{name}={weight:.3f}" for name, weight in zip(Features._fields, weights, strict=True))
        console().print(f"WEIGHTS = Features({rounded}); CONSTANT = {constant:.3f}", soft_wrap=True)


def training_pairs(part: Stories, bank: TemporaryBank) -> Iterator[tuple[Features, bool, float]]:
    """Features of two statements on a question, whether the later one is right, and the weight of the pair.

    One is in the document with the right answer; the other is in a document of its story, or in one like it.
    """
    rows = {row["doc_id"]: row for row in bank.rows.to_pylist()}
    with bank.answerer() as answerer:
        for question in part.questions:
            as_of = datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC)
            right, story = rows[question["doc_id"]], part.story_of[question["doc_id"]]
            found = answerer.bank.search(key=np.array(right["key"]), text=right["text"], k=2, as_of=as_of)
            others = [
                rows[doc_id]
                for doc_id in dict.fromkeys([*story["documents"], *found["doc_id"].to_pylist()])
                if rows[doc_id]["published_at"] not in (right["published_at"],)
                and rows[doc_id]["published_at"] <= as_of
            ]
            statements = answerer.statements([question["question"]] * (1 + len(others)), [right, *others])
            for other, statement in zip(others, statements[1:], strict=True):
                earlier, later = sorted((statements[0], statement), key=lambda one: one.published_at)
                same = other["doc_id"] in story["documents"]
                if same or coverage(earlier.text, later.text) >= FEWEST_SHARED / 2:
                    weight = 1.0 if same else OTHER_STORY
                    yield features(question["question"], earlier, later), later is statements[0], weight


def fitted(pairs: Sequence[tuple[Features, bool, float]]) -> tuple[Features, float]:
    """Weights and constant of the logistic regression."""
    values: Floats = np.array([pair[0] for pair in pairs], dtype=float)  # (n, features)
    scaler = StandardScaler().fit(values)
    model = LogisticRegression(C=REGULARISATION, max_iter=5000)
    model.fit(scaler.transform(values), [pair[1] for pair in pairs], sample_weight=[pair[2] for pair in pairs])
    weights = model.coef_[0] / scaler.scale_
    return Features(*weights), float(model.intercept_[0] - weights @ scaler.mean_)


def write_answers(part: Stories, answerer: Answerer) -> None:
    """Print the shares of right, of wrong and likely, and of unsure answers by group of questions."""
    dates = [datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC) for question in part.questions]
    answers = answerer.answer([question["question"] for question in part.questions], as_of=dates)
    outcomes = defaultdict(list)
    for question, answer in zip(part.questions, answers, strict=True):
        text = answer.text if answer.known else ""
        right = f1(text, question["answers"]) >= RIGHT and not contradicts(text, question["answers"])
        outcomes[part.group(question)].append(
            (right, answer.verdict == "likely" and not right, answer.verdict == "unsure")
        )
    rows = [
        [part.writer, name, len(found), *(f"{100 * share:.1f}" for share in np.mean(found, axis=0))]
        for name, found in sorted(outcomes.items())
    ]
    write_table(["writer", "asked", "questions", "right", "wrong and likely", "unsure"], rows, left=2)


def write_changes(part: Stories, answerer: Answerer, rows: pa.Table) -> None:
    """Print precision and recall of the detected changes, by kind of telling."""
    found = {change.doc_ids for change in find_changes(answerer, rows)}
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # declared by the links, found of these, found
    for story in {
        story["story"]: story for story in part.story_of.values() if story["story"][0] == part.writer
    }.values():
        links = {(old, new) for new, old in story["update_of"].items()}
        inside = {pair for pair in found if set(pair) <= set(story["documents"])}
        later = {(one, two) for one in story["documents"] for two in story["documents"] if one < two}
        true = inside & (later if story["kind"].startswith("change") else links)
        for kind in (story["kind"].rsplit("/", 1)[-1], "all"):
            for index, number in enumerate((len(links), len(links & found), len(true))):
                counts[kind][index] += number
    total, hit, true_found = counts["all"]
    precision, recall = true_found / max(1, len(found)), hit / max(1, total)
    rows_ = [[part.writer, kind, total, hit] for kind, (total, hit, _) in sorted(counts.items()) if total]
    write_table(["writer", "telling", "changes", "found"], rows_, left=2)
    console().print(f"{len(found)} found, precision {precision:.2f}, recall {recall:.2f}")


if __name__ == "__main__":
    run_script(main)
