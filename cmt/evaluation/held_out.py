"""How good a compressor is on articles that its training never saw: a bank of them all, a sample of questions."""

import random
from pathlib import Path

import pyarrow as pa

from cmt.config import Params
from cmt.evaluation.protocol import Evaluation, evaluate
from cmt.evaluation.scratch import Scratch
from cmt.memory.lm import FrozenLM


def held_out_scores(
    *, folder: Path, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params, limit: int
) -> Evaluation:
    """Answers of the compressor in `folder` to a seeded sample of `limit` questions on `documents`.

    None is held back: compressors are compared, not their confidence.
    """
    open_ = params.selection.model_copy(update={"threshold": -1.0})
    params = params.model_copy(update={"selection": open_})
    with Scratch.of(folder, lm=lm, documents=documents, params=params).answerer() as answerer:
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
    drawn = sorted(random.Random(seed).sample(rows, min(limit, len(rows))))  # noqa: S311 - no secret
    return questions.take(pa.array(drawn, pa.int64()))
