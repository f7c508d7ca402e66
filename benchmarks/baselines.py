"""Scores and costs of all systems on SQuAD paragraphs that no training saw.

    python benchmarks/baselines.py --data dev-v1.1.json --paragraphs 200

The paragraphs are those of benchmarks/squad.py with the same seed. They are compressed in one round of a temporary
project, in which `cmt baselines` then asks the questions.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from squad import cmt, draw


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="SQuAD 1.1 file, .json or .json.xz.")],
    paragraphs: Annotated[int, typer.Option(min=1, help="Size of the sample.")] = 200,
    questions: Annotated[int, typer.Option(min=1, help="Largest number of questions, a seeded sample.")] = 10_000,
    rows: Annotated[str | None, typer.Option(metavar="NAME,…", help="Only these systems.")] = None,
    seed: int = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the table of `cmt baselines`."""
    options = ["--questions", str(questions), *(["--rows", rows] if rows else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "squad.json").write_text(json.dumps(draw(data, paragraphs, seed)))
        cmt(folder, "ingest", str(folder / "squad.json"), "--format", "squad", "--period", str(paragraphs))
        cmt(folder, "--set=evaluation.baselines=false", "update")
        if not as_json:
            print(cmt(folder, "baselines", *options), end="")
            return
        result = json.loads(cmt(folder, "baselines", *options, "--json"))
    print(json.dumps({"paragraphs": paragraphs, "seed": seed, **result}))


if __name__ == "__main__":
    typer.run(main)
