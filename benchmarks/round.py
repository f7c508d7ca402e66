"""What a round costs: the seconds of each of its stages, and what share the search for changes has.

    python benchmarks/round.py ARTICLES.jsonl --documents 200 --characters 3500

The rows need `text` and `published_at`. Longer texts are cut and shorter ones left out, so that all
documents have about the same length. Each month is a round of a project of its own in a temporary
folder, which has the settings of this one. Prints each stage with its seconds, its seconds a memory
and its share of all rounds.
"""

import json
import lzma
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from protocol import ROOT

import cmt
from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.cli.progress_bar import ProgressBar
from cmt.workspace import Workspace


def main(
    articles: Annotated[Path, typer.Argument(exists=True, help="JSON lines, or .xz of them.")],
    documents: Annotated[int, typer.Option(min=1, help="The most of them.")] = 200,
    characters: Annotated[int, typer.Option(min=100, help="Length of a text.")] = 3500,
) -> None:
    """Print the seconds of each stage."""
    with tempfile.TemporaryDirectory() as folder:
        # 1. make the project
        rows = list(of_length(articles, characters))[:documents]
        source = Path(folder) / "articles.jsonl"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        workspace = project_in(Path(folder))
        workspace.ingest(source=source)
        # 2. run its rounds
        seconds, memories, pending = Counter[str](), 0, workspace.pending()
        with ProgressBar(console(stderr=True)) as progress:
            progress.stage("rounds", len(pending))
            for slice_id in pending:
                round_ = workspace.update(slice_id=slice_id)
                seconds.update(round_.seconds)
                memories = round_.rows
                progress.advance(1)
        # 3. print
        whole = seconds.total()
        table = [
            [stage, f"{taken:.1f}", f"{taken / memories:.3f}", f"{100 * taken / whole:.1f} %"]
            for stage, taken in seconds.most_common()
        ]
        console().print(f"{len(rows)} documents, {memories} memories, {len(pending)} rounds")
        write_table(["stage", "seconds", "a memory", "share"], table)


def of_length(articles: Path, characters: int) -> Iterator[dict[str, Any]]:
    """The rows of at least three quarters of `characters`, cut to as many."""
    with lzma.open(articles, "rt") if articles.suffix == ".xz" else articles.open() as lines:
        for number, row in enumerate(map(json.loads, lines)):
            if len(row["text"]) >= 0.75 * characters:
                yield {
                    "doc_id": f"a{number}",
                    "published_at": row["published_at"],
                    "title": row.get("title", ""),
                    "text": row["text"][:characters],
                }


def project_in(folder: Path) -> Workspace:
    """A project in `folder`, with the settings and models of this one."""
    names = {"stream": ("path", "quarantine"), "bank": ("uri",)}
    paths = {
        f"{section}.{key}": str(folder / section / key)
        for section, keys in names.items()
        for key in keys
    }
    return cmt.open(params=ROOT / "params.yaml", overrides=paths | {"stream.clock": "system"})


if __name__ == "__main__":
    run_script(main)
