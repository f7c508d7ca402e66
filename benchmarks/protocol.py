"""What the benchmarks share: samples of a file, systems on a sample, times and their bars."""

import json
import lzma
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.common.arrow import take
from cmt.common.progress import NullProgress
from cmt.config import Params
from cmt.errors import StreamError
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.systems import System, SystemRun
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.stream.admission.intake import Intake, select_with_unanswerable
from cmt.stream.rows import read

ROOT = Path(__file__).resolve().parents[1]
UNSEEN = "XxικλμυφΣΦЖЭ"  # writers of data/stories on whose stories no model is trained
MAX_ABSENT_QUESTIONS = 500  # questions whose document is not in the bank
TRAINED_RAG = ROOT / "data/trained/rag"  # `make rag` trains the prefix
TRAINED_WAYS = ("BM25 top-1", "BM25 top-3")
"""The best two of `trained_rag_ways` on SQuAD, the best one last."""


def valid_rows(data: Path) -> Intake:
    """The valid rows of a file or folder, of any date. JSON is in SQuAD's layout, whose texts stay
    as they are.
    """
    raw = read(data, file_format="squad" if ".json" in data.suffixes else None)
    return select_with_unanswerable(raw, now=datetime.max.replace(tzinfo=UTC))


def read_stories(folder: Path) -> tuple[list[dict[str, Any]], ...]:
    """The documents, questions and links (a story each) in `folder`; its README has their form."""
    return tuple(read_lines(folder, name) for name in ("documents", "questions", "links"))


def read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of `name`.jsonl in `folder`, or of `name`.jsonl.xz."""
    file = lines_file(folder, name)
    content = file.read_bytes()
    text = (lzma.decompress(content) if file.suffix == ".xz" else content).decode()
    return [json.loads(line) for line in text.splitlines()]


def lines_file(folder: Path, name: str) -> Path:
    """`name`.jsonl in `folder`, or `name`.jsonl.xz if that is there."""
    packed = folder / f"{name}.jsonl.xz"
    return packed if packed.exists() else folder / f"{name}.jsonl"


@dataclass(frozen=True)
class Sample:
    """A seeded sample of documents and questions. Only the questions in `unanswerable` have no
    answer.
    """

    documents: pa.Table  # of the bank
    all_questions: pa.Table  # on them
    questions: pa.Table  # that the systems are asked
    absent: pa.Table  # questions on other documents
    unanswerable: pa.Table  # questions on the documents, in the same proportion as `questions`

    @classmethod
    def draw(cls, data: Path, *, documents: int, questions: int, seed: int) -> "Sample":
        """Sample `documents` of the file `data`, and `questions` on them (0: all). StreamError if
        it has none.

        A file whose questions have no answers at all gives at most `questions` unanswerable ones.
        """
        # 1. read and validate
        accepted = valid_rows(data)
        if not (accepted.documents.num_rows and accepted.questions.num_rows):
            first = accepted.rejected[0] if accepted.rejected else None
            reason = f"; {first.file}, row {first.row}: {first.reason}" if first else ""
            raise StreamError(f"{data} has no question on a valid document{reason}")
        # 2. sample documents
        rng = random.Random(seed)
        all_documents = accepted.documents.sort_by("doc_id")
        rows = sorted(
            rng.sample(range(all_documents.num_rows), min(documents, all_documents.num_rows))
        )
        sampled = take(all_documents, rows)
        # 3. sample questions on them and on other documents
        table = accepted.questions.sort_by("question_id")
        is_answerable = pc.greater(pc.list_value_length(table["answers"]), 0)
        answerable = table.filter(is_answerable)
        unanswerable = table.filter(pc.invert(is_answerable))
        sampled_ids = set(sampled["doc_id"].to_pylist())
        inside, outside = _split(answerable, sampled_ids)
        asked = sorted(rng.sample(inside, min(questions or len(inside), len(inside))))
        absent = sorted(rng.sample(outside, min(MAX_ABSENT_QUESTIONS, len(outside))))
        # 4. sample as large a share of the unanswerable ones
        without, _ = _split(unanswerable, sampled_ids)
        limit = (
            round(len(without) * len(asked) / len(inside)) if inside else questions or len(without)
        )
        refusable = sorted(rng.sample(without, min(limit, len(without))))
        parts = (
            (answerable, inside),
            (answerable, asked),
            (answerable, absent),
            (unanswerable, refusable),
        )
        return cls(sampled, *(take(part, indices) for part, indices in parts))


def data_of(bank: TemporaryBank, answerer: Answerer, sample: Sample) -> ComparisonData:
    """What a system needs to answer the questions of `sample` from `bank`."""
    tables = {"memories": bank.rows, "documents": sample.documents, "asked": sample.questions}
    return ComparisonData(answerer, **tables, seconds={}, lineage={}, progress=NullProgress())


def first_token(system: System, data: ComparisonData, index: int) -> SystemRun | None:
    """The answer to question `index` alone, which ends with its first token."""
    answerer = replace(
        data.answerer, params=data.answerer.params.with_values(answering={"max_new_tokens": 1})
    )
    return system(replace(data, answerer=answerer, asked=data.asked.slice(index, 1)))


def trained_rag_ways(params: Params) -> dict[str, Params]:
    """Search and depth → parameters that select whole texts so, for a prefix trained to answer from
    whole texts.
    """
    weights = {"BM25": 100.0, "dense": 0.0, "hybrid": params.selection.full_text_weight}
    ways = {}
    for (name, weight), top_k in product(weights.items(), (1, 3)):
        selection = {"top_k": top_k, "max_logprob_gap": math.inf, "full_text_weight": weight}
        ways[f"{name} top-{top_k}"] = params.with_values(selection=selection)
    return ways


@dataclass(frozen=True)
class Bar:
    """A measured figure and its limit."""

    number: int
    bar: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the bar holds."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def take_turns(turns: Iterable[Mapping[str, Callable[[], object]]]) -> dict[str, list[float]]:
    """The seconds of each action of each turn, by its name."""
    seconds = defaultdict[str, list[float]](list)
    for actions in turns:
        for name, action in actions.items():
            seconds[name].append(timed(action))
    return seconds


def spread(seconds: Sequence[float], unit: float = 1.0) -> str:
    """The middle half of `seconds`."""
    low, high = unit * np.quantile(seconds, [0.25, 0.75])
    return f"{low:.3g}–{high:.3g}"


def _split(questions: pa.Table, doc_ids: set[str]) -> tuple[list[int], list[int]]:
    """Indices of the questions on `doc_ids`, and of the others."""
    inside = [
        row for row, doc_id in enumerate(questions["doc_id"].to_pylist()) if doc_id in doc_ids
    ]
    return inside, sorted(set(range(questions.num_rows)) - set(inside))
