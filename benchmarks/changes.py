"""Changes that no document declares: measure answers and detected changes, and fit the comparison
of statements.

    python benchmarks/changes.py --writers ικλμυφΣΦЖЭ    # measure the writers that the
    cross-encoder has not seen python benchmarks/changes.py --stories my/stories  # measure other
    stories in the same form python benchmarks/changes.py --calibrate Xx        # fit the weights of
    the cross-encoder and of ψ's scores python benchmarks/changes.py                       # fit
    words to the stories of data/stories

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
from numpy.typing import NDArray
from protocol import ROOT, read_stories, valid_rows
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import LogisticRegression

import cmt
from cmt.answering import comparison
from cmt.answering.answerer import Answerer
from cmt.answering.comparison import Features, Weights, features, ngrams, read_both
from cmt.bank.changes import Change, without_rivals
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.arrow import replace_column
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.gate.canary import RIGHT, contradicts
from cmt.evaluation.metrics import Floats, f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.text.overlap import coverage

OTHER_STORY = 0.1  # weight of a pair of two stories in the fit, that of one story being 1
# share of the earlier text's words in the later one from which a pair of two stories is fitted to
SHARED = 0.06
WRITERS = 3  # writers in whose pairs an n-gram occurs that gets a weight
# value of an n-gram beside the standardised features; a smaller one regularises its weight more
SCALE = 0.8
REGULARISATION = 0.05  # C of the logistic regression
SMALLEST_WEIGHT = 0.002  # n-grams with a smaller weight are left out


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
        documents = valid_rows(folder / "documents.jsonl").documents
        bare = replace_column(documents, "supersedes", [None] * documents.num_rows)
        writers = np.array([doc_id[0] for doc_id in bare["doc_id"].to_pylist()])
        return [
            cls(name, bare.filter(pa.array(writers == name)), by_writer[name], story_of)
            for name in sorted(by_writer)
        ]

    def group(self, question: dict[str, Any]) -> str:
        """Whether `question` is asked at the end, between the dates, or on a trap."""
        story = self.story_of[question["doc_id"]]
        if story["kind"].startswith("trap"):
            return "trap"
        return "end" if question["doc_id"] == story["documents"][-1] else "between"


def main(
    stories: Annotated[Path, typer.Option(help="Folder of stories.")] = ROOT / "data/stories",
    writers: Annotated[
        str, typer.Option(help="Writers that are measured; nothing is fitted.")
    ] = "",
    calibrate: Annotated[
        str,
        typer.Option(
            help="Writers that the cross-encoder has not seen; CALIBRATION is fitted to them."
        ),
    ] = "",
) -> None:
    """Measure answers where facts change without a label, or fit the comparison of statements."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    other = stories.resolve() != ROOT / "data/stories"
    chosen, lm, params = writers + calibrate, workspace.lm, workspace.params
    parts = [part for part in Stories.read(stories) if part.writer in chosen or not chosen]
    folder = params.compressor.path
    banked = [
        (part, TemporaryBank.of(folder, lm=lm, documents=part.documents, params=params))
        for part in parts
    ]
    # 1. measure
    if writers or (other and not calibrate):
        for part, bank in banked:
            measure(part, bank)
        return
    pairs = [
        pair for part, bank in banked for pair in training_pairs(part, bank, cross=bool(calibrate))
    ]
    # 2. the constant CALIBRATION
    if calibrate:
        console().print(f"CALIBRATION: {calibration(pairs)}, {len(pairs)} pairs")
        return
    # 3. weights for the package
    weights = fitted(pairs)
    weights.save(comparison.WEIGHTS)
    console().print(f"{comparison.WEIGHTS}: {len(pairs)} pairs, {len(weights.ngrams)} n-grams")


def measure(part: Stories, bank: TemporaryBank) -> None:
    """Print the answers and the detected changes of one writer."""
    with bank.answerer() as answerer:
        found = without_rivals(find_changes(answerer, bank.rows))

        def changes_of(doc_ids: set[str] | None) -> list[Change]:
            return [
                change
                for change in found
                if doc_ids is None or not doc_ids.isdisjoint(change.doc_ids)
            ]

        write_answers(part, replace(answerer, changes_of=changes_of), bank.rows)
    write_changes(part, {change.doc_ids for change in found})


