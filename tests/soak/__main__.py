"""`make soak`: faults at every system call, chaos beside a model, and damage to every kind of file.

Writes `metrics/soak.json` and exits with 1 if content was lost, doubled, wrong, or silently
damaged.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.soak.chaos import chaos
from tests.soak.damage import every_flip
from tests.soak.faults import prepare
from tests.soak.findings import Findings
from tests.soak.points import every_point
from tests.soak.project import build
from tests.soak.repeats import every_repeat

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of chaos and flips")
    parser.add_argument(
        "--every", type=int, default=1, help="inject a fault only at every n-th fault point"
    )
    parser.add_argument("--rounds", type=int, default=200, help="rounds of chaos")
    parser.add_argument("--flips", type=int, default=3000, help="number of changed bytes")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="concurrent processes"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "metrics/soak.json")
    options = parser.parse_args()
    prepare()
    console, began, findings = Console(), time.perf_counter(), Findings()
    console.print(f"seed {options.seed}, {options.workers} processes at once")
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        tempfile.TemporaryDirectory(prefix="cmt-soak-") as name,
        Progress(*columns, console=console) as progress,
    ):
        folder, workers = Path(name), options.workers
        project = build(folder / "plain")
        parts = {
            "fault points": lambda show: every_point(
                project, folder, workers=workers, every=options.every, on_point=show
            ),
            "repeats": lambda show: every_repeat(
                project, folder, workers=workers, every=options.every, on_point=show
            ),
            "chaos": lambda show: chaos(
                folder, rounds=options.rounds, seed=options.seed, workers=workers, on_round=show
            ),
            "flips": lambda show: every_flip(
                project,
                folder,
                count=options.flips,
                seed=options.seed,
                workers=workers,
                on_flip=show,
            ),
        }
        for part, look in parts.items():
            task = progress.add_task(part, total=None)
            findings.merge(
                look(
                    lambda done, total, task=task: progress.update(
                        task, completed=done, total=total
                    )
                )
            )
    _print(findings, console)
    result = {name: findings.checked[name] for name in ("fault_points", "chaos_rounds", "flips")}
    result |= {kind: findings.kinds[kind] for kind in ("lost", "doubled", "silent", "wrong")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(result | {"seconds": round(time.perf_counter() - began)}, indent=2) + "\n"
    )
    console.print(json.dumps(result))
    sys.exit(int(findings.kinds.total() > 0))


def _print(findings: Findings, console: Console) -> None:
    """Print the hits of faults, the results of flips, and the findings."""
    for title, counts in (
        ("Faults, by file and system call", findings.faults),
        ("Flips, by file and result", findings.flips),
    ):
        columns = sorted({column for _, column in counts})
        table = Table("file", *columns, title=title)
        for file in sorted({file for file, _ in counts}):
            table.add_row(file, *(str(counts[file, column] or "") for column in columns))
        console.print(table)
    for sentence in findings.sentences:
        console.print(sentence, style="red", markup=False)


if __name__ == "__main__":
    main()
