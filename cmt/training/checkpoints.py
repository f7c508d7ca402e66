"""Checkpoints of a training run: which run they belong to, and which one is complete."""

import hashlib
import json
import logging
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint

from cmt.modeling.checkpoint import WEIGHTS, checkpoint_digest
from cmt.modeling.model import MemoryModel
from cmt.training.dataset import StepDataset

log = logging.getLogger(__name__)


def run_identity(model: MemoryModel, steps: StepDataset) -> str:
    """sha256 of all that shapes the weights: two runs with one identity may go on from each other's checkpoints."""
    train = steps.params.train.model_dump(
        exclude={"enabled", "source", "path", "output", "start", "kept", "save_steps"}
    )
    start = checkpoint_digest(steps.params.train.start) if steps.params.train.start else None
    pool = [asdict(item) for item in steps.pool]
    run = [start, model.lm.digest, model.config.to_dict(), steps.params.seed, train, pool]
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


def claim_folder(folder: Path, identity: str) -> None:
    """Make `folder` the place of this run's checkpoints; going on from those of another would not train this one."""
    record = folder / "run"
    if record.exists() and record.read_text() != identity:
        log.warning("the checkpoints in %s are of another run (data or parameters changed): starting anew", folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(identity)


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; one that was cut short by a kill is removed with a warning."""
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        if _is_complete(Path(newest)):
            return str(newest)
        log.warning("checkpoint %s is incomplete: going on from the one before", newest)
        shutil.rmtree(newest)
    return None


def _is_complete(checkpoint: Path) -> bool:
    """Whether all its files are there in full; the Trainer writes its state last, but a full disk cuts any of them."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        with safe_open(checkpoint / WEIGHTS, "pt"):  # compares the header with the file's length
            pass
    except (OSError, ValueError, SafetensorError):
        return False
    return all(zipfile.is_zipfile(checkpoint / name) for name in ("optimizer.pt", "scheduler.pt"))
