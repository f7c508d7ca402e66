"""The published protocol (method §3): a stream of documents nobody trained on, all adapted first, then asked about.

    python benchmarks/paper_protocol.py --data dev-v1.1.json --documents 1665 --questions 1000

Any file of the accepted formats will do; without `--data` the environment variable CMT_SQUAD_DEV names it. The rows of
other compressors run where these are there: the one for banks without text, MAC (`baselines.mac`) and a trained RAG
prefix. Scores are 0–100, recall 0–1; `first_token` is the median time to the first token of single questions in ms.
"""

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import cmt
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import EXAMPLES, Example, Passage, Prediction, closed_book, given_text, rag
from cmt.cli.context import run_script
from cmt.config import Params
from cmt.errors import StreamError
from cmt.evaluation.metrics import mark, recall_at_k, summarise
from cmt.evaluation.temporary_bank import TemporaryBank, missing_compressor
from cmt.lm.model import FrozenLM
from cmt.stream import readers
from cmt.stream.ingest import Known, check, select

ROOT = Path(__file__).resolve().parent.parent
DEPTHS = (1, 3, 5, 20)
TIMED = 25  # questions of which the time to the first token is taken
ABSENT = 500  # at most so many questions whose document is not in the bank
EARLY = 200  # documents whose questions tell what is retained


@dataclass(frozen=True)
class Text:
    """What was drawn: the documents of the stream, all questions on them, those asked, and some on other documents."""

    documents: pa.Table
    every: pa.Table
    questions: pa.Table
    absent: pa.Table

    @classmethod
    def draw(cls, data: Path, form: str, *, documents: int, questions: int, seed: int) -> "Text":
        raw = readers.read(data, form)
        found = select(*check(raw, now=datetime.max.replace(tzinfo=UTC)), unread=raw.rejected, known=Known())
        if not (found.documents.num_rows and found.questions.num_rows):
            why = f"; {(bad := found.rejected[0]).file}, row {bad.row}: {bad.reason}" if found.rejected else ""
            raise StreamError(f"{data} has no question on a document that can be read{why}")
        table = found.documents.sort_by("doc_id")
        source = random.Random(seed)
        places = sorted(source.sample(range(table.num_rows), min(documents, table.num_rows)))
        drawn = table.take(pa.array(places))
        known = set(drawn["doc_id"].to_pylist())
        rows = found.questions.sort_by("question_id")
        inside = [row for row, doc_id in enumerate(rows["doc_id"].to_pylist()) if doc_id in known]
        outside = sorted(set(range(rows.num_rows)) - set(inside))
        return cls(
            drawn,
            rows.take(pa.array(inside)),
            rows.take(pa.array(sorted(source.sample(inside, min(questions or len(inside), len(inside)))))),
            rows.take(pa.array(sorted(source.sample(outside, min(ABSENT, len(outside)))), pa.int64())),
        )


Ask = Callable[[Sequence[int], int], list[Prediction]]  # places of the questions, longest answer


