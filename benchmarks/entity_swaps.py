"""How often a question about another place, person, firm or year is answered from the bundled newspaper.

    python benchmarks/entity_swaps.py                      # 400 questions, each as it is and swapped
    python benchmarks/entity_swaps.py --questions 60 --seed 1
    python benchmarks/entity_swaps.py --questions 0 --data dev-v1.1.json.xz --data data/stories

A swap replaces one name or year of a question by one that no document of the newspaper has. Names come from the
questions in data/stories, with the same number of words and behind the same word ("in", "of"); in half of the longer
names only the first word is replaced ("Dunmarrow Rovers", "Fennick Rovers"). Prints the shares of likely, unsure and
refused answers. The answers to the unswapped questions calibrate the confidence, as those of earlier rounds do.
For each file in `--data` it counts, without a model, the answerable questions whose own document lacks names.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import typer
from protocol import valid_rows

import cmt
from cmt.answering.answer import Answer
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.cli.progress_bar import ProgressBar
from cmt.common.english import NAME_OR_YEAR
from cmt.common.names import find_names
from cmt.evaluation.calibration import calibrated_by
from cmt.evaluation.metrics import f1
from cmt.evaluation.temporary_bank import TemporaryBank

ROOT = Path(__file__).parents[1]
YEARS = range(1951, 2021)


class Swap(NamedTuple):
    """A question of the newspaper and its variant with another name."""

    row: dict[str, Any]
    kind: str
    """`year`, `name`, or `part` of a name."""
    question: str


def swaps(rows: Sequence[dict[str, Any]], texts: Sequence[str], names_from: Sequence[str], *, seed: int) -> list[Swap]:
    """A variant of each of the questions `rows` that has a name, with a name from the questions `names_from`.

    No word of the new name is in `texts`.
    """
    # 1. the names by their number of words and the word before them
    known = {word for text in texts for word in text.lower().replace("'", " ").split()}
    names = defaultdict[tuple[int, str], set[str]](set)
    for question in names_from:
        for match in NAME_OR_YEAR.finditer(question):
            words = match[0].split()
            if not match[0].isdigit() and not {word.lower() for word in words} & known:
                for before in (question[: match.start()].split()[-1].lower(), ""):
                    names[len(words), before].add(match[0])
    # 2. replace one of each question
    swapped = []
    for row in rows:
        rng, question = random.Random(f"{seed} {row['question']}"), row["question"]
        if not (matches := list(NAME_OR_YEAR.finditer(question))):
            continue
        match = rng.choice(matches)
        words, kind = match[0].split(), "name"
        if match[0].isdigit():
            kind, other = "year", str(rng.choice([year for year in YEARS if str(year) not in known]))
        elif len(words) > 1 and rng.random() < 0.5:
            kind, other = "part", " ".join([rng.choice(sorted(names[1, ""])), *words[1:]])
        else:
            before = question[: match.start()].split()[-1].lower()
            fitting = names[len(words), before] or names[len(words), ""] or names[1, ""]
            other = rng.choice(sorted(fitting))
        swapped.append(Swap(row, kind, question[: match.start()] + other + question[match.end() :]))
    return swapped


def missing_shares(path: Path) -> list[str]:
    """Of the answerable questions in `path`, the percentages with names that are all missing, and with some missing
    or doubtful; a document is known by text, title, source, date, and the document that it supersedes."""
    accepted = valid_rows(path)
    documents = {row["doc_id"]: row for row in accepted.documents.sort_by("published_at").to_pylist()}
    counts = Counter[str]()
    for row in accepted.questions.to_pylist():
        if row["answers"] and (document := documents.get(row["doc_id"])):
            known = [document, documents.get(document["supersedes"], {})]
            text = "\n".join(one.get(key) or "" for one in known for key in ("source", "title", "text"))
            names = find_names(row["question"], text, day=document["published_at"].date())
            group = "all" if names.all_missing else "some" if names.missing else "doubtful" if names.doubtful else ""
            counts[group] += 1
    shares = [f"{100 * counts[group] / counts.total():.2f}" for group in ("all", "some", "doubtful")]
    return [path.name, str(counts.total()), *shares]


def verdict_shares(label: str, verdicts: Sequence[str]) -> list[str]:
    """`label`, the number of verdicts, and the percentage of each."""
    shares = [f"{100 * verdicts.count(name) / len(verdicts):.1f}" for name in ("likely", "unsure", "not_in_memory")]
    return [label, str(len(verdicts)), *shares]


def main(
    questions: Annotated[int, typer.Option(min=0, help="Questions of the newspaper, drawn at random.")] = 400,
    seed: int = 0,
    data: Annotated[list[Path] | None, typer.Option(exists=True, help="Count the missing names in a file.")] = None,
    params: Annotated[Path, typer.Option()] = ROOT / "params.yaml",
) -> None:
    """Print the shares of each verdict, and of missing names."""
    if data:
        shares = [missing_shares(path) for path in data]
        write_table(["file", "answerable", "all missing, %", "some, %", "doubtful, %"], shares)
    if not questions:
        return
    # 1. the questions
    news, stories = valid_rows(ROOT / "data/courier"), valid_rows(ROOT / "data/stories")
    texts = [f"{row['title']} {row['text']} {row['source']}" for row in news.documents.to_pylist()]
    rows = news.questions.sort_by("question_id").to_pylist()
    swapped = swaps(rows, texts, stories.questions["question"].to_pylist(), seed=seed)
    swapped = random.Random(seed).sample(swapped, min(questions, len(swapped)))
    # 2. ask both forms
    workspace = cmt.open(params=params)
    settings, asked = workspace.params, [swap.row["question"] for swap in swapped]
    dates = [swap.row["asked_at"] for swap in swapped]
    bank = TemporaryBank.of(settings.compressor.path, lm=workspace.lm, documents=news.documents, params=settings)
    with bank.answerer() as answerer, ProgressBar(console(stderr=True)) as progress:
        progress.stage("ask", 2 * len(swapped))
        own = answerer.answer(asked, as_of=dates, on_progress=progress.advance)
        scores = [f1(answer.text, swap.row["answers"]) for answer, swap in zip(own, swapped, strict=True)]
        columns = {"cmt": [answer.text if answer.known else "" for answer in own], "cmt_f1": scores}
        calibration, _ = calibrated_by([pa.table(columns | {"uncalibrated": [a.uncalibrated for a in own]})])
        calibrated = answerer.with_params(calibration=calibration)
        other = calibrated.answer([s.question for s in swapped], as_of=dates, on_progress=progress.advance)
    # 3. print; a calibration changes no refusal
    likely = [calibration.apply(answer.uncalibrated) >= settings.selection.likely_from for answer in own]
    table = [verdict_shares("as they are", [_verdict(*pair) for pair in zip(own, likely, strict=True)])]
    table.append(verdict_shares("swapped", [answer.verdict for answer in other]))
    for kind in sorted({swap.kind for swap in swapped}):
        verdicts = [answer.verdict for answer, swap in zip(other, swapped, strict=True) if swap.kind == kind]
        table.append(verdict_shares(f"swapped: {kind}", verdicts))
    write_table(["questions", "n", "likely, %", "unsure, %", "refused, %"], table)


def _verdict(answer: Answer, likely: bool) -> str:
    return "not_in_memory" if not answer.known else "likely" if likely else "unsure"


if __name__ == "__main__":
    run_script(main)
