"""Every way of answering over SQuAD paragraphs nobody trained on, with its interval and its cost.

    python benchmarks/baselines.py --data dev-v1.1.json --paragraphs 200

The paragraphs are those of benchmarks/squad.py with the same seed; all are adapted in one round of a scratch project,
then `cmt baselines` asks.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from squad import cmt, draw


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A SQuAD 1.1 file, .json or .json.xz")],
    paragraphs: Annotated[int, typer.Option(min=1)] = 200,
    questions: Annotated[int, typer.Option(min=1, help="A sample of at most so many.")] = 10_000,
    rows: Annotated[str | None, typer.Option(metavar="NAME,…", help="These rows alone.")] = None,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print the table of `cmt baselines`."""
    chosen = ["--questions", str(questions), *(["--rows", rows] if rows else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "squad.json").write_text(json.dumps(draw(data, paragraphs, seed)))
        cmt(folder, "ingest", str(folder / "squad.json"), "--format", "squad", "--period", str(paragraphs))
        cmt(folder, "--set=evaluation.baselines=false", "update")
        if not as_json:
            print(cmt(folder, "baselines", *chosen), end="")
            return
        found = json.loads(cmt(folder, "baselines", *chosen, "--json"))
    print(json.dumps({"paragraphs": paragraphs, "seed": seed, **found}))


if __name__ == "__main__":
    typer.run(main)
