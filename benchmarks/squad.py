"""SQuAD paragraphs nobody trained on, through the commands a user has: ingest, update, evaluate.

    python benchmarks/squad.py --data dev-v1.1.json --paragraphs 200

Draws unique paragraphs with a fixed seed, adapts them all in one round, then asks every question on them.
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
    """`count` unique paragraphs of a SQuAD file, in its own layout."""
    raw = lzma.decompress(data.read_bytes()) if data.suffix == ".xz" else data.read_bytes()
    unique = {p["context"]: (a["title"], p) for a in json.loads(raw)["data"] for p in a["paragraphs"]}
    drawn = random.Random(seed).sample(sorted(unique), min(count, len(unique)))
    articles: dict[str, list[Any]] = {}
    for context in drawn:
        title, paragraph = unique[context]
        articles.setdefault(title, []).append(paragraph)
    return {"version": "1.1", "data": [{"title": title, "paragraphs": p} for title, p in articles.items()]}


def cmt(folder: Path, *arguments: str) -> str:
    """One `cmt` command on a bank of its own in `folder`; progress stays on the terminal."""
    places = {"stream.path": folder / "stream", "stream.quarantine": folder / "quarantine", "bank.uri": folder / "bank"}
    settings = [f"--set={key}={value}" for key, value in places.items()]
    command = [sys.executable, "-m", "cmt", f"--params={ROOT / 'params.yaml'}", *settings]
    command += ["--set=stream.clock=system", "--set=tracking.enabled=false", "--set=evaluation.earlier_questions=0"]
    return subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A SQuAD 1.1 file, .json or .json.xz")],
    paragraphs: Annotated[int, typer.Option(min=1)] = 200,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print a row each for the memory, closed-book and RAG top-1."""
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
