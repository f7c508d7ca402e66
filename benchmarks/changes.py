"""Changes that no document declares: measure answers and detected changes.

    # measure the writers that the cross-encoder has not seen
    python benchmarks/changes.py --writers ικλμυφΣΦЖЭ
    # measure other stories in the same form
    python benchmarks/changes.py --stories my/stories
    # fit the weights of the cross-encoder and of ψ's scores
    python benchmarks/changes.py --calibrate Xx

A folder of stories has documents.jsonl and questions.jsonl in the project's own format, and
links.jsonl with a story a line: its `kind` (change/… or trap/…), its `documents` by date, and
`update_of` (new → old). The first letter of an id names the writer. A bank holds the documents of
one writer without `supersedes`, and each source may change the facts of any other. The changes
between its documents are recorded as in a round. Questions are asked at the end of a story, between
the dates of a change, or on a trap, where the newest document is not the answer. Prints shares in
percent, and precision and recall of the recorded changes, by kind of telling.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import typer
from protocol import ROOT, lines_file, read_stories, valid_rows
from sklearn.linear_model import LogisticRegression

import cmt
from cmt.answering.answerer import Answerer
from cmt.answering.judge import Judge, lead
from cmt.bank.changes import Change, without_rivals
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.gate.canary import RIGHT, contradicts
from cmt.evaluation.metrics import f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.cross_encoder import Odds
from cmt.text.overlap import coverage

# share of the earlier text's words in the later one from which a pair of two stories is fitted to
SHARED = 0.06


@dataclass(frozen=True)
class Stories:
    """The stories of one writer."""

    writer: str
    documents: pa.Table
    questions: list[dict[str, Any]]
    story_of: dict[str, dict[str, Any]]  # doc_id → its line of links.jsonl

    @classmethod
    def read(cls, folder: Path) -> "list[Stories]":
        """The stories in `folder`, by writer."""
        _, questions, links = read_stories(folder)
        story_of = {doc_id: story for story in links for doc_id in story["documents"]}
        by_writer = defaultdict(list)
        for question in questions:
            by_writer[question["doc_id"][0]].append(question)
        documents = valid_rows(lines_file(folder, "documents")).documents
        bare = replace_column(documents, "supersedes", [None] * documents.num_rows)
        writers = np.array([doc_id[0] for doc_id in bare["doc_id"].to_pylist()])
        return [
            cls(name, bare.filter(pa.array(writers == name)), by_writer[name], story_of)
            for name in sorted(by_writer)
        ]

    def group(self, question: dict[str, Any]) -> str:
        """Whether `question` is asked at the end, between the dates, or on a trap."""
        return when_asked(question, self.story_of[question["doc_id"]])


def when_asked(question: dict[str, Any], story: dict[str, Any]) -> str:
    """Whether `question` is asked at the end of its story, between its dates, or on a trap."""
    if story["kind"].startswith("trap"):
        return "trap"
    return "end" if question["doc_id"] == story["documents"][-1] else "between"


def main(
    stories: Annotated[Path, typer.Option(help="Folder of stories.")] = ROOT / "data/stories",
    writers: Annotated[str, typer.Option(help="Writers that are measured; none: all.")] = "",
    calibrate: Annotated[
        str,
        typer.Option(
            help="Writers that the cross-encoder has not seen; CALIBRATION is fitted to them."
        ),
    ] = "",
) -> None:
    """Measure answers where facts change without a label, or fit the weights of the judge."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    chosen, lm, params = writers + calibrate, workspace.project.lm, workspace.params
    parts = [part for part in Stories.read(stories) if part.writer in chosen or not chosen]
    folder = params.compressor.path
    banked = [
        (part, TemporaryBank.of(folder, lm=lm, documents=part.documents, params=params))
        for part in parts
    ]
    # 1. measure
    if not calibrate:
        for part, bank in banked:
            measure(part, bank)
        return
    # 2. fit the constant CALIBRATION
    pairs = [pair for part, bank in banked for pair in training_pairs(part, bank)]
    console().print(f"CALIBRATION: {calibration(pairs)}, {len(pairs)} pairs")


def measure(part: Stories, bank: TemporaryBank) -> None:
    """Print the answers and the detected changes of one writer."""
    with bank.answerer() as answerer:
        found = without_rivals(find_changes(answerer, bank.rows))
        write_answers(part, knowing(answerer, found), bank.rows)
    write_changes(part, {change.doc_ids for change in found})


def knowing(answerer: Answerer, found: Sequence[Change]) -> Answerer:
    """`answerer` as if a round had recorded the changes `found`."""

    def changes_of(doc_ids: set[str] | None) -> list[Change]:
        if doc_ids is None:
            return list(found)
        return [change for change in found if not doc_ids.isdisjoint(change.doc_ids)]

    return replace(answerer, changes_of=changes_of)


def asked_at(question: dict[str, Any]) -> datetime:
    """The end of the day on which `question` is asked."""
    return datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC)


