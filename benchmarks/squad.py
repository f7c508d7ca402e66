"""Scores on SQuAD paragraphs that no training saw, through the commands of a user: ingest, update, evaluate.

    python benchmarks/squad.py --data dev-v1.1.json --paragraphs 200

A seeded sample of unique paragraphs is compressed in one round; then all questions on them are asked.
"""

import json
import lzma
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


def draw(data: Path, count: int, seed: int) -> dict[str, Any]:
    """A seeded sample of `count` unique paragraphs of a SQuAD file, in SQuAD's layout."""
    raw = lzma.decompress(data.read_bytes()) if data.suffix == ".xz" else data.read_bytes()
    by_context = {
        paragraph["context"]: (article["title"], paragraph)
        for article in json.loads(raw)["data"]
        for paragraph in article["paragraphs"]
    }
    sample = random.Random(seed).sample(sorted(by_context), min(count, len(by_context)))
    articles: dict[str, list[Any]] = {}
    for context in sample:
        title, paragraph = by_context[context]
        articles.setdefault(title, []).append(paragraph)
    return {
        "version": "1.1",
        "data": [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()],
    }


def cmt(folder: Path, *arguments: str) -> str:
    """Run a `cmt` command on a stream and bank in `folder` and return its output; progress goes to the terminal."""
    paths = {"stream.path": folder / "stream", "stream.quarantine": folder / "quarantine", "bank.uri": folder / "bank"}
    settings = [f"--set={key}={value}" for key, value in paths.items()]
    command = [sys.executable, "-m", "cmt", f"--params={ROOT / 'params.yaml'}", *settings]
    command += ["--set=stream.clock=system", "--set=tracking.enabled=false", "--set=evaluation.earlier_questions=0"]
    return subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="SQuAD 1.1 file, .json or .json.xz.")],
    paragraphs: Annotated[int, typer.Option(min=1, help="Size of the sample.")] = 200,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the scores of the memory, closed-book and RAG top-1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "squad.json").write_text(json.dumps(draw(data, paragraphs, seed)))
        cmt(folder, "ingest", str(folder / "squad.json"), "--format", "squad", "--period", str(paragraphs))
        cmt(folder, "update")
        rows = json.loads(cmt(folder, "evaluate", "--json"))["rows"]
    if as_json:
        print(json.dumps({"paragraphs": paragraphs, "seed": seed, "rows": rows}))
        return
    table = Table("row", "EM", "EM prefix", "F1", "95 %", "recall", "questions", title=f"SQuAD, {paragraphs} texts")
    for row in rows:
        recall = "" if row["recall"] is None else f"{row['recall']:.3f}"
        low, high = row["ci"]
        scores = [f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1")]
        table.add_row(row["row"], *scores, f"{low:.1f} – {high:.1f}", recall, str(row["n"]))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
