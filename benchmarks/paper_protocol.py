"""The published protocol: all documents of a file are compressed first, then questions about them
are asked.

    python benchmarks/paper_protocol.py --data dev-v1.1.json --documents 1665 --questions 1000
    python benchmarks/paper_protocol.py --data news/ --data dev-v2.0.json.xz --rows cmt,rag \\
        --parts confidence
    python benchmarks/paper_protocol.py --data news.jsonl --rows cmt --parts supersession \\
        --questions 400

Each file has a bank of its own. All systems answer the same questions, each as of its own date, and
none abstains but in `supersession` and `swapped_names`. A system whose compressor cannot be loaded
is left out: `memory` (banks without text), `mac` and `mbc` (MAC with vectors and with codes;
docs/experiments.md has the command that trains it) and `rag_trained` (`make rag`). Prints JSON:
scores are 0–100, shares and recall 0–1; `first_token` is the median time to the first token of
single questions in ms. `cmt report` shows the file that `--out metrics/protocol.json` writes.
"""

import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from entity_swaps import swaps
from protocol import ROOT, TRAINED_RAG, Sample, data_of, first_token, read_lines, trained_rag_ways
from rich.console import Console
from rich.progress import track
from sklearn.cluster import MiniBatchKMeans

import cmt
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import Prediction
from cmt.bank.quantization import dequantize, quantize
from cmt.cli.context import run_script
from cmt.cli.output import write_json as print_json
from cmt.common.arrow import replace_column, rows_with
from cmt.common.storage import write_json
from cmt.config import Params
from cmt.errors import ModelError, StreamError
from cmt.evaluation import systems
from cmt.evaluation.calibration import calibrated_by, likely_shares, reliability
from cmt.evaluation.evaluate import SystemScores, recalled
from cmt.evaluation.metrics import mark, summarise
from cmt.evaluation.sampling import draw, sample_by_position
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.text.answers import normalise_answer
from cmt.text.question_names import find_names

STORIES = ROOT / "data/stories"  # names of their questions stand for names of no document
RECALL_DEPTHS = (1, 3, 5, 20)
TIMED_QUESTIONS = 25  # questions whose time to the first token is measured
EARLY_DOCUMENTS = 200  # documents whose questions show what is retained
LATER_DOCUMENTS = 1200  # documents that are added to them
CODES = 512  # of MBC (arXiv 2601.00756)
KNOWN_F1 = 0.5  # an answer with this F1 counts as known

# methods of `Benchmark`; a system of OPTIONAL needs a further compressor
SYSTEMS = ("cmt", "memory", "mac", "mbc", "rag", "rag_trained", "full", "closed")
OPTIONAL = ("memory", "mac", "mbc", "rag_trained")
PARTS = (
    *("confidence", "abstention", "off_topic", "retention"),
    *("noise", "supersession", "swapped_names", "missing_names"),
)

Scores = dict[str, Any]


