"""The three ablations of the paper: no memory-aware objective, no self-matching, no top-k (docs/method.md#objective).

    python benchmarks/ablations.py --pairs 3500 --questions 700
    python benchmarks/ablations.py --pairs 3500 --questions 5000 --without "memory-aware objective"

A fourth ablation trains without a question set, on questions that `cmt.training.question_generation` makes from the
documents. The whole method and each variant are trained from nothing on the same number of pairs; without top-k the
whole method's weights are used. All answer the same questions on held-out articles in one bank, and `less` is the
difference of F1 from the whole method with the 95 % interval of a paired bootstrap. Without top-k, ψ reads every memory
of a bank of PARAGRAPHS_WITHOUT_TOP_K paragraphs, with equal priors. Because the words of a question find most
documents, self-matching is also measured with selection by keys alone. An interrupted training resumes from its last
checkpoint. `cmt data pull` fetches the training data.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

import cmt
from cmt.answering.answer import Answer
from cmt.cli.context import run_script
from cmt.common.arrow import rows_with
from cmt.config import load_params
from cmt.evaluation.evaluate import SystemScores
from cmt.evaluation.metrics import Floats, mark, paired_bootstrap, summarise
from cmt.evaluation.sampling import sample_on_documents
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.training.data import load_base_data
from cmt.training.question_generation import generate_questions
from cmt.training.trainer import train
from cmt.training.word_knowledge import WordKnowledge


class Part(StrEnum):
    """A part of the method that a variant lacks."""

    TOP_K = "top-k"
    OBJECTIVE = "memory-aware objective"
    MATCHING = "self-matching"
    QUESTIONS = "question set"


LOSSES = {Part.OBJECTIVE: {"objective.alpha": 0.0}, Part.MATCHING: {"objective.beta": 0.0}}
PARAGRAPHS_WITHOUT_TOP_K = 60
MADE_PER_PARAGRAPH = 4


@dataclass(frozen=True)
class VariantScores:
    """Scores of one variant."""

    row: dict[str, Any]
    """Ready for JSON."""
    f1: Floats
    """(n,) F1 of each question, 0–1."""
    seed: int

    def compared_with(self, whole: "VariantScores") -> dict[str, Any]:
        """The scores, with `less`: F1 minus the F1 of the whole method, mean and interval, 0–100."""
        difference = paired_bootstrap(self.f1, whole.f1, seed=self.seed)
        return self.row | {"less": [round(100 * value, 2) for value in difference]}


@dataclass(frozen=True)
class Variant:
    """A compressor, its bank of held-out articles, and questions on them."""

    bank: TemporaryBank
    questions: pa.Table

    def scores(self, name: str, **selection: float) -> VariantScores:
        """Ask the questions with some values of the section `selection` replaced."""
        changed = self.bank.params.selection.model_copy(update=selection)
        params = self.bank.params.model_copy(update={"selection": changed})
        with replace(self.bank, params=params).answerer() as answerer:
            return self._ask(name, lambda questions: answerer.answer(questions, as_of=[None] * len(questions)))

    def without_top_k(self) -> Iterator[dict[str, Any]]:
        """Scores with and without top-k in a bank of PARAGRAPHS_WITHOUT_TOP_K paragraphs."""
        doc_ids = sorted(set(self.questions["doc_id"].to_pylist()))[:PARAGRAPHS_WITHOUT_TOP_K]
        questions, rows = (rows_with(table, "doc_id", doc_ids) for table in (self.questions, self.bank.rows))
        small = Variant(replace(self.bank, rows=rows), questions)
        whole = small.scores(f"whole, {PARAGRAPHS_WITHOUT_TOP_K} paragraphs")
        yield whole.row
        all_memories = [rows.to_pylist()] * len(questions)
        with small.bank.answerer() as answerer:
            variant = small._ask(
                f"without {Part.TOP_K}, {PARAGRAPHS_WITHOUT_TOP_K} paragraphs",
                lambda questions: answerer.answer_from(questions, all_memories),
            )
        yield variant.compared_with(whole)

    def _ask(self, name: str, ask: Callable[[Sequence[str]], Sequence[Answer]]) -> VariantScores:
        started = time.perf_counter()
        answers = ask(self.questions["question"].to_pylist())
        seconds = time.perf_counter() - started
        recalled = [
            doc_id in {source.doc_id for source in answer.sources}
            for doc_id, answer in zip(self.questions["doc_id"].to_pylist(), answers, strict=True)
        ]
        marks = mark([answer.text for answer in answers], self.questions["answers"].to_pylist())
        seed = self.bank.params.seed
        scores = SystemScores(name, summarise(marks, recalled=recalled, seed=seed), seconds)
        return VariantScores(scores.to_json(), marks.f1, seed)


def main(
    pairs: Annotated[int, typer.Option(min=1, help="Question-answer pairs to train each variant on.")] = 3500,
    questions: Annotated[int, typer.Option(min=1, help="Number of held-out questions.")] = 300,
    without: Annotated[list[Part] | None, typer.Option(help="A part to leave out; repeatable. Default: all.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the trained variants.")] = Path("data/trained/ablations"),
    params: Path = Path("params.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train and evaluate the variants and print the scores of each."""
    rows, stderr = [], Console(stderr=True)
    changes = {"train.questions": pairs, "selection.abstain_below": -1.0}
    for row in _rows(params, changes, questions, without or list(Part), output):
        rows.append(row)
        stderr.print(f"{row['row']}: F1 {row['f1']:.1f}")  # printed at once, because a later variant may fail
    if as_json:
        print(json.dumps({"pairs": pairs, "rows": rows}))
        return
    columns = ("row", "EM", "EM prefix", "F1", "95 %", "less than the whole", "recall", "questions")
    table = Table(*columns, title=f"{pairs:,} pairs each")
    for row in rows:
        low, high = row["ci"]
        scores = (f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1"))
        less = "{:.1f} ({:.1f} – {:.1f})".format(*row["less"]) if "less" in row else ""
        table.add_row(row["row"], *scores, f"{low:.1f} – {high:.1f}", less, f"{row['recall']:.3f}", str(row["n"]))
    Console().print(table)


def _rows(
    params_file: Path, changes: Mapping[str, Any], questions: int, parts: Sequence[Part], output: Path
) -> Iterator[dict[str, Any]]:
    workspace = cmt.open(params=params_file)
    data = load_base_data(workspace.params)
    sampled = sample_on_documents(data.questions, data.held_out, limit=questions, seed=workspace.params.seed)

    def train_variant(loss: Mapping[str, Any], folder: Path, training_questions: pa.Table) -> Variant:
        params = load_params(params_file, {**changes, **loss})
        params = params.model_copy(update={"train": params.train.model_copy(update={"output": folder.resolve()})})
        with redirect_stdout(sys.stderr):  # the Trainer prints its summary to stdout
            train(lm=workspace.lm, documents=data.seen, questions=training_questions, params=params)
        bank = TemporaryBank.of(folder, lm=workspace.lm, documents=data.held_out, params=params)
        return Variant(bank, sampled)

    # 1. the whole method
    variant = train_variant({}, output / "0", data.all_questions)
    whole = variant.scores("whole")
    yield whole.row
    if Part.MATCHING in parts:
        whole_by_keys = variant.scores("whole, keys alone", full_text_weight=0.0)
        yield whole_by_keys.row
    if Part.TOP_K in parts:
        yield from variant.without_top_k()
    # 2. the variants of the loss
    for number, (part, loss) in enumerate(LOSSES.items(), start=1):
        if part not in parts:
            continue
        variant = train_variant(loss, output / str(number), data.all_questions)
        yield variant.scores(f"without {part}").compared_with(whole)
        if part is Part.MATCHING:
            by_keys = variant.scores(f"without {part}, keys alone", full_text_weight=0.0)
            yield by_keys.compared_with(whole_by_keys)
    # 3. without any question of the data
    if Part.QUESTIONS in parts:
        per_paragraph = dict.fromkeys(data.seen["doc_id"].to_pylist(), MADE_PER_PARAGRAPH)
        knowledge = WordKnowledge(workspace.lm)
        made = generate_questions(data.seen, numbers=per_paragraph, seed=workspace.params.seed, knowledge=knowledge)
        variant = train_variant({}, output / "made", made)
        yield variant.scores(f"without {Part.QUESTIONS}").compared_with(whole)


if __name__ == "__main__":
    run_script(main)
