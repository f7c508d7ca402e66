"""Checkpoints of a training run: the run that they belong to, and the latest complete one."""

import json
import logging
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint

from cmt.common.digests import sha256_hex
from cmt.common.storage import read_json, write_bytes
from cmt.modeling.checkpoint import WEIGHTS, checkpoint_digest
from cmt.modeling.model import MemoryModel
from cmt.training.dataset import StepDataset
from cmt.training.sources import source_name

log = logging.getLogger(__name__)


def run_identity(model: MemoryModel, steps: StepDataset) -> str:
    """SHA-256 of everything that determines the trained weights; runs with equal identities share
    checkpoints.
    """
    ignored = {
        "enabled",
        "source",
        "mix",
        "until",
        "base_fraction",
        "path",
        "output",
        "start",
        "start_weight",
    }
    ignored |= {"save_steps", "compile", "device", "processes"}
    if steps.params.train.decay_steps:  # up to the decay, a longer run has the same rates
        ignored |= {"questions", "decay_steps"}
    train = steps.params.train.model_dump(exclude=ignored)
    mix = [[source_name(source), share] for source, share in steps.params.train.shares.items()]
    start = checkpoint_digest(steps.params.train.start) if steps.params.train.start else None
    pool = [asdict(paragraph) for paragraph in steps.pool]
    windows = steps.params.selection.model_dump(include={"best_windows", "neighbour_windows"})
    identity = [
        start,
        model.lm.digest,
        model.config.to_dict(),
        steps.params.seed,
        train,
        mix,
        windows,
        pool,
    ]
    return sha256_hex(json.dumps(identity, sort_keys=True))


def claim_folder(folder: Path, identity: str) -> None:
    """Create `folder` for the checkpoints of this run; checkpoints of another run are deleted with
    a warning.
    """
    record = folder / "run"
    if record.exists() and record.read_bytes() == identity.encode():
        return
    if record.exists() or any(
        folder.glob("checkpoint-*")
    ):  # a kill may have left checkpoints without a record
        log.warning(
            "the checkpoints in %s belong to another run (its data or parameters differ): "
            "deleting them, starting anew",
            folder,
        )
        shutil.rmtree(folder)
    write_bytes(record, identity.encode())


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint in `folder`, or None; incomplete ones are deleted with a
    warning.
    """
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))):
        checkpoint = Path(newest)
        try:  # the Trainer writes its state last, but a full disk truncates any file
            read_json(checkpoint / "trainer_state.json", dict[str, Any])
            with safe_open(
                checkpoint / WEIGHTS, "pt"
            ):  # compares the header with the length of the file
                pass
            archives = [
                checkpoint / "optimizer.pt",
                checkpoint / "scheduler.pt",
                *checkpoint.glob("rng_state*.pth"),
            ]
            if all(map(zipfile.is_zipfile, archives)):
                return str(newest)
        except (OSError, ValueError, SafetensorError):
            pass
        log.warning(
            "checkpoint %s is incomplete: deleting it, resuming from the one before", newest
        )
        shutil.rmtree(newest)
    return None
