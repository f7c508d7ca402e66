"""The ways of answering side by side, question by question, from the records of one evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from cmt.evaluation.metrics import Difference, Scores, mark, paired_bootstrap, summarise
from cmt.report.history import ways

LABELS = {"cmt": "CMT memory", "closed": "closed-book", "rag": "BM25-RAG, top 1"}


@dataclass(frozen=True)
class SystemSummary:
    """A way of answering on the same questions as the memory."""

    name: str
    scores: Scores
    recall: float | None
    """Share of the questions whose right document it was given; None where nothing is retrieved."""
    behind: Difference | None
    """How far its F1 is behind the memory's, and the 95 % interval of that, question by question; None: the memory."""

    @property
    def label(self) -> str:
        """Its name for people."""
        return LABELS.get(self.name, self.name)


def compare(records: pa.Table, *, scores: Mapping[str, float | None], seed: int) -> list[SystemSummary]:
    """Every way of answering in `records`, the memory first; their recalls come from the round's `scores`."""
    # the order in which `evaluate` asks: the bootstrap gives the intervals that the round was given
    keys = list(zip(*(records[name].to_pylist() for name in ("question", "asked_at", "question_id")), strict=True))
    order = sorted(range(len(keys)), key=lambda row: (len(keys[row][0]), keys[row]))
    asked = records.take(pa.array(order, pa.int64()))
    recalls = {name: scores.get("recall" if name == "cmt" else f"{name}_recall") for name in ways(records)}
    return [_way(asked, name, recall, seed) for name, recall in recalls.items()]


def _way(records: pa.Table, name: str, recall: float | None, seed: int) -> SystemSummary:
    marks = mark(records[name].to_pylist(), records["golds"].to_pylist())
    scores = summarise(marks, recalled=None, seed=seed)
    if name == "cmt":
        return SystemSummary(name, scores, recall, None)
    behind = paired_bootstrap(100 * records["cmt_f1"].to_numpy(), 100 * marks.f1, seed=seed)
    return SystemSummary(name, scores, recall, behind)
