"""How good a compressor is on articles that its training never saw: a bank of them all, a sample of questions."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from cmt.answering import Answerer
from cmt.bank import Bank
from cmt.config import Params
from cmt.evaluation.protocol import Evaluation, evaluate
from cmt.memory.lm import FrozenLM
from cmt.memory.memories import compress, memory_schema
from cmt.memory.model import MemoryModel


def held_out_scores(
    *, folder: Path, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params, limit: int
) -> Evaluation:
    """Answers of the compressor in `folder` to a seeded sample of `limit` questions on `documents`."""
    model, how = MemoryModel.load(folder, lm=lm), params.bank
    with TemporaryDirectory() as scratch:
        schema = memory_schema(model, keep_text=how.keep_text, number_format=how.codes)
        bank = Bank.open(uri=scratch, schema=schema, exact_below=how.exact_below)
        bank.upsert(
            compress(
                model,
                documents,
                slice_id="held-out",
                keep_text=how.keep_text,
                number_format=how.codes,
                batch_tokens=params.compressor.batch_tokens,
            )
        )
        return evaluate(
            answerer=Answerer(model=model, lm=lm, bank=bank, params=params),
            lm=lm,
            bank=bank,
            questions=_sample(questions, documents, limit=limit, seed=params.seed),
            params=params,
            baselines=False,
        )


def _sample(questions: pa.Table, documents: pa.Table, *, limit: int, seed: int) -> pa.Table:
    known = set(documents["doc_id"].to_pylist())
    rows = [row for row, doc_id in enumerate(questions["doc_id"].to_pylist()) if doc_id in known]
    drawn = sorted(random.Random(seed).sample(rows, min(limit, len(rows))))  # noqa: S311 - no secret
    return questions.take(pa.array(drawn, pa.int64()))
