"""What each device of this machine does: the first thing to run where there is a GPU.

    python benchmarks/device.py
    python benchmarks/device.py --json

For the CPU and each GPU: the rate of its matrix products in the type of `lm.dtype`, tokens that a round compresses a
second, questions a second with and without expansion, and the share of that rate that training steps reach. On the
bundled newspaper and with the shipped compressor; what is trained is thrown away.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from model_bars import compress, newspaper, systems, workspace
from rich.console import Console
from rich.table import Table

from cmt.cli.context import run_script
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.training.trainer import matmul_rate, train

QUESTIONS = 64
PAIRS = 400  # of the training; every fifth step is measured


def devices() -> list[torch.device]:
    """The CPU, and each GPU."""
    return [torch.device("cpu"), *(torch.device("cuda", number) for number in range(torch.cuda.device_count()))]


def measured(device: torch.device) -> dict[str, Any]:
    """The figures of a device."""
    opened, sample = workspace(), newspaper()
    lm = opened.lm_on(device)
    # 1. compression
    folder = opened.params.compressor.path
    bank = TemporaryBank.of(folder, lm=lm, documents=sample.documents, params=opened.params.without_abstention())
    tokens = sum(bank.rows["n_tokens"].to_pylist())
    began = time.perf_counter()
    compress(sample.documents, opened.params.compressor.batch_tokens, bank.model)
    figures = {"device": str(device), "dtype": str(lm.model.dtype).removeprefix("torch.")}
    row: dict[str, Any] = figures | {
        "matmul_tflops": round(matmul_rate(device, lm.model.dtype) / 1e12, 3),
        "compressed_tokens_per_second": round(tokens / (time.perf_counter() - began)),
    }
    # 2. questions
    asked = sample.questions["question"].to_pylist()[: 2 * QUESTIONS]
    with bank.answerer() as answerer:
        for name in ("stored", "expanded"):
            ask = systems(answerer)[name]
            ask(asked[QUESTIONS:], 16)  # what is built on first use
            began = time.perf_counter()
            ask(asked[:QUESTIONS], 16)
            row[f"questions_per_second_{name}"] = round(len(asked[:QUESTIONS]) / (time.perf_counter() - began), 2)
    # 3. training
    with TemporaryDirectory() as trained:
        values = {"output": Path(trained), "questions": PAIRS, "compile": False}
        params = opened.params.model_copy(update={"train": opened.params.train.model_copy(update=values)})
        with redirect_stdout(sys.stderr):  # the Trainer prints its summary to stdout
            train(lm=lm, documents=sample.documents, questions=sample.all_questions, params=params)
        logs = json.loads((Path(trained) / "log.json").read_text())
    row["training_matmul_share"] = max(log["matmul_share"] for log in logs if "matmul_share" in log)
    return row


def main(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Measure every device and print a column for each."""
    rows = [measured(device) for device in devices()]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("", *(row["device"] for row in rows), title="what each device does")
    for name in list(rows[0])[1:]:
        table.add_row(name.replace("_", " "), *(str(row[name]) for row in rows))
    Console().print(table)


if __name__ == "__main__":
    run_script(main)
