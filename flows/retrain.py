"""`prefect deployment run cmt/retrain`: train a compressor, evaluate it on articles it never saw, register it."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pyarrow as pa
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

import cmt
from cmt.rounds import flat_scores
from flows.reports import scores_report
from flows.steps import step, workspace

Scores = dict[str, float | None]


@step(name="train")
def train(params: str) -> str:
    """Train, or go on from the last checkpoint; the compressor's folder."""
    from cmt import training

    w = workspace(params)
    documents, questions = _pairs(params)
    seen, _ = training.hold_out(documents, articles=w.params.train.validation_articles, seed=w.params.seed)
    callbacks = [w.tracker.log_training(w.params)] if w.params.tracking.enabled else []
    folder = training.train(lm=w.lm, documents=seen, questions=questions, params=w.params, callbacks=callbacks)
    return str(folder)


@step(name="evaluate")
def evaluate(params: str, folder: str, limit: int) -> Scores:
    """Answers of the compressor in `folder` to a seeded sample of questions on the articles that training held out."""
    from cmt.evaluation.protocol import evaluate as ask
    from cmt.memory.memories import compress
    from cmt.training import hold_out

    documents, questions = _pairs(params)
    seed = workspace(params).params.seed
    _, held = hold_out(documents, articles=workspace(params).params.train.validation_articles, seed=seed)
    with TemporaryDirectory() as scratch:
        candidate = cmt.open(params=params, overrides={"compressor.path": folder, "bank.uri": f"{scratch}/bank"})
        candidate.lm = workspace(params).lm
        how = candidate.params.bank
        rows = compress(
            candidate.model,
            held,
            slice_id="held-out",
            keep_text=how.keep_text,
            number_format=how.codes,
            batch_tokens=candidate.params.compressor.batch_tokens,
        )
        candidate.bank.upsert(rows)
        result = ask(
            answerer=candidate.answerer,
            lm=candidate.lm,
            bank=candidate.bank,
            questions=_sample(questions, held, limit=limit, seed=seed),
            params=candidate.params,
            baselines=False,
        )
    scores = flat_scores(result.to_json()["rows"])
    create_markdown_artifact(scores_report(scores), key="held-out", description=f"The compressor in {folder}")
    return scores


@step(name="register")
def register(params: str, folder: str, scores: Scores) -> str | None:
    """The compressor in MLflow's registry; its version, None when tracking is off."""
    w = workspace(params)
    return w.tracker.register(Path(folder), params=w.params, scores=scores) if w.params.tracking.enabled else None


@flow(name="cmt", flow_run_name="retrain")
def retrain(limit: Annotated[int, Field(ge=1)] = 500, params: str = "params.yaml") -> str | None:
    """Train → evaluate → register; the version in the registry. `limit`: questions of the held-out evaluation.

    The training data is `train.source`, pulled before with `cmt data pull`.
    """
    folder = train(params)
    return register(params, folder, evaluate(params, folder, limit))


def _pairs(params: str) -> tuple[pa.Table, pa.Table]:
    from cmt.stream import training_data

    how = workspace(params).params.train
    return training_data.load(training_data.installed(source=how.source, path=how.path))


def _sample(questions: pa.Table, held: pa.Table, *, limit: int, seed: int) -> pa.Table:
    ids = set(held["doc_id"].to_pylist())
    rows = [row for row, doc_id in enumerate(questions["doc_id"].to_pylist()) if doc_id in ids]
    return questions.take(sorted(random.Random(seed).sample(rows, min(limit, len(rows)))))  # noqa: S311 - no secret