def gives(text: str, values: list[str]) -> bool:
    """Whether an answer gives one of the values."""
    return bool(values) and f1(text, values) >= RIGHT and not contradicts(text, values)


class TrainingPair(NamedTuple):
    """Two statements on a question."""

    odds: Odds  # of the cross-encoder
    lead: float  # nats by which ψ scores the later answer higher
    later_holds: bool


def training_pairs(part: Stories, bank: TemporaryBank) -> Iterator[TrainingPair]:
    """Two statements on each question: of the document with the right answer, and of another one,
    most of its story.
    """
    rows = {row["doc_id"]: row for row in bank.rows.to_pylist()}
    judge = Judge(bank.model.cross_encoder)
    with bank.answerer() as answerer:
        for question in part.questions:
            as_of = asked_at(question)
            right, story = rows[question["doc_id"]], part.story_of[question["doc_id"]]
            found = answerer.bank.search(
                key=np.array(right["key"]), text=right["text"], k=2, as_of=as_of
            )
            others = [
                rows[doc_id]
                for doc_id in dict.fromkeys([*story["documents"], *found["doc_id"].to_pylist()])
                if rows[doc_id]["published_at"] != right["published_at"]
                and rows[doc_id]["published_at"] <= as_of
            ]
            text = question["question"]
            statements = answerer.statements([text] * (1 + len(others)), [right, *others])
            for other, statement in zip(others, statements[1:], strict=True):
                earlier, later = sorted(
                    (statements[0], statement), key=lambda one: one.published_at
                )
                same = other["doc_id"] in story["documents"]
                if same or coverage(earlier.text, later.text) >= SHARED:
                    odds = judge.read(text, earlier, later)
                    yield TrainingPair(odds, lead(earlier, later), later is statements[0])


def calibration(pairs: Sequence[TrainingPair]) -> list[float]:
    """Constant, and weights of the cross-encoder's two log-odds and of the lead."""
    values = [(*pair.odds, pair.lead) for pair in pairs]
    model = LogisticRegression().fit(values, [pair.later_holds for pair in pairs])
    return [round(float(value), 2) for value in (model.intercept_[0], *model.coef_[0])]


def write_answers(part: Stories, answerer: Answerer, rows: pa.Table) -> None:
    """Print the shares of right, of wrong and likely, and of unsure answers by group of questions.

    "span right": whether ψ's best span in the document with the answer, read alone, is right.
    """
    questions = [question["question"] for question in part.questions]
    dates = [asked_at(question) for question in part.questions]
    answers = answerer.answer(questions, as_of=dates)
    row_of = {row["doc_id"]: row for row in rows.to_pylist()}
    spans = answerer.statements(
        questions, [row_of[question["doc_id"]] for question in part.questions]
    )

    outcomes = defaultdict(list)
    for question, answer, span in zip(part.questions, answers, spans, strict=True):
        is_right = gives(answer.text if answer.known else "", question["answers"])
        wrong = answer.verdict == "likely" and not is_right
        span_right = gives(span.answer, question["answers"])
        outcomes[part.group(question)].append(
            (is_right, wrong, answer.verdict == "unsure", span_right)
        )
    shares = [
        [part.writer, name, len(found), *(f"{100 * share:.1f}" for share in np.mean(found, axis=0))]
        for name, found in sorted(outcomes.items())
    ]
    write_table(
        ["writer", "asked", "questions", "right", "wrong and likely", "unsure", "span right"],
        shares,
        left=2,
    )


def write_changes(part: Stories, found: set[tuple[str, str]]) -> None:
    """Print precision and recall of the changes `found`, (earlier, later) documents, by kind of
    telling.
    """
    counts: dict[str, list[int]] = defaultdict(
        lambda: [0, 0, 0]
    )  # declared by the links, found of these, found
    own = {
        story["story"]: story
        for story in part.story_of.values()
        if story["story"][0] == part.writer
    }
    for story in own.values():
        links = {(old, new) for new, old in story["update_of"].items()}
        inside = {pair for pair in found if set(pair) <= set(story["documents"])}
        later = {
            (one, two) for one in story["documents"] for two in story["documents"] if one < two
        }
        true = inside & (later if story["kind"].startswith("change") else links)
        for kind in (story["kind"].rsplit("/", 1)[-1], "all"):
            for index, number in enumerate((len(links), len(links & found), len(true))):
                counts[kind][index] += number
    total, hit, true_found = counts["all"]
    precision, recall = true_found / max(1, len(found)), hit / max(1, total)
    rows_ = [
        [part.writer, kind, total, hit] for kind, (total, hit, _) in sorted(counts.items()) if total
    ]
    write_table(["writer", "telling", "changes", "found"], rows_, left=2)
    console().print(f"{len(found)} found, precision {precision:.2f}, recall {recall:.2f}")


if __name__ == "__main__":
    run_script(main)