class Benchmark:
    """The rows by name."""

    def __init__(self, text: Text, params: Params, lm: FrozenLM, *, vectors: Path, rag_trained: Path) -> None:
        self.text, self.params, self.lm = text, params, lm
        self.vectors, self.rag_trained = vectors, rag_trained
        self.asked = text.questions["question"].to_pylist()
        self.golds = text.questions["answers"].to_pylist()
        self.doc_ids = text.questions["doc_id"].to_pylist()

    @cached_property
    def kept(self) -> TemporaryBank:
        return self._adapted(self.params.compressor.path, self.params)

    def rows(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Measure `names` in turn."""
        for name in names:
            yield from getattr(self, f"row_{name}")()

    def row_cmt(self) -> Iterator[dict[str, Any]]:
        with self.kept.answerer() as answerer:
            yield self._memory("cmt", answerer)
        memories: dict[str, list[dict[str, Any]]] = {}
        for row in self.kept.rows.to_pylist():
            memories.setdefault(row["doc_id"], []).append(row)
        with self.kept.answerer([]) as answerer:
            given = [memories[doc_id] for doc_id in self.doc_ids]
            replies = [answer.text for answer in _open(answerer).answer_from(self.asked, given)]
        yield self._scored("cmt, right document given", replies, None)

    def row_memory(self) -> Iterator[dict[str, Any]]:
        """Banks of nothing but vectors: of the compressor for such banks, and of the one that is in use."""
        bank = self.params.bank.model_copy(update={"keep_text": False, "codes": "int4"})
        params = self.params.model_copy(update={"bank": bank})
        if self._is_trained("memory", self.vectors):
            yield self._textless("memory", self._adapted(self.vectors, params))
        yield self._textless("memory, compressor in use", self._adapted(params.compressor.path, params))

    def row_mac(self) -> Iterator[dict[str, Any]]:
        folder = self.params.baselines.mac
        if self._is_trained("mac", folder):
            with self._adapted(folder, self.params).answerer() as answerer:
                yield self._memory("mac", answerer)

    def row_rag_trained(self) -> Iterator[dict[str, Any]]:
        """The texts that a search finds, behind a prefix that was trained to answer from them; the best way first."""
        if not self._is_trained("rag_trained", self.rag_trained):
            return
        adapted = self._adapted(self.rag_trained, self.params)
        ways = {"BM25": 100.0, "dense": 0.0, "hybrid": self.params.selection.full_text_weight}
        rows = []
        for (name, weight), top_k in product(ways.items(), (1, 3)):
            how = self.params.selection.model_copy(
                update={"top_k": top_k, "reach": math.inf, "full_text_weight": weight}
            )
            changed = replace(adapted, params=self.params.model_copy(update={"selection": how}))
            with changed.answerer() as answerer:
                rows.append(self._memory(f"rag_trained, {name} top-{top_k}", answerer))
        best, *others = sorted(rows, key=lambda row: -row["f1"])
        yield best | {"row": "rag_trained", "way": best["row"].partition(", ")[2]}
        yield from others

    def row_rag(self) -> Iterator[dict[str, Any]]:
        with self.kept.answerer() as answerer:
            for name, (dense, words) in {"BM25": (False, True), "dense": (True, False), "hybrid": (True, True)}.items():
                for top_k in (1, 3):
                    label = "rag" if (name, top_k) == ("BM25", 1) else f"rag, {name} top-{top_k}"
                    yield self._rag(label, answerer, dense=dense, words=words, top_k=top_k)

    def row_full(self) -> Iterator[dict[str, Any]]:
        by_id = dict(zip(*(self.text.documents[name].to_pylist() for name in ("doc_id", "text")), strict=True))
        passages = [[Passage(doc_id, by_id[doc_id])] for doc_id in self.doc_ids]
        for label, examples in (("full", EXAMPLES), ("full, zero-shot", ())):

            def ask(places: Sequence[int], longest: int, shown: Sequence[Example] = examples) -> list[Prediction]:
                given = [passages[place] for place in places]
                return given_text(self.lm, self._questions(places), given, examples=shown, **self._how(longest))

            yield self._plain(label, ask)

    def row_closed(self) -> Iterator[dict[str, Any]]:
        for label, examples in (("closed", EXAMPLES), ("closed, zero-shot", ())):

            def ask(places: Sequence[int], longest: int, shown: Sequence[Example] = examples) -> list[Prediction]:
                return closed_book(self.lm, self._questions(places), examples=shown, **self._how(longest))

            yield self._plain(label, ask)

    def abstention(self) -> dict[str, float]:
        """Questions whose document is not in the bank, others of its article being there."""
        with self.kept.answerer() as answerer:
            return self._refused(answerer, absent=self.text.absent, present=self.text.questions)

    def strangers(self) -> dict[str, float]:
        """As many questions whose whole article is not in the bank: half of the articles are."""
        own, others = self._halves()
        with self.kept.answerer(own) as answerer:
            return self._refused(answerer, absent=self._on(others), present=self._on(own))

    def retention(self) -> dict[str, float]:
        """F1 of the first documents' questions in a bank of those alone and of all: method §4."""
        order = self.text.documents["doc_id"].to_pylist()
        random.Random(0).shuffle(order)
        return self._grown(order[:EARLY], order[: EARLY + 1200])

    def noise(self) -> dict[str, float]:
        """F1 with as many irrelevant documents, all of other articles, as relevant ones: method §4."""
        relevant, others = self._halves()
        return self._grown(relevant, relevant + others[: len(relevant)])

    def _halves(self) -> tuple[list[str], list[str]]:
        """The documents of the first half of the articles, and those of the others."""
        titles = dict(zip(*(self.text.documents[name].to_pylist() for name in ("doc_id", "title")), strict=True))
        articles = sorted({str(title) for title in titles.values()})
        first = set(articles[: len(articles) // 2])
        own = [doc_id for doc_id, title in titles.items() if str(title) in first]
        return own, [doc_id for doc_id, title in titles.items() if str(title) not in first]

    def _grown(self, few: Sequence[str], many: Sequence[str]) -> dict[str, float]:
        """As many questions on the `few` as the rows are asked, in a bank of those alone and of `many`."""
        table = self._on(few)
        asked, golds = table["question"].to_pylist(), table["answers"].to_pylist()
        scores = []
        for doc_ids in (few, many):
            with self.kept.answerer(doc_ids) as answerer:
                replies = [answer.text for answer in _open(answerer).answer(asked, as_of=[None] * len(asked))]
            scores.append(100 * float(mark(replies, golds).f1.mean()))
        left = 100 * scores[1] / scores[0] if scores[0] else 0.0
        return {
            "documents": len(few),
            "of": len(many),
            "questions": len(asked),
            "before": scores[0],
            "after": scores[1],
            "left": left,
        }

    def _on(self, doc_ids: Sequence[str]) -> pa.Table:
        """As many questions on these documents as the rows are asked, if there are so many."""
        every = self.text.every
        rows = every.filter(pc.is_in(every["doc_id"], value_set=pa.array(sorted(doc_ids), pa.string())))
        count = min(len(self.asked), rows.num_rows)
        places = random.Random(0).sample(range(rows.num_rows), count)
        return rows.take(pa.array(sorted(places), pa.int64()))

    def _refused(self, answerer: Answerer, *, absent: pa.Table, present: pa.Table) -> dict[str, float]:
        """Share of "not in memory" for both.

        At the threshold of the params, and at the one that refuses a tenth of the `present`; and the share of the
        `absent` that would have been answered right (EM), from another document that says it too.
        """
        threshold = self.params.selection.threshold
        asked = {
            name: _open(answerer).answer(table["question"].to_pylist(), as_of=[None] * table.num_rows)
            for name, table in {"absent": absent, "present": present}.items()
        }
        confidence = {name: np.array([answer.confidence for answer in answers]) for name, answers in asked.items()}
        tenth = float(np.quantile(confidence["present"], 0.1))
        elsewhere = mark([answer.text for answer in asked["absent"]], absent["answers"].to_pylist())
        return {name: float((values < threshold).mean()) for name, values in confidence.items()} | {
            "threshold for a tenth": tenth,
            "absent then": float((confidence["absent"] < tenth).mean()),
            "absent, but said elsewhere": float(elsewhere.em.mean()),
        }

    def _textless(self, label: str, adapted: TemporaryBank) -> dict[str, Any]:
        with adapted.answerer() as answerer:
            row = self._memory(label, answerer)
        vectors, tokens = (pc.sum(adapted.rows[name]).as_py() for name in ("n_vectors", "n_tokens"))
        return row | {"tokens_per_vector": round(tokens / vectors, 2)}

    def _adapted(self, folder: Path, params: Params) -> TemporaryBank:
        return TemporaryBank.of(folder, lm=self.lm, documents=self.text.documents, params=params)

    def _is_trained(self, name: str, folder: Path) -> bool:
        if why := missing_compressor(folder, self.lm):
            Console(stderr=True).print(f"row {name} is left out: {why}")
        return why is None

    def _how(self, longest: int) -> dict[str, Any]:
        return {"max_new_tokens": longest, "batch_size": self.params.answering.batch_size}

    def _questions(self, places: Sequence[int]) -> list[str]:
        return [self.asked[place] for place in places]

    def _rag(self, label: str, answerer: Answerer, *, dense: bool, words: bool, top_k: int) -> dict[str, Any]:
        def ask(places: Sequence[int], longest: int) -> list[Prediction]:
            questions, moments = self._questions(places), [None] * len(places)
            how = self._how(longest) | {"top_k": top_k, "words": words}
            keys = answerer.keys(questions) if dense else None
            return rag(self.lm, answerer.bank, questions, moments, keys=keys, **how) or []

        return self._plain(label, ask)

    def _memory(self, label: str, answerer: Answerer) -> dict[str, Any]:
        def ask(places: Sequence[int], longest: int) -> list[Prediction]:
            answers = _open(answerer, longest).answer(self._questions(places), as_of=[None] * len(places))
            return [Prediction(a.text, tuple(source.doc_id for source in a.sources)) for a in answers]

        return self._plain(label, ask)

    def _plain(self, label: str, ask: Ask) -> dict[str, Any]:
        predictions = ask(range(len(self.asked)), self.params.answering.max_new_tokens)
        ranked = [prediction.doc_ids for prediction in predictions]
        times = []
        for place in range(min(TIMED, len(self.asked))):
            started = time.perf_counter()
            ask([place], 1)
            times.append(1000 * (time.perf_counter() - started))
        row = self._scored(label, [prediction.text for prediction in predictions], ranked if any(ranked) else None)
        return row | {"first_token": round(statistics.median(times), 1)}

    def _scored(self, label: str, replies: Sequence[str], ranked: Sequence[tuple[str, ...]] | None) -> dict[str, Any]:
        scores = summarise(mark(replies, self.golds), recalled=None, seed=self.params.seed)
        recall = None
        if ranked is not None:
            pairs = list(zip(ranked, self.doc_ids, strict=True))
            deepest = max(len(doc_ids) for doc_ids in ranked)
            recall = {k: sum(recall_at_k(*pair, k) for pair in pairs) / len(pairs) for k in DEPTHS if k <= deepest}
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


def _open(answerer: Answerer, longest: int | None = None) -> Answerer:
    """One that holds nothing back: whether an answer is held back is measured apart."""
    how, writing = answerer.params.selection, answerer.params.answering
    changed = {
        "selection": how.model_copy(update={"threshold": -1.0}),
        "answering": writing.model_copy(update={"max_new_tokens": longest or writing.max_new_tokens}),
    }
    params = answerer.params.model_copy(update=changed)
    return Answerer(model=answerer.model, lm=answerer.lm, bank=answerer.bank, params=params)


ALL = "cmt,memory,mac,rag,rag_trained,full,closed"
PARTS = "abstention,strangers,retention,noise"


def main(
    data: Annotated[Path, typer.Option(envvar="CMT_SQUAD_DEV", help="A file of the accepted formats")],
    form: Annotated[str, typer.Option("--format")] = "squad",
    documents: Annotated[int, typer.Option(min=1)] = 1665,
    questions: Annotated[int, typer.Option(min=0, help="0: every question on them")] = 0,
    seed: int = 0,
    rows: Annotated[str, typer.Option(help=f"of {ALL}; '' for none")] = "all",
    parts: Annotated[str, typer.Option(help=f"also, of {PARTS}")] = "",
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
    vectors: Annotated[Path, typer.Option(help="compressor for a bank without text")] = ROOT / "data/vectors",
    rag_trained: Annotated[Path, typer.Option(help="folder of a trained prefix")] = ROOT / "data/rag",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print a row each; see the module for what they are."""
    names, also = _chosen(rows, ALL, "--rows"), _chosen(parts, PARTS, "--parts")
    workspace = cmt.open(params=params)
    text = Text.draw(data, form, documents=documents, questions=questions, seed=seed)
    if "abstention" in also and not text.absent.num_rows:
        raise typer.BadParameter("every document would be in the bank; draw fewer", param_hint="--documents")
    bench = Benchmark(text, workspace.params, workspace.lm, vectors=vectors, rag_trained=rag_trained)
    stderr = Console(stderr=True)
    measured = []
    for row in bench.rows(track(names, "rows", console=stderr)):
        measured.append(row)
        stderr.print(f"{row['row']}: F1 {row['f1']:.1f}")  # what took hours is seen should the next row fail
    extra = {part: getattr(bench, part)() for part in track(also, "parts", console=stderr)}
    result = {"documents": text.documents.num_rows, "seed": seed, "rows": measured} | extra
    print(json.dumps(result)) if as_json else _show(result)


def _chosen(names: str, among: str, option: str) -> list[str]:
    """Before hours of measuring, not after. BadParameter for a name that is none."""
    chosen = [name.strip() for name in (among if names == "all" else names).split(",") if name.strip()]
    if wrong := [name for name in chosen if name not in among.split(",")]:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {among}", param_hint=option)
    return chosen


def _show(result: dict[str, Any]) -> None:
    table = Table(
        "row", "EM", "EM prefix", "F1", "95 %", "recall", "first token", title=f"{result['documents']} documents"
    )
    for row in result["rows"]:
        recall = " ".join(f"@{k} {value:.3f}" for k, value in (row["recall"] or {}).items())
        low, high = row["ci"]
        first = f"{row['first_token']:.0f} ms" if "first_token" in row else ""
        table.add_row(
            row["row"],
            *(f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1")),
            f"{low:.1f} – {high:.1f}",
            recall,
            first,
        )
    console = Console()
    console.print(table)
    for part in PARTS.split(","):
        if part in result:
            console.print(f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in result[part].items()))


if __name__ == "__main__":
    run_script(main)
