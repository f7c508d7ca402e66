"""`python -m cmt.cli.dvc_stages <stage>`: the stages of `dvc.yaml`, from raw stream to replayed bank and scores.

They work in `data/replay`, away from the live bank, and give the same files each time: no seconds, no dates, and no
answer that depends on what was asked before. The bank is pinned by a small file that holds its digest.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.cli.progress_bar import ProgressBar
from cmt.common.storage import write_json
from cmt.errors import CmtError, ConfigError, ModelError, RoundError, StreamError
from cmt.workspace import Workspace, open

if TYPE_CHECKING:
    from cmt.bank.bank import Bank
    from cmt.bank.ledger import Round

SCORES = ("em", "em_prefix", "f1", "f1_low", "f1_high", "recall")
WAYS = ("", "closed_", "rag_")


def workspace(params: Path, overrides: dict[str, Any] | None = None) -> Workspace:
    """The project of `params`, with stream, compressor, bank and state below `data/replay` and nothing tracked."""
    places = {"stream.path": "slices", "compressor.path": "compressor", "bank.uri": "bank", "train.output": "training"}
    inside = {key: f"data/replay/{name}" for key, name in places.items()}
    return open(params=params, overrides=inside | {"tracking.enabled": False} | (overrides or {}))


def prepare(params: Path, on: ProgressBar) -> None:
    """The raw stream → `data/replay/slices`."""
    w = workspace(params)
    shutil.rmtree(w.params.stream.path, ignore_errors=True)
    on.stage("prepare")
    on.advance(0, w.ingest().summary())
    (w.params.stream.path / ".lock").unlink(missing_ok=True)


def train(params: Path, on: ProgressBar) -> None:
    """A compressor, trained when train.enabled says so, else the shipped one → `data/replay/compressor`."""
    w = workspace(params)
    on.stage("train")
    source = _trained(params) if w.params.train.enabled else open(params=params).params.compressor.path
    shutil.rmtree(w.params.compressor.path, ignore_errors=True)
    w.params.compressor.path.mkdir(parents=True)
    for name in ("config.json", "compressor.safetensors", "card.md", "curve.png"):
        if (source / name).exists():
            shutil.copyfile(source / name, w.params.compressor.path / name)
    if not (w.params.compressor.path / "compressor.safetensors").exists():
        raise ModelError(f"no compressor in {source}: restore it, set compressor.path, or set train.enabled to true")


def replay(params: Path, on: ProgressBar) -> None:
    """A round for every slice, in order, into an empty bank → its pin, the scores after each round, and their curve."""
    from cmt.common.plots import round_curve
    from cmt.tracking.payload import draw_curve

    w = _answering(params)
    for left in (Path(w.params.bank.uri), w.state / "rounds"):
        shutil.rmtree(left, ignore_errors=True)
    for slice_ in w.store.slices():
        on.title = slice_.slice_id
        w.update(slice_id=slice_.slice_id, progress=on)
    pin(w.bank, _pinned(w))
    write_json(w.root / "metrics/replay.json", replay_metrics(w.rounds()))
    picture = w.root / "plots/rounds.png"
    if draw_curve(w.rounds(), picture) is None:
        round_curve(rounds=[], path=picture)


def evaluate(params: Path, on: ProgressBar) -> None:
    """All questions of the stream, each as of its date, asked of the replayed bank → their scores and bars."""
    from cmt.common.plots import score_bars

    w = _answering(params)
    check_pin(w)
    ways = len(WAYS) if w.params.evaluation.baselines else 1
    on.stage("evaluate", ways * w.store.all_questions().num_rows)
    rows = w.evaluate(on_progress=on.advance).to_json()["rows"]
    write_json(w.root / "metrics/scores.json", score_metrics(rows))
    score_bars(rows=rows, path=w.root / "plots/scores.png")


STAGES: dict[str, Callable[[Path, ProgressBar], None]] = {
    stage.__name__: stage for stage in (prepare, train, replay, evaluate)
}


def replay_metrics(rounds: "list[Round]") -> dict[str, Any]:
    """What DVC shows of a replay: the state at its end; and a record a round, which DVC leaves out of its tables."""
    committed = [round_ for round_ in rounds if round_.state == "committed"]
    last = committed[-1] if committed else None
    names = [way + score for way in WAYS for score in SCORES]
    records = [
        {"slice": r.slice_id, "state": r.state, "documents": r.documents, "rows": r.rows}
        | {name: r.scores[name] for name in names if name in r.scores}
        for r in rounds
    ]
    return {
        "slices": len(rounds),
        "committed": len(committed),
        "rows": last.rows if last else 0,
        "last": {name: last.scores[name] for name in names if last and last.scores.get(name) is not None},
        "rounds": records,
    }


def score_metrics(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of an evaluation as DVC can show them: numbers only, no lists, and no seconds, which differ each time."""
    found = [row | {"f1_low": row["ci"][0], "f1_high": row["ci"][1]} for row in rows]
    return {row["row"]: {name: row[name] for name in (*SCORES, "n") if row[name] is not None} for row in found}


