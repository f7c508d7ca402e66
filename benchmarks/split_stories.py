"""Split labelled stories of news into a seen and an unseen part, by group.

    python benchmarks/split_stories.py FOLDER OUTPUT

Stories of one group share a snippet or a subject, so they stay together: the part of a group is the
remainder of the CRC-32 of its name. OUTPUT gets the folders `seen` and `unseen`, each with the
layout that `undeclared_changes.py` and `continue_reader.py --news` read.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from protocol import read_lines

from cmt.cli.context import run_script
from cmt.cli.output import console

PARTS = 4  # of which one is unseen

Row = dict[str, Any]


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with labels.jsonl and the stories.")],
    output: Annotated[Path, typer.Argument(help="Folder of the two parts.")],
) -> None:
    """Write the two parts."""
    group_of = {story["story"]: story["group"] for story in read_lines(folder, "labels")}
    stories, questions, documents = (
        read_lines(folder, name) for name in ("links", "questions", "documents")
    )
    for name in ("seen", "unseen"):
        chosen = [story for story in stories if part(group_of[story["story"]]) == name]
        ids = {doc_id for story in chosen for doc_id in story["documents"]}
        (output / name).mkdir(parents=True, exist_ok=True)
        write(output / name / "links.jsonl", chosen)
        for kind, rows in (("questions", questions), ("documents", documents)):
            write(output / name / f"{kind}.jsonl", [row for row in rows if row["doc_id"] in ids])
        console().print(f"{name}: {len(chosen)} stories, {len(ids)} documents")


def part(group: str) -> str:
    """The part of a group: the same in every run."""
    return "unseen" if zlib.crc32(group.encode()) % PARTS == 0 else "seen"


def write(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    run_script(main)
