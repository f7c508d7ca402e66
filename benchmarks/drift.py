"""How often the drift check raises an alarm where nothing changes, and how often it sees a fall, on shuffled questions.

    python benchmarks/drift.py
    python benchmarks/drift.py --shuffles 2000 --fall 10

Takes the answers of the project's rounds (`make demo` leaves some). Dealing the questions to the rounds at random
removes any change over time, so every alarm is false. Then the F1 of a random share of the newest round's questions is
set to 0, which lowers its mean by FALL points, so every alarm is right. Writes metrics/drift.json = {"questions",
"rounds", "false_alarms", "fall", "seen"}; "false_alarms" and "seen" are shares of the shuffles.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

import cmt
from cmt.cli.context import run_script
from cmt.errors import RoundError
from cmt.evaluation.drift import FIGURES, Change, compare, figures_of
from cmt.evaluation.metrics import Floats
from cmt.evaluation.round_records import is_own, read_records

ROOT = Path(__file__).parents[1]

Figures = dict[str, Floats]


def main(
    params: Annotated[Path, typer.Option(help="The project.")] = ROOT / "params.yaml",
    shuffles: Annotated[int, typer.Option(min=1, help="How often the questions are dealt.")] = 1000,
    fall: Annotated[float, typer.Option(min=0, help="Points of F1 that the newest round loses.")] = 15.0,
    out: Annotated[Path, typer.Option(help="Where the shares are written.")] = ROOT / "metrics/drift.json",
) -> None:
    """Measure the shares of false alarms and of detected falls."""
    workspace = cmt.open(params=params)
    drift, random = workspace.params.drift, np.random.default_rng(workspace.params.seed)
    # 1. The questions of all rounds.
    own = []
    for round_ in workspace.rounds():
        records = read_records(workspace, round_)
        if records is not None:
            own.append(records.filter(is_own(workspace, round_, records)))
    if len(own) <= drift.reference_rounds:
        raise RoundError(
            f"{len(own)} rounds with answers: run more than {drift.reference_rounds} first, for example `make demo`"
        )
    sizes, figures = [len(records) for records in own], figures_of(pa.concat_tables(own))
    # 2. Shuffle them, without and with a fall in the newest round.
    alarms = seen = 0
    for shuffle in range(shuffles):
        order = random.permutation(sum(sizes))
        last, before = order[: sizes[-1]], order[sizes[-1] : sum(sizes[-drift.reference_rounds - 1 :])]
        newest, reference = _take(figures, last), _take(figures, before)
        alarms += _any(compare(newest, reference, drift, seed=shuffle))
        lost = random.random(len(last)) < fall / max(float(newest["f1"].mean()), fall)
        fallen = newest | {"f1": np.where(lost, 0.0, newest["f1"])}
        seen += _any(compare(fallen, reference, drift, seed=shuffle))
    counts = {"questions": sum(sizes), "rounds": len(sizes), "false_alarms": alarms / shuffles}
    counts |= {"fall": fall, "seen": seen / shuffles}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(counts, indent=2) + "\n")
    print(json.dumps(counts))


def _take(figures: Figures, rows: NDArray[np.int64]) -> Figures:
    return {name: figures[name][rows] for name in FIGURES}


def _any(changes: Mapping[str, Change]) -> bool:
    return any(change.drifted for change in changes.values())


if __name__ == "__main__":
    run_script(main)
