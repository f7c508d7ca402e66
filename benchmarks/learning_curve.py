"""F1 on held-out articles of the training data against the question-answer pairs that a compressor was trained on.

    python benchmarks/learning_curve.py --output data/compressor 23300=data/trained/checkpoints/checkpoint-400 …

Each argument is a number of pairs and the folder of a checkpoint or compressor. The held-out articles are those that
`cmt train` leaves out, all in one bank. The points are written to learning_curve.json and learning_curve.png. The
training data are those that `cmt data pull` fetched.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file

import cmt
from cmt.cli.context import run_script
from cmt.evaluation.held_out import held_out_scores
from cmt.modeling.checkpoint import WEIGHTS, CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.training.data import load_base_data


def main(
    checkpoints: Annotated[list[str], typer.Argument(metavar="PAIRS=FOLDER…")],
    output: Annotated[Path, typer.Option(help="Folder of learning_curve.json and learning_curve.png.")],
    questions: Annotated[int, typer.Option(min=1, help="Number of held-out questions.")] = 500,
    params: Path = Path("params.yaml"),
) -> None:
    """Evaluate the checkpoints in the order of their pairs."""
    workspace = cmt.open(params=params)
    data = load_base_data(workspace.params)
    pairs_and_folders = sorted(
        (int(pairs), Path(folder)) for pairs, _, folder in (c.partition("=") for c in checkpoints)
    )
    # 1. evaluate each checkpoint
    model, points = MemoryModel(workspace.lm, CompressorConfig.of(workspace.params)), []
    for pairs, folder in track(pairs_and_folders, "checkpoints", console=Console(stderr=True)):
        model.load_tensors(load_file(folder / WEIGHTS))
        with tempfile.TemporaryDirectory() as name:
            model.save(Path(name))
            evaluation = held_out_scores(
                folder=Path(name),
                lm=workspace.lm,
                data=data,
                params=workspace.params,
                limit=questions,
            )
        scores = evaluation.to_json()["rows"][0]
        points.append({"pairs": pairs} | {key: scores[key] for key in ("em", "em_prefix", "f1", "ci", "recall", "n")})
    # 2. write and print the points
    (output / "learning_curve.json").write_text(json.dumps(points, indent=1) + "\n")
    _plot(points, output / "learning_curve.png")
    table = Table("pairs", "EM", "F1", "95 %", "recall")
    for point in points:
        low, high = point["ci"]
        cells = f"{point['em']:.1f}", f"{point['f1']:.1f}", f"{low:.1f} – {high:.1f}", f"{point['recall']:.3f}"
        table.add_row(f"{point['pairs']:,}", *cells)
    Console().print(table)


def _plot(points: list[dict[str, float | list[float]]], path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    pairs = [point["pairs"] for point in points]
    axes.plot(pairs, [point["f1"] for point in points], marker="o", label="F1")
    axes.fill_between(pairs, *zip(*(point["ci"] for point in points), strict=True), alpha=0.2, label="95 %")
    axes.plot(pairs, [point["em"] for point in points], marker="s", label="EM")
    axes.set(xlabel="question-answer pairs seen", ylabel="held-out articles, 0–100")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    run_script(main)
