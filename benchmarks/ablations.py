"""The three ablations of the paper: no memory-aware objective, no self-matching, no top-k (method §2).

    python benchmarks/ablations.py --pairs 3500 --questions 700
    python benchmarks/ablations.py --pairs 3500 --questions 5000 --without "memory-aware objective"

The whole method and the two that change the loss are trained from nothing, alike and as long as each other, and asked
about articles that no training saw, all in one bank. Without top-k ψ reads every memory of a bank of `FEW` paragraphs,
none of them preferred. As the words of a question find most documents by themselves, self-matching is also measured
where keys alone select. What is left out is compared with the whole on the same questions: `less` is its F1 less the
whole's, with the paired bootstrap's 95 % interval. A training that was cut short goes on from its last checkpoint.
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
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.table import Table

import cmt
from cmt.answering.answer import Answer
from cmt.cli.context import run_script
from cmt.config import Params, load_params
from cmt.evaluation.evaluate import SystemScores
from cmt.evaluation.metrics import Floats, mark, paired_bootstrap, summarise
from cmt.evaluation.sampling import sample_on_documents
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.training.data import hold_out, load_training_data, pull_training_data
from cmt.training.trainer import train


class Part(StrEnum):
    """What the method can be without."""

    TOP_K = "top-k"
    OBJECTIVE = "memory-aware objective"
    MATCHING = "self-matching"


LOSSES = {Part.OBJECTIVE: {"objective.alpha": 0.0}, Part.MATCHING: {"objective.beta": 0.0}}
FEW = 60  # paragraphs of which ψ reads all


@dataclass(frozen=True)
class Asked:
    """Scores, ready for json, and the F1 (0–1) of each question."""

    row: dict[str, Any]
    f1: Floats
    seed: int

    def beside(self, whole: "Asked") -> dict[str, Any]:
        """The scores, and how much F1 is less than the whole's: mean and interval, 0–100."""
        less = paired_bootstrap(self.f1, whole.f1, seed=self.seed)
        return self.row | {"less": [round(100 * value, 2) for value in less]}


@dataclass(frozen=True)
class Ablated:
    """A compressor over articles that it never saw, and questions on them."""

    scratch: TemporaryBank
    questions: pa.Table

    def ask(self, name: str, **selection: float) -> Asked:
        """Scores where some values of the section `selection` are replaced."""
        how = self.scratch.params.selection.model_copy(update=selection)
        params = self.scratch.params.model_copy(update={"selection": how})
        with replace(self.scratch, params=params).answerer() as answerer:
            return self._scored(name, lambda asked: answerer.answer(asked, as_of=[None] * len(asked)))

    def few(self) -> Iterator[dict[str, Any]]:
        """With and without top-k in a bank of FEW paragraphs."""
        doc_ids = pa.array(sorted(set(self.questions["doc_id"].to_pylist()))[:FEW])
        asked, rows = (
            table.filter(pc.is_in(table["doc_id"], value_set=doc_ids)) for table in (self.questions, self.scratch.rows)
        )
        some = Ablated(replace(self.scratch, rows=rows), asked)
        yield (whole := some.ask(f"whole, {FEW} paragraphs")).row
        every = [rows.to_pylist()] * len(asked)
        with some.scratch.answerer() as answerer:
            without = some._scored(
                f"without {Part.TOP_K}, {FEW} paragraphs", lambda asked: answerer.answer_from(asked, every)
            )
        yield without.beside(whole)

    def _scored(self, name: str, ask: Callable[[Sequence[str]], Sequence[Answer]]) -> Asked:
        started = time.perf_counter()
        answers = ask(self.questions["question"].to_pylist())
        seconds = time.perf_counter() - started
        found = [
            doc_id in {source.doc_id for source in answer.sources}
            for doc_id, answer in zip(self.questions["doc_id"].to_pylist(), answers, strict=True)
        ]
        marks = mark([answer.text for answer in answers], self.questions["answers"].to_pylist())
        seed = self.scratch.params.seed
        return Asked(SystemScores(name, summarise(marks, recalled=found, seed=seed), seconds).to_json(), marks.f1, seed)


def main(
    pairs: Annotated[int, typer.Option(min=1, help="question-answer pairs each sees")] = 3500,
    questions: Annotated[int, typer.Option(min=1)] = 300,
    without: Annotated[list[Part] | None, typer.Option(help="may be repeated; all of them if not given")] = None,
    output: Annotated[Path, typer.Option(help="folder of what is trained")] = Path("data/trained/ablations"),
    params: Path = Path("params.yaml"),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Train, measure, and print a row each."""
    rows, stderr = [], Console(stderr=True)
    changes = {"train.questions": pairs, "selection.threshold": -1.0}
    for row in _rows(params, changes, questions, without or list(Part), output):
        rows.append(row)
        stderr.print(f"{row['row']}: F1 {row['f1']:.1f}")  # what took hours is seen should the next row fail
    if as_json:
        print(json.dumps({"pairs": pairs, "rows": rows}))
        return
    head = ("row", "EM", "EM prefix", "F1", "95 %", "less than the whole", "recall", "questions")
    table = Table(*head, title=f"{pairs:,} pairs each")
    for row in rows:
        low, high = row["ci"]
        scores = (f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1"))
        less = "{:.1f} ({:.1f} – {:.1f})".format(*row["less"]) if "less" in row else ""
        table.add_row(row["row"], *scores, f"{low:.1f} – {high:.1f}", less, f"{row['recall']:.3f}", str(row["n"]))
    Console().print(table)


def _rows(
    params: Path, changes: Mapping[str, Any], questions: int, parts: Sequence[Part], output: Path
) -> Iterator[dict[str, Any]]:
    workspace = cmt.open(params=params)
    how = workspace.params
    documents, asked = load_training_data(pull_training_data(source=how.train.source, path=how.train.path))
    seen, held = hold_out(documents, articles=how.train.validation_articles)
    chosen = sample_on_documents(asked, held, limit=questions, seed=how.seed)

    def ablated(loss: Mapping[str, Any], folder: Path) -> Ablated:
        changed: Params = load_params(params, {**changes, **loss})
        changed = changed.model_copy(update={"train": changed.train.model_copy(update={"output": folder.resolve()})})
        with redirect_stdout(sys.stderr):  # the Trainer tells its runtime there
            train(lm=workspace.lm, documents=seen, questions=asked, params=changed)
        return Ablated(TemporaryBank.of(folder, lm=workspace.lm, documents=held, params=changed), chosen)

    one = ablated({}, output / "0")
    yield (whole := one.ask("whole")).row
    if Part.MATCHING in parts:
        yield (keys := one.ask("whole, keys alone", full_text_weight=0.0)).row
    if Part.TOP_K in parts:
        yield from one.few()
    for number, (part, loss) in enumerate(LOSSES.items(), start=1):
        if part not in parts:
            continue
        one = ablated(loss, output / str(number))
        yield one.ask(f"without {part}").beside(whole)
        if part is Part.MATCHING:
            yield one.ask(f"without {part}, keys alone", full_text_weight=0.0).beside(keys)


if __name__ == "__main__":
    run_script(main)
