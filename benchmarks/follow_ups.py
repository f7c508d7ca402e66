"""Measure how many questions are taken for follow-ups, each asked behind the one before it.

    python benchmarks/follow_ups.py squad-dev.json

The file is in SQuAD's layout. Few of its questions are follow-ups, so most should stay as they are.
"""

import json
import lzma
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from cmt.cli.context import run_script
from cmt.cli.output import write_table
from cmt.questions.follow_up import Turn, complete


def main(
    file: Annotated[Path, typer.Argument(help="Questions in SQuAD's layout, perhaps in .xz.")],
    examples: Annotated[int, typer.Option(help="Completed questions to print.")] = 0,
) -> None:
    """Measure how many questions are completed or refused."""
    with lzma.open(file) if file.suffix == ".xz" else file.open("rb") as content:
        articles = json.load(content)["data"]
    total, refused, incomplete, completed, seconds = 0, 0, 0, list[str](), 0.0
    for article in articles:
        before: list[Turn] = []
        for row in (row for paragraph in article["paragraphs"] for row in paragraph["qas"]):
            question = " ".join(row["question"].split())
            began = perf_counter()
            after = outcome(question, before[-1:])
            seconds += perf_counter() - began
            total += 1
            refused += after is None
            incomplete += outcome(question, []) is None
            if after not in (None, question):
                completed.append(f"{before[-1][0]} | {question} | {after}")
            before.append((question, row["answers"][0]["text"] if row["answers"] else ""))
    shares = [f"{100 * count / total:.2f}" for count in (len(completed), refused, incomplete)]
    names = ["questions", "completed, %", "refused, %", "refused as the first, %", "ms"]
    write_table(names, [[total, *shares, f"{1000 * seconds / total:.2f}"]], left=0)
    for line in completed[:examples]:
        print(line)


def outcome(question: str, before: list[Turn]) -> str | None:
    """The question, completed if it is a follow-up; None if it is refused."""
    try:
        return complete(question, before)
    except ValueError:
        return None


if __name__ == "__main__":
    run_script(main)