@dataclass
class Benchmark:
    """The systems and parts of the benchmark on one sample."""

    sample: Sample
    params: Params
    lm: FrozenLM
    compressors: Mapping[
        str, Path
    ]  # folders of further compressors: `memory`, `mac` and `rag_trained`

    def __post_init__(self) -> None:
        self.selection, self.abstaining = self.params.selection, self.params
        self.params = self.params.without_abstention()
        self.asked: int = self.sample.questions.num_rows

    @cached_property
    def bank(self) -> TemporaryBank:
        """The documents, compressed by the compressor in use."""
        return self._compress(self.params.compressor.path, self.params)

    def rows(self, names: Iterable[str]) -> Iterator[Scores]:
        """Scores of the named systems; a system may have several rows. One without its compressor
        has none.
        """
        for name in names:
            try:
                yield from getattr(self, name)()
            except ModelError as error:
                if name not in OPTIONAL:
                    raise
                Console(stderr=True).print(f"system {name} is left out: {error}")

    # systems

    def cmt(self) -> Iterator[Scores]:
        """The memory, and the memory with the right document's memories given instead of
        selected.
        """
        yield from self._rows(self.bank, {"cmt": systems.memory})
        memories = defaultdict(list)
        for row in self.bank.rows.to_pylist():
            memories[row["doc_id"]].append(row)
        with self.bank.answerer() as answerer:
            data = data_of(self.bank, answerer, self.sample)
            given = answerer.answer_from(
                data.questions, [memories[doc_id] for doc_id in data.gold_documents]
            )
        yield self._scores(
            "cmt, right document given", [Prediction(answer.text, ()) for answer in given]
        )

    def memory(self) -> Iterator[Scores]:
        """Banks without text in 4 bits, with a vector for eight tokens, four and sixteen."""
        folder = self.compressors["memory"]
        bank = {"keep_text": False, "codes": "int4"}
        for window, label in ((8, "memory"), (4, "memory, n/4"), (16, "memory, n/16")):
            params = self.params.with_values(
                bank=bank, compressor={"path": folder, "window": window}
            )
            compressed = self._compress(folder, params)
            [row] = self._rows(compressed, {label: systems.memory})
            vectors, tokens = (
                pc.sum(compressed.rows[name]).as_py() for name in ("n_vectors", "n_tokens")
            )
            yield row | {"tokens_per_vector": round(tokens / vectors, 2)}

    def mac(self) -> Iterator[Scores]:
        """MAC (arXiv 2403.04317)."""
        yield from self._rows(
            self._compress(self.compressors["mac"], self.params), {"mac": systems.memory}
        )

    def mbc(self) -> Iterator[Scores]:
        """MAC with a code for each vector, the nearest of CODES centroids (MBC, arXiv
        2601.00756).
        """
        dim = self.lm.hidden_size
        # 1. MAC's memories
        compressed = self._compress(
            self.compressors["mac"], self.params.with_values(bank={"codes": "fp16"})
        )
        memories = [
            dequantize(blob, "fp16", dim) for blob in compressed.rows["memory"].to_pylist()
        ]  # (k, D) each
        # 2. the codes, of the stream itself; those of MBC follow the stream
        vectors = np.concatenate(memories)
        means = MiniBatchKMeans(
            min(CODES, len(vectors)), random_state=self.params.seed, n_init=1
        ).fit(vectors)
        coded = [
            quantize(means.cluster_centers_[means.predict(memory)], "fp16") for memory in memories
        ]
        # 3. the bank, and its size: nine bits for each vector, and the centroids in fp16
        coded_bank = replace(compressed, rows=replace_column(compressed.rows, "memory", coded))
        [row] = self._rows(coded_bank, {"mbc": systems.memory})
        size = len(vectors) * math.ceil(math.log2(CODES)) / 8 + 2 * dim * len(
            means.cluster_centers_
        )
        yield row | {"of_memories": round(size / (2 * dim * len(vectors)), 4)}

    def rag_trained(self) -> Iterator[Scores]:
        """Whole texts from a search, behind a prefix that was trained to answer from them."""
        compressed = self._compress(self.compressors["rag_trained"], self.params)
        for way, params in trained_rag_ways(self.params).items():
            yield from self._rows(
                replace(compressed, params=params), {f"rag_trained, {way}": systems.memory}
            )

    def rag(self) -> Iterator[Scores]:
        """The frozen LM with the best text, or the best three, in its prompt."""
        yield from self._rows(self.bank, systems.RAG_SYSTEMS)

    def full(self) -> Iterator[Scores]:
        """The frozen LM with the right document's text in its prompt."""
        zero_shot = partial(systems.full_text, examples=())
        yield from self._rows(self.bank, {"full": systems.full_text, "full, zero-shot": zero_shot})

    def closed(self) -> Iterator[Scores]:
        """The frozen LM without any document."""
        zero_shot = partial(systems.closed_book, examples=())
        yield from self._rows(
            self.bank, {"closed": systems.closed_book, "closed, zero-shot": zero_shot}
        )

    # parts

    def confidence(self) -> Scores:
        """Calibration of the confidence, F1 without an answer being 0, and the shares of likely and
        refused answers.
        """
        count = self.asked
        table = pa.concat_tables([self.sample.questions, self.sample.unanswerable])
        with self.bank.answerer() as answerer:
            answers = answerer.answer(
                table["question"].to_pylist(), as_of=table["asked_at"].to_pylist()
            )
        confidence = np.array([answer.confidence for answer in answers])
        f1 = mark(
            [answer.text for answer in answers],
            [row or [""] for row in table["answers"].to_pylist()],
        ).f1
        f1[count:] = 0.0
        refused = confidence < self.selection.abstain_below
        measured = reliability(confidence, f1)
        scores: Scores = {"calibration error": measured.error, "unanswerable": len(f1) - count}
        if count:
            given = ~refused[:count]
            likely, right = likely_shares(
                confidence[:count], f1[:count], given=given, likely=self.selection.likely_from
            )
            scores |= {
                "likely": likely,
                "right": right,
                "answerable, refused": float(refused[:count].mean()),
            }
        if len(f1) > count:
            scores["unanswerable, refused"] = float(refused[count:].mean())
        return {name: value for name, value in scores.items() if value is not None}

    def abstention(self) -> Scores:
        """Abstention on questions whose document is not in the bank; other documents of its article
        are.
        """
        with self.bank.answerer() as answerer:
            return self._abstention_scores(
                answerer, absent=self.sample.absent, present=self.sample.questions
            )

    def off_topic(self) -> Scores:
        """Abstention on questions whose whole article is not in the bank, which holds half of the
        articles.
        """
        inside, outside = self._article_halves()
        absent, present = self._questions_on(outside), self._questions_on(inside)
        with self.bank.answerer(inside) as answerer:
            return self._abstention_scores(answerer, absent=absent, present=present)

    def retention(self) -> Scores:
        """F1 on the first documents, in a bank of these and after many more were added."""
        order = self.sample.documents["doc_id"].to_pylist()
        random.Random(0).shuffle(order)
        return self._growth(order[:EARLY_DOCUMENTS], order[: EARLY_DOCUMENTS + LATER_DOCUMENTS])

    def noise(self) -> Scores:
        """F1 on relevant documents only, and with as many irrelevant ones, all of other
        articles.
        """
        relevant, irrelevant = self._article_halves()
        return self._growth(relevant, relevant + irrelevant[: len(relevant)])

    def supersession(self) -> Scores:
        """Questions whose answer an update changes: before it, after it, and after it as of the
        time before it.
        """
        # 1. the pairs of questions, and the chain of updates of each document
        documents = {
            row["doc_id"]: row for row in self.sample.documents.sort_by("published_at").to_pylist()
        }
        pairs = self._changed_answers(documents)
        depths, first = _chains(documents)
        # 2. bank the documents by their depth in a chain, and ask before the update of a document
        #    is in the bank
        replies: dict[str, dict[int, str]] = {"before": {}, "after": {}, "as of": {}}
        for depth in range(max(depths.values()) + 1):
            banked = [doc_id for doc_id in documents if depths[doc_id] <= depth]
            with replace(self.bank, params=self.abstaining).answerer(banked) as answerer:
                for state, found in replies.items():
                    side = 0 if state == "before" else 1
                    places = [
                        place
                        for place, pair in enumerate(pairs)
                        if depths[pair[side]["doc_id"]] == depth
                    ]
                    texts = self._replies(answerer, [pairs[i] for i in places], state, documents)
                    found |= dict(zip(places, texts, strict=True))
        # 3. score
        before, after, as_of_before = (
            [texts[place] for place in range(len(pairs))] for texts in replies.values()
        )
        chains = [first[pair[1]["doc_id"]] for pair in pairs]
        return self._supersession_scores(pairs, chains, before, after, as_of_before)

    def _supersession_scores(
        self,
        pairs: Sequence[tuple[Scores, Scores]],
        chains: Sequence[str],
        before: Sequence[str],
        after: Sequence[str],
        as_of_before: Sequence[str],
    ) -> Scores:
        """Scores of the replies to `pairs` before the update, after it, and after it as of before;
        `chains` has the chain of updates of each pair.
        """
        old, new = ([pair[side]["answers"] for pair in pairs] for side in (0, 1))
        known: list[int] = np.flatnonzero(mark(before, old).f1 >= KNOWN_F1).tolist()
        after_known, new_known, chains_known = (
            [values[i] for i in known] for values in (after, new, chains)
        )
        views = {
            "before: the old answer": (before, old, chains),
            "after: the new answer": (after, new, chains),
            "after, where the old one was known: the new answer": (
                after_known,
                new_known,
                chains_known,
            ),
            "after: still the old one (lower is better)": (after, old, chains),
            "after, as of before: the old answer": (as_of_before, old, chains),
        }
        scores: Scores = {}
        for name, view in views.items():
            for key, value in self._point(*view).items():
                scores[f"{name}, {key}"] = value
        return scores

    def _replies(
        self,
        answerer: Answerer,
        pairs: Sequence[tuple[Scores, Scores]],
        state: str,
        documents: Mapping[str, Scores],
    ) -> list[str]:
        """The answers to the new questions of `pairs` ("after") or the old ones, "as of" the moment
        before the update or now; "" for "not in memory".
        """
        questions = [pair[1 if state == "after" else 0]["question"] for pair in pairs]
        dates = [documents[pair[1]["doc_id"]]["published_at"] for pair in pairs]
        as_of: list[datetime | None] = [None] * len(pairs)
        if state == "as of":
            as_of = [date - timedelta(microseconds=1) for date in dates]
        answers = answerer.answer(questions, as_of=as_of)
        return [answer.text if answer.known else "" for answer in answers]

    def swapped_names(self) -> Scores:
        """Shares of the verdicts on questions as they are, and with a name or year that no document
        has.
        """
        # 1. the questions
        texts = [
            f"{row['title']} {row['text']} {row['source']}"
            for row in self.sample.documents.to_pylist()
        ]
        names_from = [row["question"] for row in read_lines(STORIES, "questions")]
        swapped = swaps(self.sample.all_questions.to_pylist(), texts, names_from, seed=0)
        swapped = random.Random(0).sample(swapped, min(self.asked, len(swapped)))
        dates = [swap.row["asked_at"] for swap in swapped]
        # 2. ask both forms; the answers to the first calibrate the confidence, as those of earlier
        #    rounds do
        with replace(self.bank, params=self.abstaining).answerer() as answerer:
            own = answerer.answer([swap.row["question"] for swap in swapped], as_of=dates)
            f1 = mark([answer.text for answer in own], [swap.row["answers"] for swap in swapped]).f1
            columns = {"cmt": [answer.text if answer.known else "" for answer in own], "cmt_f1": f1}
            calibration, _ = calibrated_by(
                [pa.table(columns | {"uncalibrated": [a.uncalibrated for a in own]})]
            )
            other = replace(answerer, calibration=calibration).answer(
                [s.question for s in swapped], as_of=dates
            )
        # 3. count; a calibration changes no refusal
        verdicts = defaultdict[str, list[str]](list)
        for answer in own:
            is_likely = calibration.apply(answer.uncalibrated) >= self.selection.likely_from
            given = "likely" if is_likely else "unsure"
            verdicts["as they are"].append(given if answer.known else "not_in_memory")
        for answer, swap in zip(other, swapped, strict=True):
            verdicts["swapped"].append(answer.verdict)
            verdicts[f"swapped {swap.kind}"].append(answer.verdict)
        return _shares(verdicts)

    def missing_names(self) -> Scores:
        """Shares of the answerable questions with names that their own document and the one before
        it lack.
        """
        documents = {row["doc_id"]: row for row in self.sample.documents.to_pylist()}
        counts = Counter[str]()
        for row in self.sample.all_questions.to_pylist():
            document = documents[row["doc_id"]]
            known = [document, documents.get(document["supersedes"], {})]
            text = "\n".join(
                one.get(key) or "" for one in known for key in ("source", "title", "text")
            )
            names = find_names(row["question"], text, day=document["published_at"].date())
            group = (
                "all"
                if names.all_missing
                else "some"
                if names.missing
                else "doubtful"
                if names.doubtful
                else ""
            )
            counts[group] += 1
        shares = {group: counts[group] / counts.total() for group in ("all", "some", "doubtful")}
        return {"questions": counts.total()} | shares

    def _changed_answers(self, documents: Mapping[str, Scores]) -> list[tuple[Scores, Scores]]:
        """At most `questions` pairs of equal questions on a document and its update without a
        common answer.
        """
        by_document = defaultdict[str, list[Scores]](list)
        for row in self.sample.all_questions.to_pylist():
            by_document[row["doc_id"]].append(row)
        pairs = [
            (old, new)
            for doc_id, document in documents.items()
            for new in by_document[doc_id]
            for old in by_document[document["supersedes"]]
            if normalise_answer(old["question"]) == normalise_answer(new["question"])
            and {*map(normalise_answer, old["answers"])}.isdisjoint(
                map(normalise_answer, new["answers"])
            )
        ]
        if not pairs:
            raise StreamError(
                "no question has another answer in a document that supersedes its own"
            )
        return draw(pairs, limit=self.asked, seed=self.params.seed)

    def _article_halves(self) -> tuple[list[str], list[str]]:
        """Ids of the documents of the first half of the articles, and of the second half."""
        columns = (self.sample.documents[name].to_pylist() for name in ("doc_id", "title"))
        titles = {doc_id: title or doc_id for doc_id, title in zip(*columns, strict=True)}
        articles = sorted(set(titles.values()))
        first_half = set(articles[: len(articles) // 2])
        inside = [doc_id for doc_id, title in titles.items() if title in first_half]
        return inside, [doc_id for doc_id, title in titles.items() if title not in first_half]

    def _questions_on(self, doc_ids: Sequence[str]) -> pa.Table:
        """A sample of the questions on these documents, at most `questions` of them."""
        return sample_by_position(
            rows_with(self.sample.all_questions, "doc_id", doc_ids), limit=self.asked, seed=0
        )

    def _growth(self, before: Sequence[str], after: Sequence[str]) -> Scores:
        """F1 on the documents `before`, in a bank of these and in a bank of the documents
        `after`.
        """
        table, f1 = self._questions_on(before), []
        for doc_ids in (before, after):
            with self.bank.answerer(doc_ids) as answerer:
                answers = answerer.answer(
                    table["question"].to_pylist(), as_of=[None] * table.num_rows
                )
            f1.append(
                100
                * float(
                    mark(
                        [answer.text for answer in answers], table["answers"].to_pylist()
                    ).f1.mean()
                )
            )
        sizes = {"documents": len(before), "of": len(after), "questions": table.num_rows}
        return sizes | {
            "before": f1[0],
            "after": f1[1],
            "left": 100 * f1[1] / f1[0] if f1[0] else 0.0,
        }

    def _point(
        self,
        replies: Sequence[str],
        references: Sequence[Sequence[str]],
        documents: Sequence[str],
    ) -> Scores:
        """EM, F1 with its interval, and the share of the replies that are known.

        The interval is clustered by `documents`, one of each reply.
        """
        if not replies:
            return {"questions": 0}
        marks = mark(replies, references)
        scores = summarise(marks, documents, recalled=None, seed=self.params.seed)
        low, high = scores.ci
        known = float((marks.f1 >= KNOWN_F1).mean())
        return {
            "questions": scores.n,
            "em": scores.em,
            "f1": scores.f1,
            "low": low,
            "high": high,
            "known": known,
        }

    def _abstention_scores(
        self, answerer: Answerer, *, absent: pa.Table, present: pa.Table
    ) -> Scores:
        """Share of "not in memory" on questions whose document is `absent` and on those whose
        document is `present`.

        At the threshold of the params, and at the threshold that refuses a tenth of the `present`
        ones; and the share of the `absent` ones that are answered correctly (EM), from another
        document with the same answer.
        """
        # 1. answer without abstention
        answers = {
            name: answerer.answer(table["question"].to_pylist(), as_of=[None] * table.num_rows)
            for name, table in {"absent": absent, "present": present}.items()
        }
        # 2. shares below the thresholds
        confidence = {
            name: np.array([answer.confidence for answer in part]) for name, part in answers.items()
        }
        tenth = float(np.quantile(confidence["present"], 0.1))
        elsewhere = mark(
            [answer.text for answer in answers["absent"]], absent["answers"].to_pylist()
        )
        return {
            name: float((values < self.selection.abstain_below).mean())
            for name, values in confidence.items()
        } | {
            "threshold for a tenth": tenth,
            "absent then": float((confidence["absent"] < tenth).mean()),
            "absent, but said elsewhere": float(elsewhere.em.mean()),
        }

    # answers and scores

    def _compress(self, folder: Path, params: Params) -> TemporaryBank:
        return TemporaryBank.of(folder, lm=self.lm, documents=self.sample.documents, params=params)

    def _rows(self, bank: TemporaryBank, named: Mapping[str, systems.System]) -> Iterator[Scores]:
        """Scores of systems on all questions, with the median time to the first token of single
        ones.
        """
        with bank.answerer() as answerer:
            data = data_of(bank, answerer, self.sample)
            for label, system in named.items():
                if run := system(data):
                    singles = (
                        first_token(system, data, index)
                        for index in range(min(TIMED_QUESTIONS, self.asked))
                    )
                    median = statistics.median(
                        1000 * single.seconds for single in singles if single
                    )
                    yield self._scores(label, run.predictions, run.seconds) | {
                        "first_token": round(median, 1)
                    }

    def _scores(
        self, label: str, predictions: Sequence[Prediction], seconds: float = 0.0
    ) -> Scores:
        """Scores of the answers to all questions, with recall where documents are retrieved."""
        references, own = (
            self.sample.questions[name].to_pylist() for name in ("answers", "doc_id")
        )
        marks = mark([prediction.text for prediction in predictions], references)
        most = max(len(prediction.doc_ids) for prediction in predictions)
        recall = {
            str(depth): round(float(np.mean(recalled(predictions, own, depth=depth) or ())), 4)
            for depth in RECALL_DEPTHS
            if depth <= most
        }
        scores = SystemScores(
            label, summarise(marks, own, recalled=None, seed=self.params.seed), seconds
        )
        return scores.to_json() | {"recall": recall or None}


def main(  # noqa: PLR0913 - each is an option of the command
    data: Annotated[
        list[Path], typer.Option(help="A file or folder of the accepted formats; repeatable.")
    ],
    documents: Annotated[
        int, typer.Option(min=1, help="Documents of each file, a seeded sample.")
    ] = 1665,
    questions: Annotated[
        int, typer.Option(min=0, help="Questions on them, a seeded sample; 0: all.")
    ] = 0,
    seed: int = 0,
    rows: Annotated[
        str, typer.Option(help=f"Systems, of {','.join(SYSTEMS)}; '' for none.")
    ] = "all",
    parts: Annotated[str, typer.Option(help=f"Further measurements, of {','.join(PARTS)}.")] = "",
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
    vectors: Annotated[Path, typer.Option(help="Compressor for banks without text.")] = ROOT
    / "data/compressor",
    rag: Annotated[
        Path, typer.Option(help="Compressor with a prefix for `rag_trained`; `make rag` trains it.")
    ] = TRAINED_RAG,
    mac: Annotated[Path, typer.Option(help="Compressor of MAC.")] = ROOT / "data/trained/mac",
    out: Annotated[
        Path | None, typer.Option(help="JSON of the first file's figures, for `cmt report`.")
    ] = None,
) -> None:
    """Print the scores of each system on each file."""
    # 1. check names and draw samples first: measuring takes hours
    systems, measurements = _names(rows, SYSTEMS, "--rows"), _names(parts, PARTS, "--parts")
    workspace, stderr = cmt.open(params=params), Console(stderr=True)
    samples = {}
    for path in data:
        drawn = Sample.draw(path, documents=documents, questions=questions, seed=seed)
        if not (drawn.questions.num_rows or drawn.unanswerable.num_rows):
            raise StreamError(
                f"{path} has no question on the sampled documents: draw more with --documents"
            )
        if "abstention" in measurements and not drawn.absent.num_rows:
            message = (
                f"every document of {path} would be in the bank, so none is absent: draw fewer"
            )
            raise typer.BadParameter(message, param_hint="--documents")
        samples[path] = drawn
    # 2. measure
    texts, compressors = [], {"memory": vectors, "rag_trained": rag, "mac": mac}
    for path, sample in samples.items():
        benchmark = Benchmark(sample, workspace.params, workspace.project.lm, compressors)
        measured = []
        for row in benchmark.rows(
            track(systems if benchmark.asked else [], path.name, console=stderr)
        ):
            measured.append(row)
            stderr.print(
                f"{path.name}, {row['row']}: F1 {row['f1']:.1f}"
            )  # at once, because a later system may fail
        tracked = track(measurements, f"{path.name}: parts", console=stderr)
        found = {name: getattr(benchmark, name)() for name in tracked}
        of = {
            "data": str(path),
            "documents": sample.documents.num_rows,
            "seed": seed,
            "rows": measured,
        }
        texts.append(of | found)
    if out:
        write_json(out, texts[0])
    print_json(texts)


def _shares(verdicts: Mapping[str, Sequence[str]]) -> Scores:
    """Share of each verdict in each group, and the size of the group."""
    scores: Scores = {}
    for group, found in verdicts.items():
        for verdict in ("likely", "unsure", "not_in_memory"):
            scores[f"{group}, {verdict}"] = found.count(verdict) / len(found)
    return scores | {f"{group}, questions": len(found) for group, found in verdicts.items()}


def _chains(documents: Mapping[str, Scores]) -> tuple[dict[str, int], dict[str, str]]:
    """Number of the documents that each one updates, and the first document of its chain.

    The documents are in the order of their dates, so a superseded one comes before its update.
    """
    depths, first = dict[str, int](), dict[str, str]()
    for doc_id, row in documents.items():
        depths[doc_id] = depths.get(row["supersedes"], -1) + 1
        first[doc_id] = first.get(row["supersedes"], doc_id)
    return depths, first


def _names(names: str, accepted: Sequence[str], option: str) -> list[str]:
    """The comma-separated `names`, or all accepted ones. BadParameter for an unknown name."""
    chosen = (
        list(accepted)
        if names == "all"
        else [name.strip() for name in names.split(",") if name.strip()]
    )
    if unknown := [name for name in chosen if name not in accepted]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of {','.join(accepted)}", param_hint=option
        )
    return chosen


if __name__ == "__main__":
    run_script(main)
