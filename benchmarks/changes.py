"""Changes that no document declares: fit the comparison of statements, and measure answers and detected changes.

    python benchmarks/changes.py                       # four writers' stories, each by weights fitted on all others'
    python benchmarks/changes.py --writers abcdefghijk # every writer's
    python benchmarks/changes.py --stories my/stories  # other stories in the same form, by the weights in use

Without --stories it also fits to all stories, writes the comparison head beside the compressor, and prints the weights
for compressors without one (cmt/answering/statements.py).

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
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import typer
from protocol import valid_rows
from sklearn.linear_model import LogisticRegression

import cmt
from cmt.answering import statements
from cmt.answering.answerer import Answerer
from cmt.answering.statements import Features, features
from cmt.bank.lexical import coverage
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column
from cmt.evaluation.canary import RIGHT, contradicts
from cmt.evaluation.change_detection import find_changes
from cmt.evaluation.metrics import Floats, f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.comparison_head import ComparisonHead

ROOT = Path(__file__).resolve().parent.parent
OTHER_STORY = 0.3
"""Weight of a pair of two stories in the fit, that of one story being 1."""
SHARED = 0.06
"""Share of the earlier text's words in the later one from which a pair of two stories is fitted to."""
REGULARISATION = 0.1
"""C of the logistic regression, whose features are standardised."""
STATES = 0.1
"""Scale of the standardised states of ψ beside the other features; a smaller one regularises them more."""


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
        accepted = valid_rows(folder / "documents.jsonl")
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
    writers: Annotated[str, typer.Option(help="Writers whose stories are measured.")] = "abcd",
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
            bank.model.comparison = fitted(others)
            statements.WEIGHTS, statements.CONSTANT = fitted_without_states(others)
        if not own or part.writer in writers:
            with bank.answerer() as answerer:
                write_answers(part, answerer, bank.rows)
                write_changes(part, answerer, bank.rows)
    if own:
        everything = [pair for rows in pairs for pair in rows]
        fitted(everything).save(workspace.params.compressor.path)
        weights, constant = fitted_without_states(everything)
        rounded = ", ".join(f"{name}={weight:.3f}" for name, weight in zip(Features._fields, weights, strict=True))
        console().print(f"WEIGHTS = Features({rounded}); CONSTANT = {constant:.3f}", soft_wrap=True)


class TrainingPair(NamedTuple):
    """Two statements on a question."""

    features: Features
    states: Floats
    """(2·D,) ψ's mean states over the later answer, and over the later text."""
    later_holds: bool
    weight: float


def training_pairs(part: Stories, bank: TemporaryBank) -> Iterator[TrainingPair]:
    """Two statements on each question: of the document with the right answer, and of another one, most of its story."""
    size = bank.model.lm.hidden_size
    bank.model.comparison = ComparisonHead(torch.eye(size), (), 0.0)  # the states in all directions
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
                if same or coverage(earlier.text, later.text) >= SHARED:
                    values, states = features(question["question"], earlier, later), np.array(later.states)
                    yield TrainingPair(values, states, later is statements[0], 1.0 if same else OTHER_STORY)


def fitted(pairs: Sequence[TrainingPair]) -> ComparisonHead:
    """The comparison head of a logistic regression on features and states."""
    values: Floats = np.array([pair.features for pair in pairs], dtype=float)  # (n, features)
    states: Floats = np.array([pair.states for pair in pairs])  # (n, 2·D)
    scale = np.concatenate([1 / values.std(0), STATES / states.std(0)])
    weights, constant = _regression(np.concatenate([values, states], 1), scale, pairs)
    count = values.shape[1]
    directions = torch.tensor(weights[count:], dtype=torch.float32).view(2, -1)
    return ComparisonHead(directions, tuple(weights[:count].tolist()), constant)


def fitted_without_states(pairs: Sequence[TrainingPair]) -> tuple[Features, float]:
    """Weights and constant for the features alone."""
    values: Floats = np.array([pair.features for pair in pairs], dtype=float)  # (n, features)
    weights, constant = _regression(values, 1 / values.std(0), pairs)
    return Features(*weights), constant


def _regression(values: Floats, scale: Floats, pairs: Sequence[TrainingPair]) -> tuple[Floats, float]:
    """Weights and constant of a logistic regression on `values` (n, m), regularised where they are times `scale`."""
    model = LogisticRegression(C=REGULARISATION, max_iter=5000)
    mean = values.mean(0)
    labels, importance = [pair.later_holds for pair in pairs], [pair.weight for pair in pairs]
    model.fit((values - mean) * scale, labels, sample_weight=importance)
    weights = model.coef_[0] * scale
    return weights, float(model.intercept_[0] - weights @ mean)


def write_answers(part: Stories, answerer: Answerer, rows: pa.Table) -> None:
    """Print the shares of right, of wrong and likely, and of unsure answers by group of questions.

    "span right": whether ψ's best span in the document with the answer, read alone, is right.
    """
    questions = [question["question"] for question in part.questions]
    dates = [datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC) for question in part.questions]
    answers = answerer.answer(questions, as_of=dates)
    row_of = {row["doc_id"]: row for row in rows.to_pylist()}
    spans = answerer.statements(questions, [row_of[question["doc_id"]] for question in part.questions])

    def right(text: str, question: dict[str, Any]) -> bool:
        return f1(text, question["answers"]) >= RIGHT and not contradicts(text, question["answers"])

    outcomes = defaultdict(list)
    for question, answer, span in zip(part.questions, answers, spans, strict=True):
        is_right = right(answer.text if answer.known else "", question)
        outcomes[part.group(question)].append(
            (
                is_right,
                answer.verdict == "likely" and not is_right,
                answer.verdict == "unsure",
                right(span.answer, question),
            )
        )
    shares = [
        [part.writer, name, len(found), *(f"{100 * share:.1f}" for share in np.mean(found, axis=0))]
        for name, found in sorted(outcomes.items())
    ]
    write_table(["writer", "asked", "questions", "right", "wrong and likely", "unsure", "span right"], shares, left=2)


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
