"""Measure questions of several forms on one folder of documents.

    python benchmarks/questions.py data/courier data/forms/seen.jsonl.xz

The folder has `documents.jsonl`. A line of a FILE is a question with its `form`, `as_of` and
`answers`, any of which is right; none if the documents do not have the answer. An answer to "what
changed" is right if it has all of them; for "why" they are sentences, one of which it quotes; yes
and no are measured apart, and an answer that says neither is not right; a list counts by the F1 of
the documents that it quotes (`doc_ids`). A follow-up is asked after its `first` question. Prints
for each form how many questions are right, wrong and likely, and not in memory, and how many are
recognised as each form.
"""

import json
import lzma
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer
from protocol import ROOT, lines_file, valid_rows

import cmt
from cmt.answering.answer import JOIN, Answer
from cmt.answering.answerer import Answerer
from cmt.answering.by_form import answer_by_form
from cmt.cli.context import run_script
from cmt.cli.output import write_table
from cmt.common.dates import parse_end
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.questions.follow_up import complete
from cmt.questions.forms import Form, form_of
from cmt.text.answers import same_value
from cmt.text.sentences import sentences
from cmt.text.words import words

FORMS = get_args(Form)
SHARED = 0.8  # of the words of a sentence, from which on both are one sentence


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the documents.")],
    files: Annotated[list[Path], typer.Argument(help="Files of questions.")],
    only: Annotated[str, typer.Option("--form", help="Measure only this form.")] = "",
) -> None:
    """Measure questions by their form."""
    workspace = cmt.open(params=ROOT / "params.yaml")
    documents = valid_rows(lines_file(folder, "documents")).documents
    params = workspace.params
    bank = TemporaryBank.of(
        params.compressor.path, lm=workspace.project.lm, documents=documents, params=params
    )
    outcomes = defaultdict(list)
    with bank.answerer() as answerer:
        for file in files:
            with lzma.open(file, "rt") if file.suffix == ".xz" else file.open() as lines:
                for question in map(json.loads, lines):
                    if only in ("", question["form"]):
                        outcomes[name_of(question)].append(outcome(answerer, question))
    if not outcomes:
        raise typer.BadParameter(f"the files have no question of the form {only!r}: name another")
    table = [
        [form, len(shares), *(f"{100 * share:.1f}" for share in np.mean(shares, axis=0))]
        for form, shares in sorted(outcomes.items())
    ]
    names = ("right", "wrong and likely", "not in memory")
    recognised = [f"as {form}" for form in FORMS]
    write_table(["form", "questions", *names, *recognised], table, left=1)


def name_of(question: dict[str, Any]) -> str:
    """The form of a question; of yes or no, with the right answer."""
    form: str = question["form"]
    return f"{form}, {question['answers'][0]}" if form == "yesno" else form


def outcome(answerer: Answerer, question: dict[str, Any]) -> tuple[float, ...]:
    """Whether the answer is right, wrong and likely, or missing, and which form is recognised."""
    text, as_of = question["question"], parse_end(question["as_of"])
    if first := question.get("first"):
        try:
            text = complete(text, [(first, ask(answerer, first, as_of).text)])
        except ValueError:
            return False, False, True, *(form == "plain" for form in FORMS)
    answer = ask(answerer, text, as_of)
    right: float = is_right(answer, question["answers"])
    if question["form"] == "changed" and question["answers"]:
        right = answer.form == "changed" and gives_all(answer.text, question["answers"])
    if question["form"] == "why" or (question["form"], answer.form) == ("follow", "why"):
        right = quotes(answer, question["answers"])
    if answer.form == "compare":  # not two numbers that were not compared
        right = right and "; " not in answer.text
    if question["form"] == "yesno":
        right = answer.text.partition(":")[0] in question["answers"]
    if question["form"] == "list":
        right = f1_of_documents(answer, question["doc_ids"])
    likely = answer.verdict == "likely"
    asked = form_of(text, as_of.date())
    recognised = (asked.form == form for form in FORMS)
    return right, likely and not right, not answer.known, *recognised


def f1_of_documents(answer: Answer, doc_ids: list[str]) -> float:
    """F1 of the documents that a list quotes, or that an answer in words cites."""
    quoted = [source for source in answer.sources if answer.items or source.quote]
    found = {source.doc_id for source in quoted} if answer.known else set()
    return 2 * len(found.intersection(doc_ids)) / (len(found) + len(set(doc_ids)))


def gives_all(text: str, values: list[str]) -> bool:
    """Whether `text` has all `values`."""
    return all(value.lower() in text.lower() for value in values)


def ask(answerer: Answerer, question: str, as_of: datetime) -> Answer:
    """The answer to a question of any form."""
    of_form = answer_by_form(answerer, question, as_of=as_of)
    return of_form or answerer.answer([question], as_of=[as_of])[0]


def is_right(answer: Answer, answers: list[str]) -> bool:
    """Whether an answer gives one of `answers`, or rightly none."""
    if not answers:
        return not answer.known
    return answer.known and any(same_value(answer.text, one) for one in answers)


def quotes(answer: Answer, answers: list[str]) -> bool:
    """Whether an answer quotes one of the sentences `answers`: it shares SHARED of the words of the
    shorter one, whatever its blanks and capitals.
    """
    parts = (part for item in answer.items for part in item.text.split(JOIN))
    quoted = [{*words(one.lower())} for part in parts for one in sentences(part)]
    for expected in ({*words(one.lower())} for one in answers):
        for given in quoted:
            if len(given & expected) >= SHARED * min(len(given), len(expected)) > 0:
                return True
    return False


if __name__ == "__main__":
    run_script(main)
