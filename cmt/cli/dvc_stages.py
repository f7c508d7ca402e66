"""`python -m cmt.cli.dvc_stages <stage>`: the stages of `dvc.yaml`, from raw stream to replayed
bank and scores.

They work in `data/replay`, apart from the live bank, and write the same bytes every time: no
durations, no dates, and no answers that depend on earlier questions. DVC tracks a small file with
the bank's digest instead of the bank.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmt.bank.rounds import SCORE_NAMES, flat_scores
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.cli.progress_bar import ProgressBar
from cmt.common.digests import sha256_file, sha256_hex
from cmt.common.storage import read_json, write_json
from cmt.common.systems import ROUND_SYSTEMS
from cmt.errors import CmtError, ModelError, RoundError, StreamError
from cmt.stream.limits import Limits
from cmt.workspace import Workspace, open

if TYPE_CHECKING:
    import pyarrow as pa

    from cmt.bank.rounds import Round

PIN = "data/replay/bank.json"


def workspace(params: Path, overrides: dict[str, Any] | None = None) -> Workspace:
    """The project of `params` with stream, compressor, bank and state in `data/replay`, and without
    tracking.
    """
    replayed = {
        "stream.path": "data/replay/slices",
        "compressor.path": "data/replay/compressor",
        "bank.uri": "data/replay/bank",
        "train.output": "data/replay/training",
        "tracking.enabled": False,
    }
    return open(params=params, overrides=replayed | (overrides or {}))


def prepare(params: Path, progress: ProgressBar) -> None:
    """Write the slices of the raw stream to `data/replay/slices`."""
    replay_workspace = workspace(params)
    slices = replay_workspace.params.stream.path
    shutil.rmtree(slices, ignore_errors=True)
    progress.stage("prepare")
    progress.advance(0, replay_workspace.ingest().summary())
    (slices / ".lock").unlink(missing_ok=True)


def train(params: Path, progress: ProgressBar) -> None:
    """Copy the compressor to `data/replay/compressor`: the shipped one, or with `train.enabled` a
    trained one.
    """
    from cmt.modeling.champion import copy_compressor

    replay_workspace = workspace(params)
    progress.stage("train")
    enabled = replay_workspace.params.train.enabled
    source = _trained(params) if enabled else open(params=params).project.declared.compressor.path
    target = replay_workspace.params.compressor.path
    shutil.rmtree(target, ignore_errors=True)
    copy_compressor(source, target)
    if (source / "curve.png").exists():
        shutil.copyfile(source / "curve.png", target / "curve.png")
    if not (target / "compressor.safetensors").exists():
        raise ModelError(
            f"no compressor in {source}: restore it, set compressor.path, or set train.enabled "
            "to true"
        )


def replay(params: Path, progress: ProgressBar) -> None:
    """Run a round for every slice, in order, into an empty bank; write its pin and the scores after
    each round.
    """
    from cmt.common.plots import round_curve
    from cmt.evaluation.round_records import read_records

    # 1. an empty bank
    replay_workspace = workspace(params)
    replay_workspace.pull()
    for folder in (
        Path(replay_workspace.params.bank.uri),
        replay_workspace.project.state / "rounds",
    ):
        shutil.rmtree(folder, ignore_errors=True)
    # 2. the rounds
    for slice_ in replay_workspace.project.store.slices():
        progress.title = slice_.slice_id
        replay_workspace.update(slice_id=slice_.slice_id, progress=progress)
    # 3. the results; equal pins mean equal banks and equal answers
    bank = replay_workspace.project.bank
    pinned = {"table": bank.name, "rows": bank.count_rows(), "digest": bank.digest()}
    write_json(
        replay_workspace.project.root / PIN,
        pinned | {"calibration": replay_workspace.project.active.calibration()._asdict()},
    )
    rounds = replay_workspace.rounds()
    metrics = replay_metrics(rounds)
    if replay_workspace.project.answerer.confidence_is_probability:
        records = [
            found
            for round_ in rounds
            if (found := read_records(replay_workspace.project, round_)) is not None
        ]
        metrics |= calibration_metrics(records)
    write_json(replay_workspace.project.root / "metrics/replay.json", metrics)
    scored = [
        (round_.slice_id, round_.scores)
        for round_ in rounds
        if round_.state == "committed" and round_.scores
    ]
    round_curve(rounds=scored, path=replay_workspace.project.root / "plots/rounds.png")


def evaluate(params: Path, progress: ProgressBar) -> None:
    """Ask the replayed bank all questions of the stream, each as of its date; write their scores
    and a bar chart.

    Raises RoundError unless the bank is the pinned one, as after checking out another commit.
    """
    from cmt.common.plots import score_bars

    # 1. the bank
    replay_workspace = workspace(params)
    replay_workspace.pull()
    try:
        pinned = read_json(replay_workspace.project.root / PIN, dict[str, Any])
        bank = replay_workspace.project.active.stored()
        equal = bank.name == pinned["table"] and bank.digest() == pinned["digest"]
    except (OSError, ValueError, LookupError, CmtError):
        equal = False
    if not equal:
        uri, path = replay_workspace.params.bank.uri, replay_workspace.project.root / PIN
        raise RoundError(f"the bank in {uri} is not that of {path}: run `dvc repro --force replay`")
    # 2. the questions
    systems = len(ROUND_SYSTEMS) if replay_workspace.params.evaluation.baselines else 1
    progress.stage("evaluate", systems * replay_workspace.project.store.all_questions().num_rows)
    evaluation = replay_workspace.evaluate(on_progress=progress.advance)
    # 3. the numbers for DVC, without lists and durations, which differ every time
    names = (*SCORE_NAMES, "calibration_error", "likely", "likely_right", "n")
    rows = [
        row | {"f1_low": row["ci"][0], "f1_high": row["ci"][1]}
        for row in evaluation.to_json()["rows"]
    ]
    metrics = {
        row["row"]: {name: row[name] for name in names if row.get(name) is not None} for row in rows
    }
    write_json(replay_workspace.project.root / "metrics/scores.json", metrics)
    score_bars(scores=evaluation.scores(), path=replay_workspace.project.root / "plots/scores.png")


STAGES: dict[str, Callable[[Path, ProgressBar], None]] = {
    stage.__name__: stage for stage in (prepare, train, replay, evaluate)
}


def replay_metrics(rounds: "list[Round]") -> dict[str, Any]:
    """The metrics of a replay: totals, the scores of the last committed round, and a record for
    each round.
    """
    committed = [round_ for round_ in rounds if round_.state == "committed"]
    last = committed[-1] if committed else None
    records = [
        {"slice": r.slice_id, "state": r.state, "documents": r.documents, "rows": r.rows}
        | flat_scores(r.scores)
        for r in rounds
    ]
    return {
        "slices": len(rounds),
        "committed": len(committed),
        "rows": last.rows if last else 0,
        "last": {
            name: v for name, v in flat_scores(last.scores if last else {}).items() if v is not None
        },
        "rounds": records,  # DVC leaves lists out of its tables
    }


def calibration_metrics(records: "Sequence[pa.Table]") -> dict[str, float]:
    """Calibration error, 0–1, of the calibrated and the uncalibrated confidence in the answers of
    all rounds.

    `records`: a table for each round (RECORD_SCHEMA); the rounds before it calibrate it. Empty
    without answers.
    """
    import pyarrow as pa

    from cmt.evaluation.calibration import answer_reliability

    if not records:
        return {}
    answers = pa.concat_tables(records)
    uncalibrated = answers.drop_columns("confidence").rename_columns({"uncalibrated": "confidence"})
    errors = {
        "calibration_error": answer_reliability(answers).error,
        "uncalibrated_error": answer_reliability(uncalibrated).error,
    }
    return {name: round(error, 4) for name, error in errors.items() if error is not None}


def _trained(params: Path) -> Path:
    """Train a compressor with these settings, or continue or reuse an earlier training; returns its
    folder.
    """
    from cmt.modeling.checkpoint import CompressorConfig
    from cmt.training.sources import installed_sources, pull_sources

    # 1. the data
    replay_workspace = workspace(params)
    train_params = replay_workspace.params.train
    try:
        files = installed_sources(train_params)
    except StreamError:
        pull_sources(train_params, limits=Limits(replay_workspace.params.stream))
        files = installed_sources(train_params)
    replay_workspace.pull()
    # 2. the training, in a folder named after the digest of everything that shapes a trained
    #    compressor
    settings, lm = replay_workspace.params, replay_workspace.project.lm
    record = [
        CompressorConfig.of(settings).to_dict(),
        train_params.model_dump(
            exclude={"enabled", "source", "mix", "base_fraction", "path", "output", "compile"}
        ),
        list(train_params.shares.values()),
        [slice_.digest for slice_ in replay_workspace.project.store.slices()]
        if train_params.from_stream
        else [],
        settings.selection.model_dump(include={"best_windows", "neighbour_windows"}),
        settings.seed,
        str(lm.model.dtype),
        lm.digest,
    ]
    digest = sha256_hex(json.dumps(record, sort_keys=True), *map(sha256_file, files.values()))
    folder = train_params.output / digest[:12]
    if not (folder / "card.md").exists():  # written at the end of a training
        workspace(params, {"train.output": str(folder)}).train()
    return folder


def main(stage: Literal["prepare", "train", "replay", "evaluate"]) -> None:
    """Run a stage in the folder of `params.yaml`."""
    with ProgressBar(console(stderr=True)) as progress:
        STAGES[stage](Path("params.yaml"), progress)


if __name__ == "__main__":
    run_script(main)
