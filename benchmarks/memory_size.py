"""Bytes of a bank against F1, by the window and the number format of its memories.

    cmt --set compressor.window=8 codebook --bytes 24     # the shipped compressor has codebooks for 4 and 16
    python benchmarks/memory_size.py --questions 300

The held-out articles of the training data (`cmt data pull` fetches them) are banked once in each format, with their
text, and every bank answers the same questions. `less` is the difference of F1 from fp16 at the same window, with the
95 % interval of a paired bootstrap. A format whose codebook is missing is left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import typer
from ablations import Variant
from model_bars import stored_bytes
from rich.console import Console
from rich.progress import track
from rich.table import Table

import cmt
from cmt.cli.context import run_script
from cmt.config import load_params
from cmt.evaluation.sampling import sample_on_documents
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.codebook import Codebook
from cmt.training.data import load_base_data

FORMATS = [
    (4, "fp16"),
    (4, "int8"),
    (4, "pq"),
    (8, "fp16"),
    (8, "int4"),
    (8, "pq"),
    (16, "fp16"),
    (16, "int4"),
    (16, "pq"),
]
"""Tokens a vector, and `bank.codes`; fp16 of a window comes before the others."""


def main(
    questions: Annotated[int, typer.Option(min=1, help="Number of held-out questions.")] = 300,
    params: Path = Path("params.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print a row for each format."""
    rows, stderr = [], Console(stderr=True)
    for row in _rows(params, questions):
        rows.append(row)
        stderr.print(f"{row['window']} tokens a vector, {row['codes']}: F1 {row['f1']:.1f}")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = ("tokens a vector", "codes", "memory ÷ text", "bank ÷ text", "F1", "95 %", "less than fp16", "recall")
    table = Table(*columns, title=f"{questions} questions")
    for row in rows:
        sizes = (f"{row[key]:.2f}" for key in ("memory", "bank"))
        less = "{:.1f} ({:.1f} – {:.1f})".format(*row["less"]) if "less" in row else ""
        ci = "{:.1f} – {:.1f}".format(*row["ci"])
        table.add_row(str(row["window"]), row["codes"], *sizes, f"{row['f1']:.1f}", ci, less, f"{row['recall']:.3f}")
    Console().print(table)


def _rows(params_file: Path, questions: int) -> Iterator[dict[str, Any]]:
    workspace = cmt.open(params=params_file)
    folder, data = workspace.params.compressor.path, load_base_data(workspace.params)
    sampled = sample_on_documents(data.questions, data.held_out, limit=questions, seed=workspace.params.seed)
    for window, codes in track(FORMATS, "formats", console=Console(stderr=True)):
        if codes == "pq" and Codebook.load(folder, window) is None:
            continue
        changes = {"compressor.window": window, "bank.codes": codes, "selection.abstain_below": -1.0}
        bank = TemporaryBank.of(
            folder, lm=workspace.lm, documents=data.held_out, params=load_params(params_file, changes)
        )
        scores = Variant(bank, sampled).scores(codes)
        if codes == "fp16":
            exact = scores
        row = scores.row if codes == "fp16" else scores.compared_with(exact)
        text_bytes = pc.sum(pc.binary_length(bank.rows["text"])).as_py()
        memory, size = pc.sum(pc.binary_length(bank.rows["memory"])).as_py(), stored_bytes(bank.rows)
        yield {"window": window, "codes": codes, "memory": memory / text_bytes, "bank": size / text_bytes, **row}


if __name__ == "__main__":
    run_script(main)
