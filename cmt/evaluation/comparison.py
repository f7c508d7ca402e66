"""Every way of answering by name, on the same questions: its scores, and beside them what it costs."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import Passage, Prediction, closed_book, given_text, rag
from cmt.errors import ConfigError
from cmt.evaluation import evaluate, systems
from cmt.evaluation.cost import Cost, MeteredLM, peak_memory
from cmt.evaluation.finetuning import TOKEN_WEIGHTS, adapt, pieces
from cmt.evaluation.metrics import (
    Abstention,
    Difference,
    Floats,
    abstention,
    calibration_error,
    mark,
    paired_bootstrap,
    recall_at_k,
    reciprocal_ranks,
    summarise,
)
from cmt.evaluation.temporary_bank import missing_compressor
from cmt.evaluation.testbed import ComparisonData

log = logging.getLogger(__name__)

RAG_SYSTEMS = tuple(f"rag-{way}-{top_k}" for way in ("bm25", "dense", "hybrid") for top_k in (1, 3))
SYSTEMS = ("closed", "full", *RAG_SYSTEMS, *TOKEN_WEIGHTS, "mac", "cmt")


def known_systems(names: Sequence[str]) -> list[str]:
    """`names` without repeats. ConfigError on one that no row has."""
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise ConfigError(f"no row {unknown[0]!r}; there are: {', '.join(SYSTEMS)}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class SystemResult(evaluate.SystemScores):
    """A row of the protocol with its cost; `seconds` are those of answering alone."""

    cost: Cost
    mrr: float | None = None
    """Mean reciprocal rank of the right document, 0–1; None where nothing is retrieved."""
    behind: Difference | None = None
    """How far its F1 (0–100) is behind the memory's, with its 95 % interval; None without the row `cmt`, and for it."""
    abstention: Abstention | None = None
    """Of the memory: how well "not in memory" tells the questions on documents that are not in the bank."""
    calibration: float | None = None
    """Of the memory: expected calibration error of its confidence that the right document is among its sources."""

    def to_json(self) -> dict[str, Any]:
        """As the protocol's rows, with more keys; what does not apply is null."""
        refusing = self.abstention and {
            name: None if share is None else round(share, 4) for name, share in vars(self.abstention).items()
        }
        return super().to_json() | {
            "mrr": None if self.mrr is None else round(self.mrr, 4),
            "behind": None if self.behind is None else [round(value, 2) for value in self.behind],
            "abstention": refusing,
            "calibration": None if self.calibration is None else round(self.calibration, 4),
            "cost": self.cost.to_json(),
        }


@dataclass(frozen=True)
class _Said:
    """What a row answered; `depth`: how many documents count for recall, None where nothing was retrieved."""

    predictions: Sequence[Prediction]
    depth: int | None
    adapt_seconds: float | None
    stored_bytes: int
    seconds: float
    tokens: int
    answers: Sequence[Answer] = ()


