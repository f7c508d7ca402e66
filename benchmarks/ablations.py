"""Leave out parts of the method, or change the number format of the memories, on held-out articles.
Prints JSON.

    python benchmarks/ablations.py --pairs 3500 --questions 700 python benchmarks/ablations.py
    --pairs 3500 --questions 5000 --without "memory-aware objective" python benchmarks/ablations.py
    --questions 300 --formats    # the compressor in use; nothing is trained

The ablations of the paper are no memory-aware objective, no self-matching, no top-k
(docs/method.md#objective). A fourth one trains without a question set, on questions that
`cmt.questions.generation` makes from the documents. The whole method and each variant are trained
from nothing on the same number of pairs; without top-k the whole method's weights are used. All
answer the same questions on held-out articles in one bank, and `less` is the difference of F1 from
the whole method with the 95 % interval of a paired bootstrap. Without top-k, ψ reads every memory
of a bank of PARAGRAPHS_WITHOUT_TOP_K paragraphs, with equal priors. Because the words of a question
find most documents, self-matching is also measured with selection by only the keys. An interrupted
training resumes from its last checkpoint. `cmt data pull` fetches the training data.

With `--formats` the articles are banked once in each number format, with their text; `memory` and
`bank` are bytes divided by those of the text, and `less` is the difference from fp16 at the same
window. A format whose codebook is missing is left out: `cmt --set compressor.window=8 codebook
--bytes 24` makes one.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from model_bars import stored_bytes
from rich.console import Console

import cmt
from cmt.answering.prompting import Prediction
from cmt.cli.context import run_script
from cmt.cli.output import write_json
from cmt.common.arrow import rows_with
from cmt.config import load_params
from cmt.evaluation.evaluate import SystemScores, scored
from cmt.evaluation.metrics import Floats, paired_bootstrap
from cmt.evaluation.sampling import sample_on_documents
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.codebook import Codebook
from cmt.questions.generation import generate_questions
from cmt.questions.word_knowledge import WordKnowledge
from cmt.training.data import TrainingData, load_base_data
from cmt.training.trainer import train
from cmt.workspace import Workspace

Row = dict[str, Any]


class Part(StrEnum):
    """A part of the method that a variant lacks."""

    TOP_K = "top-k"
    OBJECTIVE = "memory-aware objective"
    MATCHING = "self-matching"
    QUESTIONS = "question set"


LOSSES = {
    Part.OBJECTIVE: {"research.objective.alpha": 0.0},
    Part.MATCHING: {"research.objective.beta": 0.0},
}
FORMATS = {4: ("fp16", "int8", "pq"), 8: ("fp16", "int4", "pq"), 16: ("fp16", "int4", "pq")}
"""Tokens a vector → `bank.codes`, fp16 before the others."""
PARAGRAPHS_WITHOUT_TOP_K = 60
MADE_PER_PARAGRAPH = 4


@dataclass(frozen=True)
class Study:
    """Compressors that answer the same questions on held-out articles."""

    params_file: Path
    workspace: Workspace
    data: TrainingData
    questions: pa.Table
    f1: dict[str, Floats] = field(
        default_factory=dict
    )  # (n,) F1 of each question, 0–1, by the name of a row

    def bank(self, folder: Path, changes: dict[str, Any]) -> TemporaryBank:
        """The held-out articles, compressed by the compressor in `folder`, with `changes` of the
        parameters.
        """
        params = load_params(self.params_file, changes).without_abstention()
        return TemporaryBank.of(
            folder, lm=self.workspace.project.lm, documents=self.data.held_out, params=params
        )

    def row(self, name: str, bank: TemporaryBank, against: str = "", whole: bool = False) -> Row:
        """Scores of answers from selected memories of `bank`, or from the whole; F1 is `less` than
        `against`.
        """
        asked = rows_with(self.questions, "doc_id", bank.rows["doc_id"].to_pylist())
        texts = asked["question"].to_pylist()
        with bank.answerer() as answerer:
            started = time.perf_counter()
            given, dates = [bank.rows.to_pylist()] * len(texts), [None] * len(texts)
            found = (
                answerer.answer_from(texts, given) if whole else answerer.answer(texts, as_of=dates)
            )
            seconds = time.perf_counter() - started
        answers = list(map(Prediction.of, found))
        most, seed = max(len(answer.doc_ids) for answer in answers), self.workspace.params.seed
        scores, self.f1[name] = scored(answers, asked, depth=most, seed=seed)
        row = SystemScores(name, scores, seconds).to_json()
        if against:
            documents = asked["doc_id"].to_pylist()
            difference = paired_bootstrap(self.f1[name], self.f1[against], documents, seed=seed)
            row["less"] = [round(100 * value, 2) for value in difference]
        return row

    def format_rows(self) -> Iterator[Row]:
        """Bytes and scores of the compressor in use in each of FORMATS."""
        folder = self.workspace.params.compressor.path
        for window, codes in (
            (window, codes) for window, of_window in FORMATS.items() for codes in of_window
        ):
            if codes == "pq" and Codebook.load(folder, window) is None:
                continue
            bank = self.bank(folder, {"compressor.window": window, "bank.codes": codes})
            label = f"{window} tokens, "
            text, memory = (
                pc.sum(pc.binary_length(bank.rows[name])).as_py() for name in ("text", "memory")
            )
            sizes = {"memory": memory / text, "bank": stored_bytes(bank.rows) / text}
            yield sizes | self.row(
                label + codes, bank, against="" if codes == "fp16" else f"{label}fp16"
            )

    def variant_rows(self, parts: Sequence[Part], pairs: int, output: Path) -> Iterator[Row]:
        """Scores of the whole method, and of the variants without `parts`."""

        def trained(folder: Path, questions: pa.Table, loss: dict[str, Any]) -> TemporaryBank:
            changes = {"train.questions": pairs, "train.output": str(folder.resolve()), **loss}
            params = load_params(self.params_file, changes)
            with redirect_stdout(sys.stderr):  # the Trainer prints its summary to stdout
                train(
                    lm=self.workspace.project.lm,
                    documents=self.data.seen,
                    questions=questions,
                    params=params,
                )
            return self.bank(folder, loss)

        def by_keys(bank: TemporaryBank) -> TemporaryBank:
            return replace(
                bank, params=bank.params.with_values(selection={"full_text_weight": 0.0})
            )

        # 1. the whole method
        bank = trained(output / "0", self.data.all_questions, {})
        yield self.row("whole", bank)
        if Part.MATCHING in parts:
            yield self.row("whole, keys alone", by_keys(bank))
        if Part.TOP_K in parts:
            doc_ids = sorted(set(self.questions["doc_id"].to_pylist()))[:PARAGRAPHS_WITHOUT_TOP_K]
            small = replace(bank, rows=rows_with(bank.rows, "doc_id", doc_ids))
            label = f", {PARAGRAPHS_WITHOUT_TOP_K} paragraphs"
            yield self.row(f"whole{label}", small)
            yield self.row(f"without {Part.TOP_K}{label}", small, f"whole{label}", whole=True)
        # 2. the variants of the loss
        for number, (part, loss) in enumerate(LOSSES.items(), start=1):
            if part in parts:
                bank = trained(output / str(number), self.data.all_questions, loss)
                yield self.row(f"without {part}", bank, "whole")
                if part is Part.MATCHING:
                    yield self.row(
                        f"without {part}, keys alone", by_keys(bank), "whole, keys alone"
                    )
        # 3. without any question of the data
        if Part.QUESTIONS in parts:
            numbers = dict.fromkeys(self.data.seen["doc_id"].to_pylist(), MADE_PER_PARAGRAPH)
            knowledge, seed = WordKnowledge(self.workspace.project.lm), self.workspace.params.seed
            made = generate_questions(
                self.data.seen, numbers=numbers, seed=seed, knowledge=knowledge
            )
            yield self.row(f"without {Part.QUESTIONS}", trained(output / "made", made, {}), "whole")


def main(
    pairs: Annotated[
        int, typer.Option(min=1, help="Question-answer pairs to train each variant on.")
    ] = 3500,
    questions: Annotated[int, typer.Option(min=1, help="Number of held-out questions.")] = 300,
    without: Annotated[
        list[Part] | None, typer.Option(help="A part to leave out; repeatable. Default: all.")
    ] = None,
    formats: Annotated[
        bool, typer.Option("--formats", help="Compare number formats; nothing is trained.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder of the trained variants.")] = Path(
        "data/trained/ablations"
    ),
    params: Path = Path("params.yaml"),
) -> None:
    """Train and evaluate the variants, or compare number formats, and print the scores of each."""
    workspace, rows = cmt.open(params=params), []
    data = load_base_data(workspace.params)
    sampled = sample_on_documents(
        data.questions, data.held_out, limit=questions, seed=workspace.params.seed
    )
    study = Study(params, workspace, data, sampled)
    for row in (
        study.format_rows() if formats else study.variant_rows(without or list(Part), pairs, output)
    ):
        rows.append(row)
        Console(stderr=True).print(
            f"{row['row']}: F1 {row['f1']:.1f}"
        )  # at once, because a later variant may fail
    write_json(rows)


if __name__ == "__main__":
    run_script(main)
