"""Fit the confidence on texts that no training saw: its weights, its calibration and the thresholds
of the verdicts.

    python benchmarks/fit_confidence.py --data held_out/squad.json --data held_out/tweetqa.json

One bank holds documents of all files; a share of each file is left out. Questions are of four
kinds: a document answers them; no document does (SQuAD 2.0); another name replaces one in them
(`cmt.training.entity_swaps`); their document is left out. The confidence is a logistic regression
on the evidence for an answer. Its outcome is F1, and 0 for every question without an answer. Prints
the weights for `cmt/answering/confidence.py`, the calibration error of each file by
cross-validation, the threshold that refuses a tenth of the answerable questions with the shares of
the other kinds that it refuses, and the confidence from which 90 % of the answers have an F1 of at
least 0.5.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import typer
from protocol import ROOT, valid_rows
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

import cmt
from cmt.answering.confidence import Evidence, evidence
from cmt.cli.context import run_script
from cmt.cli.output import console, write_json, write_table
from cmt.cli.progress_bar import ProgressBar
from cmt.common.arrow import rows_with
from cmt.evaluation.calibration import RIGHT_F1, reliability
from cmt.evaluation.metrics import Flags, Floats, f1
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.training.entity_swaps import entity_swaps

LEFT_OUT = 0.2  # share of the documents of a file that are not in the bank
# weight of a kind of questions without an answer, that of the answerable ones being 1
UNANSWERED_WEIGHT = 0.06
FALSE_ALARMS = 0.1  # share of the answerable questions that the threshold refuses
LIKELY_SHARE = 0.9  # probability that a likely answer is right
FOLDS = 5


@dataclass(frozen=True)
class Case:
    """A question of one kind."""

    file: str
    kind: str  # `answerable`, `unanswerable`, `swapped` or `absent`
    doc_id: str
    question: str
    golds: list[str]


@contextmanager
def recorded_evidence() -> Iterator[dict[str, Evidence]]:
    """Record the evidence for each answer, by its question."""
    recorded: dict[str, Evidence] = {}

    def record(question: str, *inputs: Any) -> Evidence:
        recorded[question] = evidence(question, *inputs)
        return recorded[question]

    with patch("cmt.answering.answerer.evidence", record):
        yield recorded


def draw(file: Path, *, documents: int, questions: int, seed: int) -> tuple[pa.Table, list[Case]]:
    """Documents for the bank, and at most `questions` cases of each kind on banked and left-out
    documents.
    """
    # 1. documents
    accepted = valid_rows(file)
    rng, name = random.Random(seed), file.name.partition(".")[0]
    doc_ids = sorted(accepted.documents["doc_id"].to_pylist())
    rng.shuffle(doc_ids)
    banked = set(doc_ids[: min(documents, round(len(doc_ids) * (1 - LEFT_OUT)))])
    # 2. questions of each kind
    pools = defaultdict(list)
    for row in accepted.questions.sort_by("question_id").to_pylist():
        answered = "answerable" if row["answers"] else "unanswerable"
        if kind := answered if row["doc_id"] in banked else "absent" if row["answers"] else None:
            pools[kind].append(row)
    for row in (
        entity_swaps(accepted.documents, accepted.questions, seed=seed)
        .sort_by("question_id")
        .to_pylist()
    ):
        if row["doc_id"] in banked:
            pools["swapped"].append(row)
    cases = [
        Case(
            name,
            kind,
            row["doc_id"],
            row["question"],
            row["answers"] if kind == "answerable" else [],
        )
        for kind, rows in sorted(pools.items())
        for row in rng.sample(rows, min(questions, len(rows)))
    ]
    return rows_with(accepted.documents, "doc_id", banked), cases


def regression(evidence: Floats, outcome: Floats, weight: Floats) -> tuple[Floats, float]:
    """Weights (e,) and constant of a logistic regression of `outcome` (n,) in 0–1 on `evidence` (n,
    e).
    """
    mean, spread = evidence.mean(0), evidence.std(0) + 1e-9
    standard = (evidence - mean) / spread
    both, labels = np.concatenate([standard, standard]), np.repeat([1, 0], len(standard))
    shares = np.concatenate([weight * outcome, weight * (1 - outcome)])
    fitted = LogisticRegression(max_iter=1000).fit(both, labels, shares)
    weights: Floats = fitted.coef_[0] / spread
    return weights, float(fitted.intercept_[0] - weights @ mean)


def cross_validated(
    evidence: Floats, outcome: Floats, weight: Floats, groups: Sequence[str]
) -> Floats:
    """Confidence (n,) of each case by a regression on the cases of other documents."""
    confidence = np.zeros(len(outcome))
    for train, test in GroupKFold(FOLDS).split(evidence, groups=groups):
        weights, constant = regression(evidence[train], outcome[train], weight[train])
        confidence[test] = 1 / (1 + np.exp(-(evidence[test] @ weights + constant)))
    return confidence


def measures(
    cases: Sequence[Case], confidence: Floats, outcome: Floats
) -> Iterator[tuple[str, float]]:
    """Name and value of each measure of the confidence."""
    kinds, files = np.array([case.kind for case in cases]), np.array([case.file for case in cases])
    answerable: Flags = kinds == "answerable"
    # 1. calibration on answerable questions
    for file in ("all", *sorted(set(files))):
        chosen = answerable & ((files == file) | (file == "all"))
        if chosen.any():
            yield (
                f"calibration error, {file}",
                float(reliability(confidence[chosen], outcome[chosen]).error or 0),
            )
    # 2. the threshold
    threshold = float(np.quantile(confidence[answerable], FALSE_ALARMS))
    yield "threshold", threshold
    for kind in sorted(set(kinds) - {"answerable"}):
        yield f"refused, {kind}", float((confidence[kinds == kind] < threshold).mean())
    # 3. likely answers
    order = np.argsort(-confidence[answerable])
    good = np.cumsum(outcome[answerable][order] >= RIGHT_F1) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(good >= LIKELY_SHARE)
    if len(enough):
        yield "likely from", float(confidence[answerable][order][enough[-1]])
        yield "likely, share of the answerable", float((enough[-1] + 1) / len(order))


def _outcomes(cases: Sequence[Case], texts: Sequence[str]) -> Floats:
    """F1 of the answer to each case, 0–1; 0 for a question without an answer: (n,)."""
    scores = []
    for text, case in zip(texts, cases, strict=True):
        scores.append(f1(text, case.golds) if case.golds else 0.0)
    return np.array(scores)


def _weights(cases: Sequence[Case]) -> Floats:
    """The weight of each case, such that each kind has the same share of the answerable: (n,)."""
    counts = Counter(case.kind for case in cases)
    weights = {
        kind: UNANSWERED_WEIGHT * counts["answerable"] / count for kind, count in counts.items()
    }
    weights["answerable"] = 1.0
    return np.array([weights[case.kind] for case in cases])


def main(
    data: Annotated[
        list[Path], typer.Option(exists=True, help="A file of held-out text; several are allowed.")
    ],
    documents: Annotated[
        int, typer.Option(min=1, help="Documents of a file in the bank, at most.")
    ] = 300,
    questions: Annotated[
        int, typer.Option(min=1, help="Questions of a kind and file, at most.")
    ] = 100,
    seed: int = 0,
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every case, instead of tables.")
    ] = False,
) -> None:
    """Print weights, calibration and thresholds."""
    workspace = cmt.open(params=params)
    settings = workspace.params.without_abstention()
    # 1. ask
    tables, cases = [], list[Case]()
    for file in data:
        table, drawn = draw(file, documents=documents, questions=questions, seed=seed)
        tables.append(table)
        cases += drawn
    banked = pa.concat_tables(tables)
    bank = TemporaryBank.of(
        settings.compressor.path, lm=workspace.project.lm, documents=banked, params=settings
    )
    with (
        recorded_evidence() as recorded,
        bank.answerer() as answerer,
        ProgressBar(console(stderr=True)) as progress,
    ):
        progress.stage("ask", len(cases))
        asked = [case.question for case in cases]
        answers = answerer.answer(asked, as_of=[None] * len(cases), on_progress=progress.advance)
    # 2. fit; a question for which nothing was found has no evidence
    found = [index for index, case in enumerate(cases) if case.question in recorded]
    cases, texts = [cases[index] for index in found], [answers[index].text for index in found]
    features = np.array([recorded[case.question] for case in cases], dtype=np.float64)  # (n, e)
    outcome, weight = _outcomes(cases, texts), _weights(cases)
    weights, constant = regression(features, outcome, weight)
    confidence = cross_validated(features, outcome, weight, [case.doc_id for case in cases])
    # 3. print
    fit = dict(zip(Evidence._fields, weights.tolist(), strict=True)) | {"constant": constant}
    achieved: dict[str, Any] = dict(measures(cases, confidence, outcome))
    if as_json:
        rows = [
            {
                "file": case.file,
                "kind": case.kind,
                "question": case.question,
                "answer": text,
                "f1": float(score),
            }
            | dict(zip(Evidence._fields, values, strict=True))
            for case, text, score, values in zip(
                cases, texts, outcome, features.tolist(), strict=True
            )
        ]
        write_json({"weights": fit, "measures": achieved, "cases": rows})
        return
    write_table(["evidence", "weight"], [[name, f"{value:.3f}"] for name, value in fit.items()])
    write_table(["measure", "value"], [[name, f"{value:.3f}"] for name, value in achieved.items()])


if __name__ == "__main__":
    run_script(main)