class TrainingPair(NamedTuple):
    """Two statements on a question."""

    writer: str
    features: Features
    ngrams: NDArray[np.uint32]
    later_holds: bool
    same_story: bool
    cross: float  # log-odds of the cross-encoder; 0 if it was not asked


def training_pairs(part: Stories, bank: TemporaryBank, *, cross: bool) -> Iterator[TrainingPair]:
    """Two statements on each question: of the document with the right answer, and of another one,
    most of its story.
    """
    rows = {row["doc_id"]: row for row in bank.rows.to_pylist()}
    with bank.answerer() as answerer:
        for question in part.questions:
            as_of = datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC)
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
                    values, words = features(text, earlier, later), ngrams(text, earlier, later)
                    encoder = bank.model.cross_encoder if cross else None
                    odds = read_both(encoder, text, earlier, later).holds if encoder else 0.0
                    yield TrainingPair(
                        part.writer, values, words, later is statements[0], same, odds
                    )


def fitted(pairs: Sequence[TrainingPair]) -> Weights:
    """Weights of a logistic regression on the features, standardised, and the n-grams that several
    writers use.
    """
    # 1. features and n-grams
    values: Floats = np.array([pair.features for pair in pairs], dtype=float)  # (n, features)
    mean, spread = values.mean(0), values.std(0)
    chosen = shared_ngrams(pairs)
    present = np.concatenate([np.flatnonzero(np.isin(chosen, pair.ngrams)) for pair in pairs])
    starts = np.cumsum([0, *(np.isin(pair.ngrams, chosen).sum() for pair in pairs)])
    words = csr_array(
        (np.full(len(present), SCALE), present, starts), shape=(len(pairs), len(chosen))
    )
    # 2. fit
    model = LogisticRegression(C=REGULARISATION, max_iter=1000)
    importance = [1 if pair.same_story else OTHER_STORY for pair in pairs]
    labels = [pair.later_holds for pair in pairs]
    model.fit(
        hstack([(values - mean) / spread, words], format="csr"), labels, sample_weight=importance
    )
    # 3. undo the scales, and leave out what hardly counts
    weights = model.coef_[0, : values.shape[1]] / spread
    of_ngrams = model.coef_[0, values.shape[1] :] * SCALE
    kept = np.abs(of_ngrams) >= SMALLEST_WEIGHT
    constant = float(model.intercept_[0] - weights @ mean)
    return Weights(
        Features(*weights.tolist()), constant, chosen[kept], of_ngrams[kept].astype(np.float16)
    )


def calibration(pairs: Sequence[TrainingPair]) -> list[float]:
    """Constant, and weights of the cross-encoder's log-odds and of the gain."""
    values = [(pair.cross, pair.features.gain) for pair in pairs]
    model = LogisticRegression().fit(values, [pair.later_holds for pair in pairs])
    return [round(float(value), 2) for value in (model.intercept_[0], *model.coef_[0])]


def shared_ngrams(pairs: Sequence[TrainingPair]) -> NDArray[np.uint32]:
    """The n-grams in pairs of at least WRITERS writers, sorted."""
    of_writer = defaultdict(list)
    for pair in pairs:
        of_writer[pair.writer].append(pair.ngrams)
    used = np.concatenate([np.unique(np.concatenate(found)) for found in of_writer.values()])
    hashes, writers = np.unique(used, return_counts=True)
    return hashes[writers >= WRITERS]


def write_answers(part: Stories, answerer: Answerer, rows: pa.Table) -> None:
    """Print the shares of right, of wrong and likely, and of unsure answers by group of questions.

    "span right": whether ψ's best span in the document with the answer, read alone, is right.
    """
    questions = [question["question"] for question in part.questions]
    dates = [
        datetime.fromisoformat(question["asked_at"]).replace(hour=23, tzinfo=UTC)
        for question in part.questions
    ]
    answers = answerer.answer(questions, as_of=dates)
    row_of = {row["doc_id"]: row for row in rows.to_pylist()}
    spans = answerer.statements(
        questions, [row_of[question["doc_id"]] for question in part.questions]
    )

    def right(text: str, question: dict[str, Any]) -> bool:
        return f1(text, question["answers"]) >= RIGHT and not contradicts(text, question["answers"])

    outcomes = defaultdict(list)
    for question, answer, span in zip(part.questions, answers, spans, strict=True):
        is_right = right(answer.text if answer.known else "", question)
        wrong = answer.verdict == "likely" and not is_right
        span_right = right(span.answer, question)
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
