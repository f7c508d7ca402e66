"""Documents a second of `cmt/backfill`, on Ray or in one process, and what 100,000 documents take at that rate.

    python benchmarks/backfill.py --documents 5000
    python benchmarks/backfill.py --documents 5000 --engine local

A synthetic archive (`chronicle.py`) goes through a Prefect server, a worker and the deployment in slices of a thousand
documents, with the shipped compressor. It has no questions and no rumours, for which the gate would refuse a slice. The
seconds include ingest and the start of each process; those of a round come from its ledger. `ray` needs the extra of
this name.
"""

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
import yaml
from chronicle import chronicle
from rich.console import Console
from rich.table import Table

import cmt
from cmt.cli.context import run_script
from flows.local.prefect import local_prefect

ROOT = Path(__file__).parents[1]
SLICE = 1_000  # documents
LARGE = 100_000  # documents that the rate is extrapolated to


class Engine(StrEnum):
    """Where compression runs: `compress.engine`."""

    RAY = "ray"
    LOCAL = "local"


def project(folder: Path, engine: Engine, workers: int) -> Path:
    """The params.yaml of an empty project in `folder`."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section in ("lm", "compressor"):
        raw[section]["path"] = str(ROOT / raw[section]["path"])
    raw["stream"] |= {"period": SLICE, "clock": "system", "path": "stream", "quarantine": "quarantine"}
    raw["compress"] = {"engine": engine.value, "workers": workers}
    raw |= {"bank": {"uri": "bank"}, "tracking": {"enabled": False}}
    params = folder / "params.yaml"
    params.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return params


def write_archive(file: Path, documents: int) -> None:
    """The documents of a chronicle, as JSON lines."""
    with file.open("w", encoding="utf-8") as out:
        for row in chronicle(documents=documents, seed=0, rumours=False):
            if "text" in row:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main(
    documents: Annotated[int, typer.Option(min=1, help="Documents of the archive.")] = 5_000,
    engine: Annotated[Engine, typer.Option(help="Where compression runs.")] = Engine.RAY,
    workers: Annotated[int, typer.Option(min=1, help="Processes on Ray.")] = os.cpu_count() or 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Adapt the archive, and print the rates."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        params, archive = project(folder, engine, workers), folder / "archive.jsonl"
        write_archive(archive, documents)
        with local_prefect(root=ROOT, home=folder / "prefect" / "home", params=params) as prefect:
            started = time.perf_counter()
            prefect.run("cmt/backfill", source=str(archive))
            seconds = time.perf_counter() - started
        rounds = cmt.open(params=params).rounds()
    adapted = sum(round_.documents for round_ in rounds)
    compressing, banking = (sum(round_.seconds.get(name, 0.0) for round_ in rounds) for name in ("compress", "bank"))
    row = {
        "engine": engine.value,
        "documents": adapted,
        "seconds": round(seconds, 1),
        "documents_per_second": round(adapted / seconds, 2),
        "compress_seconds": round(compressing, 1),
        "bank_seconds": round(banking, 1),
        f"hours_for_{LARGE}": round(LARGE / adapted * seconds / 3600, 2),
    }
    if as_json:
        typer.echo(json.dumps(row))
        return
    table = Table("", "", title="cmt/backfill")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int | float) else value)
    Console().print(table)


if __name__ == "__main__":
    run_script(main)
