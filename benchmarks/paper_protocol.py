"""The published protocol: all documents of a stream are compressed first, then questions on them are asked.

    python benchmarks/paper_protocol.py --data dev-v1.1.json --documents 1665 --questions 1000

Any file of the accepted formats will do; without `--data` the environment variable CMT_SQUAD_DEV names it. A row whose
compressor is missing is left out: `memory` (banks without text), `mac` and `mbc` (MAC with vectors and with codes;
docs/experiments.md has the command that trains it) and `rag_trained`. Scores are 0–100, recall 0–1; `first_token` is
the median time to the first token of single questions in ms.
"""

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from protocol import Sample, trained_rag_ways
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.cluster import MiniBatchKMeans

import cmt
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import EXAMPLES, Example, Passage, Prediction, closed_book, given_text, rag
from cmt.bank.quantization import dequantize, quantize
from cmt.cli.context import run_script
from cmt.common.arrow import replace_column, rows_with, take
from cmt.config import Params
from cmt.errors import StreamError
from cmt.evaluation.metrics import mark, recall_at_k, summarise
from cmt.evaluation.temporary_bank import TemporaryBank, missing_compressor
from cmt.lm.model import FrozenLM

ROOT = Path(__file__).resolve().parent.parent
RECALL_DEPTHS = (1, 3, 5, 20)
TIMED_QUESTIONS = 25  # questions whose time to the first token is measured
EARLY_DOCUMENTS = 200  # documents whose questions show what is retained
LATER_DOCUMENTS = 1200  # documents that are added to them
CODES = 512  # of MBC (arXiv 2601.00756)

Ask = Callable[[Sequence[int], int], list[Prediction]]
"""Indices of questions and `max_new_tokens` → their answers."""
Scores = dict[str, Any]


