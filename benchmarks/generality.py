"""The memory on texts of any kind, beside RAG with the same frozen LM; one line a text.

    python benchmarks/generality.py --data news/ --data dev-v2.0.json.xz --documents 1000 --questions 150

The line of a file has F1 of the memory with its 95 % interval, how often the right document is the first (recall@1), F1
with the right document given instead of selected, the best way of RAG with two worked examples, the best way of RAG
with a trained prefix, F1 of the memory as a multiple of the former, the expected calibration error of the confidence,
the share of the questions whose answer is likely with the share of those answers that have an F1 of at least 50, and
the share of the questions without an answer that are refused. All systems are asked the same questions, each as of its
own date, and none abstains: an answer is refused if its confidence is below `selection.abstain_below`. Scores are
0–100, shares 0–1; the calibration error counts F1 / 100 as the outcome, and 0 for a question without an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from protocol import TRAINED_WAYS, Sample, trained_rag_ways

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import Prediction
from cmt.cli.context import run_script
from cmt.cli.output import console, write_json, write_line, write_table
from cmt.cli.progress_bar import ProgressBar
from cmt.common.systems import system_label
from cmt.config import Params
from cmt.errors import StreamError
from cmt.evaluation.calibration import likely_shares, reliability
from cmt.evaluation.evaluate import SystemScores
from cmt.evaluation.metrics import Flags, mark, recall_at_k, summarise
from cmt.evaluation.systems import RAG_SYSTEMS, SystemInput, predictions_of
from cmt.evaluation.temporary_bank import TemporaryBank, missing_compressor
from cmt.evaluation.testbed import BankTestbed, ComparisonData
from cmt.lm.model import FrozenLM
from cmt.stream.readers import infer_format

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class TextBenchmark:
    """The systems on the sample of one text."""

    sample: Sample
    params: Params
    lm: FrozenLM
    rag_trained: Path | None
    """Folder of the compressor with a trained prefix for RAG; None without one."""
    progress: ProgressBar
    with_rag: bool

    def __post_init__(self) -> None:
        asked = self.sample.questions
        self.questions: list[str] = asked["question"].to_pylist()
        self.golds: list[list[str]] = asked["answers"].to_pylist()
        self.doc_ids: list[str] = asked["doc_id"].to_pylist()
        self.as_of: list[datetime] = asked["asked_at"].to_pylist()

    @cached_property
    def bank(self) -> TemporaryBank:
        """The documents, compressed by the compressor in use."""
        return self._compressed(self.params.compressor.path)

    def measure(self) -> dict[str, Any]:
        """The figures of the text; None for those that have no questions or no compressor."""
        with self.bank.answerer() as answerer:
            # 1. the memory, on all questions
            answers = self._memory_answers(answerer)
            rows = [self._scores("cmt", predictions_of(answers[: len(self.questions)]))] if self.questions else []
            # 2. the right document given, and RAG, on those with an answer
            if self.questions:
                rows.append(self._given_scores(answerer))
            if self.questions and self.with_rag:
                rows += self._rag_scores(answerer)
        if self.questions and self.rag_trained:
            rows += self._trained_rag_scores(self.rag_trained)
        # 3. compare
        by_name = {row["row"]: row for row in rows}
        rag = _best(rows, "rag-")
        ratio = by_name["cmt"]["f1"] / by_name[rag]["f1"] if rag and by_name[rag]["f1"] else None
        return {
            "documents": self.sample.documents.num_rows,
            "questions": len(self.questions),
            "unanswerable": self.sample.unanswerable.num_rows,
            "rows": rows,
            "best_rag": rag,
            "best_rag_trained": _best(rows, "rag_trained, "),
            "ratio": None if ratio is None else round(ratio, 2),
            **self._confidence_figures(answers),
        }

    def _memory_answers(self, answerer: Answerer) -> list[Answer]:
        """Answers to the questions with an answer, then to those without."""
        unanswerable = self.sample.unanswerable
        questions = [*self.questions, *unanswerable["question"].to_pylist()]
        self.progress.stage("cmt", len(questions))
        as_of = [*self.as_of, *unanswerable["asked_at"].to_pylist()]
        return answerer.answer(questions, as_of=as_of, on_progress=self.progress.advance)

    def _given_scores(self, answerer: Answerer) -> dict[str, Any]:
        """The memory, with the right document's memories given."""
        self.progress.stage("cmt, right document given", len(self.questions))
        given = self.bank.memories_of(self.doc_ids)
        answers = answerer.answer_from(self.questions, given, on_progress=self.progress.advance)
        return self._scores("cmt, right document given", predictions_of(answers))

    def _rag_scores(self, answerer: Answerer) -> list[dict[str, Any]]:
        """The ways of RAG that `cmt baselines` compares; none if the bank keeps no texts."""
        documents, questions = self.sample.documents, self.sample.questions
        texts = dict(zip(documents["doc_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
        testbed = BankTestbed(answerer, questions, {}, self.progress)
        given = SystemInput(ComparisonData(testbed, texts, documents, questions, self.sample.unanswerable, {}))
        runs = {name: system(given) for name, system in RAG_SYSTEMS.items()}
        return [self._scores(name, run.predictions) for name, run in runs.items() if run]

    def _trained_rag_scores(self, folder: Path) -> list[dict[str, Any]]:
        """RAG with the trained prefix of the compressor in `folder`."""
        compressed, rows = self._compressed(folder), []
        ways = trained_rag_ways(compressed.params)
        for way in TRAINED_WAYS:
            self.progress.stage(f"rag_trained, {way}", len(self.questions))
            with replace(compressed, params=ways[way]).answerer() as answerer:
                answers = answerer.answer(self.questions, as_of=self.as_of, on_progress=self.progress.advance)
            rows.append(self._scores(f"rag_trained, {way}", predictions_of(answers)))
        return rows

    def _compressed(self, folder: Path) -> TemporaryBank:
        """The documents, compressed by the compressor in `folder`; a bank of them never abstains."""
        documents = self.sample.documents
        self.progress.stage(f"compress with {folder.name}", documents.num_rows)
        return TemporaryBank.of(
            folder,
            lm=self.lm,
            documents=documents,
            params=self.params.without_abstention(),
            on_progress=lambda count, _: self.progress.advance(count),
        )

    def _scores(self, name: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Scores of a system, with recall@1."""
        pairs = zip(predictions, self.doc_ids, strict=True)
        recalled = [bool(recall_at_k(prediction.doc_ids, doc_id, 1)) for prediction, doc_id in pairs]
        marks = mark([prediction.text for prediction in predictions], self.golds)
        scores = SystemScores(name, summarise(marks, recalled=recalled, seed=self.params.seed), 0.0).to_json()
        return {key: value for key, value in scores.items() if key != "seconds"}

    def _confidence_figures(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Calibration over all `answers`, F1 without an answer being 0, and the shares below the threshold."""
        confidence = np.array([answer.confidence for answer in answers])
        refused = confidence < self.params.selection.abstain_below
        f1 = np.zeros(len(answers))
        count = len(self.questions)
        f1[:count] = mark([answer.text for answer in answers[:count]], self.golds).f1
        measured = reliability(confidence, f1)
        likely = self.params.selection.likely_from
        given = ~refused[:count]
        shares = likely_shares(confidence[:count], f1[:count], given=given, likely=likely) if count else None
        return {
            "calibration_error": None if measured.error is None else round(measured.error, 4),
            "bins": [
                {name: None if value is None else round(value, 4) for name, value in asdict(bin_).items()}
                for bin_ in measured.bins
            ],
            "likely": shares and {name: None if v is None else round(v, 4) for name, v in shares._asdict().items()},
            "refused": {"unanswerable": _share(refused[count:]), "answerable": _share(refused[:count])},
        }


def main(
    data: Annotated[list[Path], typer.Option(help="A file or folder of the accepted formats; can be repeated.")],
    form: Annotated[str | None, typer.Option("--format", help="Of all files. Default: by their suffix.")] = None,
    documents: Annotated[int, typer.Option(min=1, help="Documents of each text in its bank, a seeded sample.")] = 1000,
    questions: Annotated[int, typer.Option(min=0, help="Questions on them, a seeded sample; 0: all.")] = 150,
    seed: int = 0,
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
    rag: Annotated[bool, typer.Option("--rag/--no-rag", help="Ask RAG too, which takes most of the time.")] = True,
    rag_trained: Annotated[Path, typer.Option(help="Compressor with a trained prefix for RAG.")] = ROOT / "data/rag",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print one line of figures a text."""
    # 1. draw every sample first: measuring takes hours
    workspace = cmt.open(params=params)
    samples = {}
    for path in data:
        drawn = Sample.draw(path, form or infer_format(path), documents=documents, questions=questions, seed=seed)
        if not (drawn.questions.num_rows or drawn.unanswerable.num_rows):
            raise StreamError(f"{path} has no question on the sampled documents: draw more with --documents")
        samples[path] = drawn
    # 2. measure
    prefix, texts = rag_trained if rag else None, []
    if prefix and (reason := missing_compressor(prefix, workspace.lm)):
        write_line(f"RAG with a trained prefix is left out: {reason}", stderr=True)
        prefix = None
    with ProgressBar(console(stderr=True)) as progress:
        for path, sample in samples.items():
            progress.title = f"{path.name}:"
            benchmark = TextBenchmark(sample, workspace.params, workspace.lm, prefix, progress, rag)
            texts.append({"data": str(path)} | benchmark.measure())
            write_line(f"{path.name}: {_summary(texts[-1])}", stderr=True)  # now, because a later text may fail
    # 3. print
    if as_json:
        write_json({"seed": seed, "texts": texts})
    else:
        _print_table(texts)


def _best(rows: Sequence[Mapping[str, Any]], prefix: str) -> str | None:
    """Name of the row with the highest F1 of those whose names begin with `prefix`; None if there is none."""
    named = [row for row in rows if row["row"].startswith(prefix)]
    return max(named, key=lambda row: row["f1"])["row"] if named else None


def _share(flags: Flags) -> float | None:
    """The share of true ones, 0–1; None without any flag."""
    return round(float(flags.mean()), 4) if len(flags) else None


def _print_table(texts: Sequence[Mapping[str, Any]]) -> None:
    names = ["text", "questions", "F1", "95 %", "recall@1", "right document, F1", "best RAG", "F1", "trained RAG, F1"]
    names += ["F1 ÷ best RAG", "calibration error", "likely, right", "no answer: refused"]
    write_table(names, [_cells(text) for text in texts])


def _summary(text: Mapping[str, Any]) -> str:
    """F1 of each system of a text, in one line."""
    return ", ".join(f"{row['row']} {row['f1']:.1f}" for row in text["rows"]) or "no question with an answer"


def _cells(text: Mapping[str, Any]) -> list[str]:
    """The line of a text; a figure that it does not have is blank."""
    rows = {row["row"]: row for row in text["rows"]}

    def f1(name: str | None) -> str:
        return f"{rows[name]['f1']:.1f}" if name in rows else ""

    memory = rows.get("cmt")
    refused = text["refused"]["unanswerable"]
    return [
        Path(text["data"]).name,
        str(text["questions"]),
        f1("cmt"),
        "{:.1f} – {:.1f}".format(*memory["ci"]) if memory else "",
        f"{memory['recall']:.3f}" if memory else "",
        f1("cmt, right document given"),
        system_label(text["best_rag"]) if text["best_rag"] else "",
        f1(text["best_rag"]),
        f1(text["best_rag_trained"]),
        "" if text["ratio"] is None else f"{text['ratio']:.2f}",
        f"{text['calibration_error']:.3f}",
        _likely_cell(text["likely"]),
        "" if refused is None else f"{100 * refused:.0f} % of {text['unanswerable']}",
    ]


def _likely_cell(shares: Mapping[str, float | None] | None) -> str:
    """The share of likely answers, and of the right ones among them."""
    return ", ".join(f"{100 * share:.0f} %" for share in (shares or {}).values() if share is not None)


if __name__ == "__main__":
    run_script(main)