def check_pin(w: Workspace) -> None:
    """RoundError unless the replayed bank is the one that is pinned, as after a checkout of another commit."""
    path = _pinned(w)
    try:
        pinned = json.loads(path.read_text())
        same = (w.stored_bank.name, w.stored_bank.digest()) == (pinned["table"], pinned["digest"])
    except (OSError, CmtError):
        same = False
    if not same:
        raise RoundError(f"the bank in {w.params.bank.uri} is not the one in {path}: run `dvc repro --force replay`")


def _answering(params: Path) -> Workspace:
    """A workspace that is ready to answer, its LM pulled; what the LM says alone is kept, a cache for each setting."""
    w = workspace(params)
    w.pull()
    settings = w.params.digest("seed", "answering", "evaluation"), str(w.lm.model.dtype), w.bank_params
    setting = _sha256(*settings, w.lm.digest, w.model.digest, *(slice_.digest for slice_ in w.store.slices()))
    w.use_prompt_cache(w.state / f"prompts-{setting[:12]}.sqlite")
    for file in w.state.glob("prompts-*"):
        if file != w.prompt_cache.path:
            file.unlink()
    return w


def _trained(params: Path) -> Path:
    """A trained compressor. An interrupted training goes on, under its own settings; a finished one is not repeated."""
    from cmt.training.data import installed_training_data, pull_training_data

    w = workspace(params)
    how = w.params.train
    try:
        data = installed_training_data(source=how.source, path=how.path)
    except StreamError:
        data = pull_training_data(source=how.source, path=how.path)
    w.pull()
    folder = how.output / _training_settings(w, data)[:12]
    if not (folder / "card.md").exists():  # what a training writes last
        workspace(params, {"train.output": str(folder)}).train()
    return folder


def _training_settings(w: Workspace, data: Path) -> str:
    """Digest of all that shapes a trained compressor."""
    from cmt.modeling.checkpoint import CompressorConfig

    train = w.params.train.model_dump(exclude={"enabled", "source", "path", "output"})
    selection = w.params.selection.model_dump(include={"windows", "neighbours"})
    record = [
        CompressorConfig.of(w.params).to_dict(),
        train,
        selection,
        w.params.seed,
        str(w.lm.model.dtype),
        w.lm.digest,
    ]
    return _sha256(json.dumps(record, sort_keys=True), hashlib.sha256(data.read_bytes()).hexdigest())


def _pinned(w: Workspace) -> Path:
    return w.root / "data/replay/bank.json"


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Run the stage that is named, in the folder of `params.yaml`; the exit status."""
    from cmt.cli.output import console, write_line

    if len(arguments) != 1 or arguments[0] not in STAGES:
        write_line(f"usage: python -m cmt.cli.dvc_stages {'|'.join(STAGES)}", stderr=True)
        return 2
    try:
        with ProgressBar(console(stderr=True)) as display:
            STAGES[arguments[0]](Path("params.yaml"), display)
    except CmtError as error:
        write_line(f"error: {error}", style="red", stderr=True)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))


def pin(bank: "Bank", path: Path) -> None:
    """Write table, rows and digest of `bank` to `path`: equal files mean equal banks."""
    record = {"table": bank.name, "rows": bank.count_rows(), "digest": bank.digest()}
    write_json(path, record)