class Benchmark:
    """The rows and parts of the benchmark on one sample."""

    def __init__(
        self, sample: Sample, params: Params, lm: FrozenLM, *, vectors: Path, rag_trained: Path, mac: Path
    ) -> None:
        self.sample, self.params, self.lm = sample, params, lm
        self.vectors, self.rag_trained, self.trained_mac = vectors, rag_trained, mac
        self.questions = sample.questions["question"].to_pylist()
        self.golds = sample.questions["answers"].to_pylist()
        self.doc_ids = sample.questions["doc_id"].to_pylist()
        self.systems: dict[str, Callable[[], Iterator[Scores]]] = {
            "cmt": self.cmt,
            "memory": self.memory,
            "mac": self.mac,
            "mbc": self.mbc,
            "rag": self.rag,
            "rag_trained": self.rag_with_trained_prefix,
            "full": self.full,
            "closed": self.closed,
        }
        self.parts: dict[str, Callable[[], Scores]] = {
            "abstention": self.abstention,
            "strangers": self.strangers,
            "retention": self.retention,
            "noise": self.noise,
        }

    @cached_property
    def bank(self) -> TemporaryBank:
        """The documents, compressed by the compressor in use."""
        return self._compressed(self.params.compressor.path, self.params)

    def rows(self, names: Iterable[str]) -> Iterator[Scores]:
        """Scores of the named systems; a system may have several rows."""
        for name in names:
            yield from self.systems[name]()

    # systems

    def cmt(self) -> Iterator[Scores]:
        """The memory, and the memory with the right document's memories given instead of selected."""
        with self.bank.answerer() as answerer:
            yield self._memory_scores("cmt", answerer)
        given = self.bank.memories_of(self.doc_ids)
        with self.bank.answerer([]) as answerer:
            replies = [answer.text for answer in _never_abstaining(answerer).answer_from(self.questions, given)]
        yield self._scores("cmt, right document given", replies, None)

    def memory(self) -> Iterator[Scores]:
        """Banks without text in 4 bits, with a vector for eight tokens, four and sixteen."""
        if not self._exists("memory", self.vectors):
            return
        bank = self.params.bank.model_copy(update={"keep_text": False, "codes": "int4"})
        for window, label in ((8, "memory"), (4, "memory, n/4"), (16, "memory, n/16")):
            compressor = self.params.compressor.model_copy(update={"path": self.vectors, "window": window})
            params = self.params.model_copy(update={"bank": bank, "compressor": compressor})
            yield self._textless_scores(label, self._compressed(self.vectors, params))

    def mac(self) -> Iterator[Scores]:
        """MAC (arXiv 2403.04317)."""
        if self._exists("mac", self.trained_mac):
            with self._compressed(self.trained_mac, self.params).answerer() as answerer:
                yield self._memory_scores("mac", answerer)

    def mbc(self) -> Iterator[Scores]:
        """MAC with a code for each vector, the nearest of CODES centroids (MBC, arXiv 2601.00756)."""
        folder, dim = self.trained_mac, self.lm.hidden_size
        if not self._exists("mbc", folder):
            return
        # 1. MAC's memories
        bank = self.params.bank.model_copy(update={"codes": "fp16"})
        compressed = self._compressed(folder, self.params.model_copy(update={"bank": bank}))
        memories = [dequantize(blob, "fp16", dim) for blob in compressed.rows["memory"].to_pylist()]  # (k, D) each
        # 2. the codes, of the stream itself, as those of MBC follow it
        vectors = np.concatenate(memories)
        means = MiniBatchKMeans(min(CODES, len(vectors)), random_state=self.params.seed, n_init=1).fit(vectors)
        coded = [quantize(means.cluster_centers_[means.predict(memory)], "fp16") for memory in memories]
        # 3. the bank, and its size where a vector is a code of nine bits and the centroids are in fp16
        rows = replace_column(compressed.rows, "memory", coded)
        with replace(compressed, rows=rows).answerer() as answerer:
            row = self._memory_scores("mbc", answerer)
        size = len(vectors) * math.ceil(math.log2(CODES)) / 8 + 2 * dim * len(means.cluster_centers_)
        yield row | {"of_memories": round(size / (2 * dim * len(vectors)), 4)}

    def rag_with_trained_prefix(self) -> Iterator[Scores]:
        """Whole texts from a search, behind a prefix that was trained to answer from them; the best search first."""
        if not self._exists("rag_trained", self.rag_trained):
            return
        compressed = self._compressed(self.rag_trained, self.params)
        rows = []
        for way, params in trained_rag_ways(self.params).items():
            with replace(compressed, params=params).answerer() as answerer:
                rows.append(self._memory_scores(f"rag_trained, {way}", answerer))
        best, *others = sorted(rows, key=lambda row: -row["f1"])
        yield best | {"row": "rag_trained", "way": best["row"].partition(", ")[2]}
        yield from others

    def rag(self) -> Iterator[Scores]:
        """The frozen LM with the best text, or the best three, in its prompt."""
        searches = {"BM25": (False, True), "dense": (True, False), "hybrid": (True, True)}
        with self.bank.answerer() as answerer:
            for (name, (dense, words)), top_k in product(searches.items(), (1, 3)):
                label = "rag" if (name, top_k) == ("BM25", 1) else f"rag, {name} top-{top_k}"
                yield self._rag_scores(label, answerer, dense=dense, words=words, top_k=top_k)

    def full(self) -> Iterator[Scores]:
        """The frozen LM with the right document's text in its prompt."""
        texts = dict(zip(*(self.sample.documents[name].to_pylist() for name in ("doc_id", "text")), strict=True))
        passages = [[Passage(doc_id, texts[doc_id])] for doc_id in self.doc_ids]
        for label, examples in (("full", EXAMPLES), ("full, zero-shot", ())):

            def ask(
                indices: Sequence[int], max_new_tokens: int, examples: Sequence[Example] = examples
            ) -> list[Prediction]:
                return given_text(
                    self.lm,
                    [self.questions[i] for i in indices],
                    [passages[i] for i in indices],
                    examples=examples,
                    max_new_tokens=max_new_tokens,
                    batch_size=self.params.answering.batch_size,
                )

            yield self._timed_scores(label, ask)

    def closed(self) -> Iterator[Scores]:
        """The frozen LM without any document."""
        for label, examples in (("closed", EXAMPLES), ("closed, zero-shot", ())):

            def ask(
                indices: Sequence[int], max_new_tokens: int, examples: Sequence[Example] = examples
            ) -> list[Prediction]:
                return closed_book(
                    self.lm,
                    [self.questions[i] for i in indices],
                    examples=examples,
                    max_new_tokens=max_new_tokens,
                    batch_size=self.params.answering.batch_size,
                )

            yield self._timed_scores(label, ask)

    # parts

    def abstention(self) -> Scores:
        """Abstention on questions whose document is not in the bank; other documents of its article are."""
        with self.bank.answerer() as answerer:
            return self._abstention_scores(answerer, absent=self.sample.absent, present=self.sample.questions)

    def strangers(self) -> Scores:
        """Abstention on as many questions whose whole article is not in the bank, which holds half of the articles."""
        inside, outside = self._article_halves()
        with self.bank.answerer(inside) as answerer:
            return self._abstention_scores(
                answerer, absent=self._questions_on(outside), present=self._questions_on(inside)
            )

    def retention(self) -> Scores:
        """F1 on the first documents, in a bank of these and after many more were added."""
        order = self.sample.documents["doc_id"].to_pylist()
        random.Random(0).shuffle(order)
        return self._growth_scores(order[:EARLY_DOCUMENTS], order[: EARLY_DOCUMENTS + LATER_DOCUMENTS])

    def noise(self) -> Scores:
        """F1 with as many irrelevant documents, all of other articles, as relevant ones."""
        relevant, irrelevant = self._article_halves()
        return self._growth_scores(relevant, relevant + irrelevant[: len(relevant)])

    def _article_halves(self) -> tuple[list[str], list[str]]:
        """Ids of the documents of the first half of the articles, and of the second half."""
        titles = dict(zip(*(self.sample.documents[name].to_pylist() for name in ("doc_id", "title")), strict=True))
        articles = sorted({str(title) for title in titles.values()})
        first_half = set(articles[: len(articles) // 2])
        inside = [doc_id for doc_id, title in titles.items() if str(title) in first_half]
        return inside, [doc_id for doc_id, title in titles.items() if str(title) not in first_half]

    def _questions_on(self, doc_ids: Sequence[str]) -> pa.Table:
        """A sample of the questions on these documents, as large as the one of the rows if there are so many."""
        table = rows_with(self.sample.all_questions, "doc_id", doc_ids)
        count = min(len(self.questions), table.num_rows)
        rows = random.Random(0).sample(range(table.num_rows), count)
        return take(table, sorted(rows))

    def _growth_scores(self, before: Sequence[str], after: Sequence[str]) -> Scores:
        """F1 on the documents `before`, in a bank of these and in a bank of the documents `after`."""
        table = self._questions_on(before)
        questions, golds = table["question"].to_pylist(), table["answers"].to_pylist()
        scores = []
        for doc_ids in (before, after):
            with self.bank.answerer(doc_ids) as answerer:
                answers = _never_abstaining(answerer).answer(questions, as_of=[None] * len(questions))
            scores.append(100 * float(mark([answer.text for answer in answers], golds).f1.mean()))
        return {
            "documents": len(before),
            "of": len(after),
            "questions": len(questions),
            "before": scores[0],
            "after": scores[1],
            "left": 100 * scores[1] / scores[0] if scores[0] else 0.0,
        }

    def _abstention_scores(self, answerer: Answerer, *, absent: pa.Table, present: pa.Table) -> Scores:
        """Share of "not in memory" on questions whose document is `absent` and on those whose document is `present`.

        At the threshold of the params, and at the threshold that refuses a tenth of the `present` ones; and the share
        of the `absent` ones that are answered correctly (EM), from another document with the same answer.
        """
        # 1. answer without abstention
        answers = {
            name: _never_abstaining(answerer).answer(table["question"].to_pylist(), as_of=[None] * table.num_rows)
            for name, table in {"absent": absent, "present": present}.items()
        }
        # 2. shares below the thresholds
        confidence = {name: np.array([answer.confidence for answer in part]) for name, part in answers.items()}
        threshold = self.params.selection.abstain_below
        tenth = float(np.quantile(confidence["present"], 0.1))
        elsewhere = mark([answer.text for answer in answers["absent"]], absent["answers"].to_pylist())
        return {name: float((values < threshold).mean()) for name, values in confidence.items()} | {
            "threshold for a tenth": tenth,
            "absent then": float((confidence["absent"] < tenth).mean()),
            "absent, but said elsewhere": float(elsewhere.em.mean()),
        }

    # scores

    def _compressed(self, folder: Path, params: Params) -> TemporaryBank:
        """The documents, compressed by the compressor in `folder`."""
        return TemporaryBank.of(folder, lm=self.lm, documents=self.sample.documents, params=params)

    def _exists(self, name: str, folder: Path) -> bool:
        """Whether `folder` has a compressor for the LM; if not, the reason is printed to stderr."""
        if reason := missing_compressor(folder, self.lm):
            Console(stderr=True).print(f"row {name} is left out: {reason}")
        return reason is None

    def _textless_scores(self, label: str, compressed: TemporaryBank) -> Scores:
        """As `_memory_scores`, with the number of tokens that one vector stands for."""
        with compressed.answerer() as answerer:
            row = self._memory_scores(label, answerer)
        vectors, tokens = (pc.sum(compressed.rows[name]).as_py() for name in ("n_vectors", "n_tokens"))
        return row | {"tokens_per_vector": round(tokens / vectors, 2)}

    def _memory_scores(self, label: str, answerer: Answerer) -> Scores:
        def ask(indices: Sequence[int], max_new_tokens: int) -> list[Prediction]:
            questions = [self.questions[i] for i in indices]
            answers = _never_abstaining(answerer, max_new_tokens).answer(questions, as_of=[None] * len(questions))
            return [Prediction(answer.text, tuple(source.doc_id for source in answer.sources)) for answer in answers]

        return self._timed_scores(label, ask)

    def _rag_scores(self, label: str, answerer: Answerer, *, dense: bool, words: bool, top_k: int) -> Scores:
        def ask(indices: Sequence[int], max_new_tokens: int) -> list[Prediction]:
            questions = [self.questions[i] for i in indices]
            predictions = rag(
                self.lm,
                answerer.bank,
                questions,
                [None] * len(questions),
                keys=answerer.keys(questions) if dense else None,
                top_k=top_k,
                words=words,
                max_new_tokens=max_new_tokens,
                batch_size=self.params.answering.batch_size,
            )
            return predictions or []

        return self._timed_scores(label, ask)

    def _timed_scores(self, label: str, ask: Ask) -> Scores:
        """Scores of all questions, with the median time to the first token of single ones."""
        predictions = ask(range(len(self.questions)), self.params.answering.max_new_tokens)
        ranked = [prediction.doc_ids for prediction in predictions]
        times = []
        for i in range(min(TIMED_QUESTIONS, len(self.questions))):
            started = time.perf_counter()
            ask([i], 1)
            times.append(1000 * (time.perf_counter() - started))
        row = self._scores(label, [prediction.text for prediction in predictions], ranked if any(ranked) else None)
        return row | {"first_token": round(statistics.median(times), 1)}

    def _scores(self, label: str, replies: Sequence[str], ranked: Sequence[tuple[str, ...]] | None) -> Scores:
        """Scores of the replies; recall if the documents behind them are given, best first."""
        scores = summarise(mark(replies, self.golds), recalled=None, seed=self.params.seed)
        recall = None
        if ranked is not None:
            pairs = list(zip(ranked, self.doc_ids, strict=True))
            deepest = max(len(doc_ids) for doc_ids in ranked)
            recall = {
                k: sum(recall_at_k(*pair, k) for pair in pairs) / len(pairs) for k in RECALL_DEPTHS if k <= deepest
            }
        low, high = scores.ci
        return {
            "row": label,
            "em": round(scores.em, 2),
            "em_prefix": round(scores.em_prefix, 2),
            "f1": round(scores.f1, 2),
            "ci": [round(low, 2), round(high, 2)],
            "recall": recall and {str(k): round(value, 4) for k, value in recall.items()},
            "n": scores.n,
        }


def _never_abstaining(answerer: Answerer, max_new_tokens: int | None = None) -> Answerer:
    """The same answerer without abstention, which the part `abstention` measures."""
    answering = answerer.params.answering
    answering = answering.model_copy(update={"max_new_tokens": max_new_tokens or answering.max_new_tokens})
    params = answerer.params.without_abstention().model_copy(update={"answering": answering})
    return Answerer(model=answerer.model, lm=answerer.lm, bank=answerer.bank, params=params)


ALL = "cmt,memory,mac,mbc,rag,rag_trained,full,closed"
PARTS = "abstention,strangers,retention,noise"


def main(
    data: Annotated[Path, typer.Option(envvar="CMT_SQUAD_DEV", help="A file of the accepted formats")],
    form: Annotated[str, typer.Option("--format")] = "squad",
    documents: Annotated[int, typer.Option(min=1)] = 1665,
    questions: Annotated[int, typer.Option(min=0, help="0: every question on them")] = 0,
    seed: int = 0,
    rows: Annotated[str, typer.Option(help=f"Systems, of {ALL}; '' for none.")] = "all",
    parts: Annotated[str, typer.Option(help=f"Further measurements, of {PARTS}.")] = "",
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
    vectors: Annotated[Path, typer.Option(help="Compressor for banks without text.")] = ROOT / "data/compressor",
    rag_trained: Annotated[Path, typer.Option(help="Compressor with a trained prefix for RAG.")] = ROOT / "data/rag",
    mac: Annotated[Path, typer.Option(help="Compressor of MAC.")] = ROOT / "data/trained/mac",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the scores of each row."""
    # 1. validate the names first: measuring takes hours
    row_names, part_names = _names(rows, ALL, "--rows"), _names(parts, PARTS, "--parts")
    workspace = cmt.open(params=params)
    sample = Sample.draw(data, form, documents=documents, questions=questions, seed=seed)
    if not sample.questions.num_rows:
        raise StreamError(f"{data} has no question with an answer on the sampled documents: draw more, or name another")
    if "abstention" in part_names and not sample.absent.num_rows:
        raise typer.BadParameter(
            "every document would be in the bank, so none is absent: draw fewer", param_hint="--documents"
        )
    # 2. measure
    benchmark = Benchmark(sample, workspace.params, workspace.lm, vectors=vectors, rag_trained=rag_trained, mac=mac)
    stderr = Console(stderr=True)
    measured = []
    for row in benchmark.rows(track(row_names, "rows", console=stderr)):
        measured.append(row)
        stderr.print(f"{row['row']}: F1 {row['f1']:.1f}")  # printed at once, because a later row may fail
    _normalise_by_teacher(measured)
    extra = {name: benchmark.parts[name]() for name in track(part_names, "parts", console=stderr)}
    # 3. print
    result = {"documents": sample.documents.num_rows, "seed": seed, "rows": measured} | extra
    print(json.dumps(result)) if as_json else _print_table(result)


def _normalise_by_teacher(rows: Sequence[Scores]) -> None:
    """Give each row without text the share of the teacher's gain that it keeps: (x − closed) ÷ (teacher − closed).

    The teacher is the same compressor with the text kept (arXiv 2510.20797). Needs the rows `cmt` and `closed`.
    """
    f1 = {row["row"]: row["f1"] for row in rows}
    if {"cmt", "closed"} <= f1.keys() and f1["cmt"] != f1["closed"]:
        for row in rows:
            if row["row"].startswith("memory"):
                row["teacher_normalised"] = (row["f1"] - f1["closed"]) / (f1["cmt"] - f1["closed"])


def _names(names: str, accepted: str, option: str) -> list[str]:
    """The comma-separated `names`, or all accepted ones. BadParameter for an unknown name."""
    chosen = [name.strip() for name in (accepted if names == "all" else names).split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in accepted.split(",")]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {accepted}", param_hint=option)
    return chosen


def _print_table(result: Scores) -> None:
    title = f"{result['documents']} documents"
    table = Table("row", "EM", "EM prefix", "F1", "95 %", "recall", "first token", "of teacher", title=title)
    for row in result["rows"]:
        scores = (f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1"))
        low, high = row["ci"]
        recall = " ".join(f"@{k} {value:.3f}" for k, value in (row["recall"] or {}).items())
        first_token = f"{row['first_token']:.0f} ms" if "first_token" in row else ""
        normalised = f"{row['teacher_normalised']:.2f}" if "teacher_normalised" in row else ""
        table.add_row(row["row"], *scores, f"{low:.1f} – {high:.1f}", recall, first_token, normalised)
    console = Console()
    console.print(table)
    for part in PARTS.split(","):
        if part in result:
            console.print(f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in result[part].items()))


if __name__ == "__main__":
    run_script(main)