class Comparison:
    """The rows over one ground."""

    def __init__(self, ground: ComparisonData) -> None:
        self.ground, self.answerer, self.watch = ground, ground.material.answerer, ground.material.watch
        self.lm = MeteredLM(self.answerer.lm)
        self.questions: list[str] = ground.asked["question"].to_pylist()
        self.moments = ground.asked["asked_at"].to_pylist()
        self.golds: list[str] = ground.asked["doc_id"].to_pylist()

    def measure(self, names: Sequence[str] = SYSTEMS) -> list[SystemResult]:
        """The rows of `names`, in their order; those that this bank cannot give are left out with a warning.

        Raises ConfigError on an unknown name.
        """
        rows, f1s = [], {}
        for name in known_systems(names):
            why = self.impossible(name)
            if why is None and (measured := self._row(name)):
                rows.append(measured[0])
                f1s[name] = measured[1]
            else:
                log.warning("row %s is left out: %s", name, why or "no text was found")
        return [self._compared(row, f1s) for row in rows]

    def impossible(self, name: str) -> str | None:
        """Why this bank cannot give a row; None where it can."""
        if name == "mac":
            return missing_compressor(self.answerer.params.baselines.mac, self.answerer.lm)
        text = self.ground.material.memories["text"]
        return "the bank keeps no text to search" if name in RAG_SYSTEMS and text.null_count == len(text) else None

    def _row(self, name: str) -> tuple[SystemResult, Floats] | None:
        with peak_memory() as peak:
            said = self._say(name)
        if said is None:
            return None
        marks = mark([one.text for one in said.predictions], self.ground.asked["answers"].to_pylist())
        count = len(self.questions)
        cost = Cost(
            adapt_seconds=said.adapt_seconds,
            seconds_per_question=said.seconds / count,
            peak_bytes=peak.resident,
            peak_device_bytes=peak.device,
            stored_bytes=said.stored_bytes,
            tokens_per_question=said.tokens / count,
        )
        scores = summarise(marks, recalled=self._recalled(said), seed=self.answerer.params.seed)
        row = SystemResult(name, scores, said.seconds, cost=cost, mrr=self._mrr(said))
        return (self._refusing(row, said) if said.answers else row), marks.f1

    def _say(self, name: str) -> _Said | None:
        if name in TOKEN_WEIGHTS:
            return self._finetuned(name)
        self.watch.stage(name, len(self.questions))
        if name == "cmt":
            return self._memory()
        if name == "mac":
            return self._mac()
        if name == "closed":
            return self._timed(lambda: closed_book(self.lm, self.questions, **self._how()), self.lm, adapt_seconds=0.0)
        return self._full() if name == "full" else self._rag(name)

    def _full(self) -> _Said | None:
        passages = [[Passage(doc_id, self.ground.texts[doc_id])] for doc_id in self.golds]
        size = sum(len(text.encode()) for text in self.ground.texts.values())
        ask = lambda: given_text(self.lm, self.questions, passages, **self._how())  # noqa: E731
        return self._timed(ask, self.lm, adapt_seconds=0.0, stored_bytes=size)

    def _rag(self, name: str) -> _Said | None:
        _, way, depth = name.split("-")

        def ask() -> list[Prediction] | None:
            keys = None if way == "bm25" else self.answerer.keys(self.questions)
            return rag(
                self.lm,
                self.answerer.bank,
                self.questions,
                self.moments,
                top_k=int(depth),
                keys=keys,
                words=way != "dense",
                **self._how(),
            )

        stages = ("bank",) if way == "bm25" else ("compress", "bank")
        size = self.ground.bytes_to_search(keys=way != "bm25")
        return self._timed(ask, self.lm, depth=int(depth), adapt_seconds=self.ground.spent(*stages), stored_bytes=size)

    def _finetuned(self, name: str) -> _Said | None:
        one, texts, recipe = self.answerer, list(self.ground.texts.values()), self.ground.recipe
        self.watch.stage(f"{name}: adapt", pieces(one.lm, texts, recipe))
        adapted = adapt(one.lm, texts, way=name, seed=one.params.seed, recipe=recipe, progress=self.watch.advance)
        lm = MeteredLM(adapted.lm)
        size = sum(weight.numel() * weight.element_size() for weight in lm.model.parameters())
        self.watch.stage(name, len(self.questions))
        ask = lambda: closed_book(lm, self.questions, **self._how())  # noqa: E731
        return self._timed(ask, lm, adapt_seconds=adapted.seconds, stored_bytes=size)

    def _memory(self) -> _Said | None:
        answers: list[Answer] = []

        def ask() -> list[Prediction]:
            said, made = self._asked(self._through())
            answers.extend(made)
            return said

        said = self._timed(
            ask,
            self.lm,
            depth=self.answerer.params.selection.top_k,
            adapt_seconds=self.ground.spent("compress", "bank"),
            stored_bytes=int(self.answerer.bank.stats()["bytes"]),
        )
        return said and replace(said, answers=answers)

    def _mac(self) -> _Said | None:
        started = time.perf_counter()
        with systems.mac_answerer(self.ground, self.lm) as answerer:
            return self._timed(
                lambda: self._asked(answerer)[0],
                self.lm,
                depth=answerer.params.selection.top_k,
                adapt_seconds=time.perf_counter() - started,
                stored_bytes=int(answerer.bank.stats()["bytes"]),
            )

    def _asked(self, answerer: Answerer) -> tuple[list[Prediction], list[Answer]]:
        answers = answerer.answer(self.questions, as_of=self.moments, progress=self.watch.advance)
        said = [Prediction(a.text if a.known else "", tuple(source.doc_id for source in a.sources)) for a in answers]
        return said, answers

    def _timed(
        self,
        ask: Callable[[], list[Prediction] | None],
        lm: MeteredLM,
        *,
        adapt_seconds: float | None,
        depth: int | None = None,
        stored_bytes: int = 0,
    ) -> _Said | None:
        lm.tokens_read, started = 0, time.perf_counter()
        predictions = ask()
        seconds = time.perf_counter() - started
        if predictions is None:
            return None
        return _Said(predictions, depth, adapt_seconds, stored_bytes, seconds, lm.tokens_read)

    def _through(self) -> Answerer:
        one = self.answerer
        return Answerer(model=one.model, lm=self.lm, bank=one.bank, params=one.params)

    def _how(self) -> dict[str, Any]:
        how = self.answerer.params.answering
        return {"max_new_tokens": how.max_new_tokens, "batch_size": how.batch_size, "progress": self.watch.advance}

    def _recalled(self, said: _Said) -> list[bool] | None:
        if (depth := said.depth) is None:
            return None
        pairs = zip(said.predictions, self.golds, strict=True)
        return [bool(recall_at_k(one.doc_ids, gold, depth)) for one, gold in pairs]

    def _mrr(self, said: _Said) -> float | None:
        if said.depth is None:
            return None
        return float(reciprocal_ranks([one.doc_ids[: said.depth] for one in said.predictions], self.golds).mean())

    def _refusing(self, row: SystemResult, said: _Said) -> SystemResult:
        absent = self.ground.absent
        if absent.num_rows:
            self.watch.stage("cmt: absent", absent.num_rows)
        asked = absent["question"].to_pylist(), absent["asked_at"].to_pylist()
        there = said.answers
        others = self._through().answer(asked[0], as_of=asked[1], progress=self.watch.advance)
        refused = np.array([not one.known for one in (*there, *others)])
        answerable = np.arange(len(refused)) < len(there)
        calibration = None
        if self.answerer.model.design.aggregator.kind == "windows":  # the others' confidence is a cosine
            confidence = np.array([one.confidence for one in (*there, *others)])
            right = np.array([*(self._recalled(said) or []), *(False for _ in others)])
            calibration = calibration_error(confidence, right)
        return replace(row, abstention=abstention(refused=refused, answerable=answerable), calibration=calibration)

    def _compared(self, row: SystemResult, f1s: Mapping[str, Floats]) -> SystemResult:
        if row.row == "cmt" or "cmt" not in f1s:
            return row
        seed = self.answerer.params.seed
        return replace(row, behind=paired_bootstrap(100 * f1s["cmt"], 100 * f1s[row.row], seed=seed))
