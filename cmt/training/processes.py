"""Training on the devices of one machine, in this process or in several, each on a GPU or on a part
of the cores.

The steps of an update (`train.steps_per_update`) are distributed over the processes, and
DistributedDataParallel averages their gradients, so the number of processes changes the time and,
except for rounding, nothing else. The processes meet through a file and communicate over the
loopback interface only.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessException, spawn
from transformers import TrainerCallback

from cmt.common.storage import read_json, write_json
from cmt.config import Params, TrainParams
from cmt.errors import CmtError, ModelError
from cmt.lm.installed import installed
from cmt.lm.model import FrozenLM
from cmt.training import trainer
from cmt.training.plan import TrainingPlan, measure_plan

_ERROR = "error.txt"


def train_on_devices(
    *,
    lm: FrozenLM,
    documents: pa.Table,
    questions: pa.Table,
    params: Params,
    callbacks: Callable[[], list[TrainerCallback]],
) -> None:
    """Train in this process, or in the processes and on the devices that the section `train` of
    `params` names.

    `lm` is used where it is on the device already. `callbacks` is called in each process, so it has
    to be importable. Raises StreamError and ModelError as `trainer.train`, and ModelError if the
    machine lacks a device.
    """
    _on_devices(partial(_train, callbacks), lm, documents, questions, params)


def plan_on_devices(
    *, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params
) -> TrainingPlan:
    """`measure_plan` where `train_on_devices` would train. Raises as that."""
    with TemporaryDirectory() as name:
        file = Path(name) / "plan.json"
        _on_devices(partial(_write_plan, file), lm, documents, questions, params)
        return TrainingPlan(**read_json(file, dict[str, Any]))


def _train(callbacks: Callable[[], list[TrainerCallback]], **arguments: Any) -> None:
    trainer.train(callbacks=callbacks(), **arguments)


def _write_plan(file: Path, **arguments: Any) -> None:
    plan = measure_plan(**arguments)
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        write_json(file, asdict(plan))


def _on_devices(
    function: Callable[..., None],
    lm: FrozenLM | None,
    documents: pa.Table,
    questions: pa.Table,
    params: Params,
) -> None:
    """Call `function` in this process, or in others, in each of which this function runs again
    without `lm`.
    """
    if needs_own_process(params.train):
        run_in_processes(
            _on_devices, function, None, documents, questions, params, train=params.train
        )
        return
    device = training_device(params.train)
    if lm is None or lm.device != device:
        folder = installed(source=params.lm.source, path=params.lm.path)
        lm = FrozenLM.load(folder, dtype=params.lm.dtype, device=device)
    function(lm=lm, documents=documents, questions=questions, params=params)


def training_device(train: TrainParams, rank: int | None = None) -> torch.device:
    """The device that `train.device` names for the process `rank` (None: this one). Raises
    ModelError without it.
    """
    gpus = torch.cuda.device_count()
    if rank is None:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
    if train.device == "cpu" or (train.device == "auto" and not gpus):
        return torch.device("cpu")
    index = train.device.partition(":")[2]
    number = int(index or rank)
    if number >= gpus:
        missing = (
            f"train.device: {train.device}"
            if index or not rank
            else f"train.processes: {train.processes}"
        )
        raise ModelError(
            f"{missing} needs {number + 1} GPUs, this machine has {gpus}: name an existing device"
        )
    return torch.device("cuda", number)


def needs_own_process(train: TrainParams) -> bool:
    """Whether the training cannot run in this process: it needs several, or one that sees a single
    GPU.
    """
    # in a process that sees several GPUs, transformers' Trainer would split each step over all of
    # them
    on_gpu = train.device != "cpu" and torch.cuda.device_count() > 1
    return not distributed.is_initialized() and (train.processes > 1 or on_gpu)


def run_in_processes(function: Callable[..., object], *args: object, train: TrainParams) -> None:
    """Call the importable `function` with `args` in `train.processes` processes, and wait for all.

    If one process fails, the others are ended. Raises ModelError with its reason, or if the machine
    has too few GPUs.
    """
    for rank in range(train.processes):
        training_device(train, rank)
    threads = max(1, torch.get_num_threads() // train.processes)
    with TemporaryDirectory() as name:
        try:
            spawn(_run, (function, args, train, threads, Path(name)), nprocs=train.processes)  # type: ignore[no-untyped-call]
        except ProcessException as error:
            reason = Path(name) / _ERROR
            text = (
                reason.read_text(encoding="utf-8")
                if reason.exists()
                else str(error).strip().splitlines()[-1]
            )
            raise ModelError(f"a process of the training failed: {text}") from error


def _run(
    rank: int,
    function: Callable[..., object],
    args: tuple[object, ...],
    train: TrainParams,
    threads: int,
    folder: Path,
) -> None:
    """One process: join the group, call the function, leave the group."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    device = training_device(train, rank)
    on_gpu = device.type == "cuda"
    local_rank = device.index if on_gpu else rank  # accelerate takes the GPU of this number
    size = str(train.processes)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
    }
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }
    torch.set_num_threads(threads)
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=train.processes,
        )
        function(*args)
        distributed.destroy_process_group()
    except CmtError as error:
        (folder / _ERROR).write_text(str(error), encoding="utf-8")
        raise
