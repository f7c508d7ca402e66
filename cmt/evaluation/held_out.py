"""How good a compressor is on articles that its training never saw: a bank of them all, a sample of questions."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.config import Params
from cmt.evaluation.evaluate import Evaluation, evaluate
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM

if TYPE_CHECKING:
    from cmt.resources import Resources


def held_out_scores(
    *, folder: Path, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params, limit: int
) -> Evaluation:
    """Answers of the compressor in `folder` to a seeded sample of `limit` questions on `documents`.

    None is held back: compressors are compared, not their confidence.
    """
    params = params.without_abstention()
    with TemporaryBank.of(folder, lm=lm, documents=documents, params=params).answerer() as answerer:
        return evaluate(
            answerer=answerer,
            lm=lm,
            bank=answerer.bank,
            questions=sample(questions, documents, limit=limit, seed=params.seed),
            params=params,
            baselines=False,
        )


def sample(questions: pa.Table, documents: pa.Table, *, limit: int, seed: int) -> pa.Table:
    """At most `limit` of the questions on `documents`, drawn by the seed."""
    known = set(documents["doc_id"].to_pylist())
    rows = [row for row, doc_id in enumerate(questions["doc_id"].to_pylist()) if doc_id in known]
    drawn = sorted(random.Random(seed).sample(rows, min(limit, len(rows))))
    return questions.take(pa.array(drawn, pa.int64()))


def measure_compressor(resources: "Resources", folder: Path, *, questions: int) -> tuple[dict[str, float | None], str]:
    """Scores of the compressor in `folder` on the held-out articles of `train`, and the name of what it was asked.

    Reads the training data: StreamError when they were not pulled.
    """
    from cmt.bank.ledger import flat_scores
    from cmt.training.data import load_split

    params, data = resources.params, load_split(resources.params.train)
    found = held_out_scores(
        folder=folder,
        lm=resources.lm,
        documents=data.held_out,
        questions=data.questions,
        params=params,
        limit=questions,
    )
    return flat_scores([found.systems[0].to_json()]), held_out_name(params, questions=questions)


def held_out_name(params: Params, *, questions: int) -> str:
    """What `questions` held-out questions are, in words: equal names are equal questions."""
    how = params.train
    source = how.source.rpartition("/")[2]
    return f"{questions} questions on {how.validation_articles} articles of {source}, seed {params.seed}"
