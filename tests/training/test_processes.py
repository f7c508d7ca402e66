"""Training in several processes: the same losses and weights as in one, and errors that reach the
caller.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from cmt.config import Params, TrainParams
from cmt.errors import ConfigError, ModelError
from cmt.lm.installed import installed
from cmt.lm.model import FrozenLM
from cmt.training.processes import (
    needs_own_process,
    run_in_processes,
    train_on_devices,
    training_device,
)
from tests.helpers.facts import documents, questions
from tests.helpers.processes import CONTEXT
from tests.helpers.training import FARES, checkpoint_weights, fail_in_process, training_params


def test_two_processes_train_as_one_does(
    tiny_parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as `spawn` does, but without the imports
    forked = partial(start_processes, start_method=CONTEXT.get_start_method())
    monkeypatch.setattr("cmt.training.processes.spawn", forked)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    together = {"steps_per_update": 2, "questions": 48, "learning_rate": 0.001}
    for folder, processes in ((alone, 1), (shared, 2)):
        params = training_params(
            folder, lm=tiny_parts["lm"], train=together | {"processes": processes}
        )
        lm = FrozenLM.load(installed(source=params.lm.source, path=params.lm.path), dtype="float32")
        train_on_devices(
            lm=lm,
            documents=documents(FARES),
            questions=questions(FARES),
            params=params,
            callbacks=list,
        )
    # 1. the losses, logged as means over all processes
    curves = [
        [
            entry["loss"]
            for entry in json.loads((folder / "log.json").read_text())
            if "loss" in entry
        ]
        for folder in (alone, shared)
    ]
    assert len(curves[0]) == 1
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    # 2. the weights
    one, other = (checkpoint_weights(folder, 6) for folder in (alone, shared))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-6)


def test_an_error_of_a_process_reaches_the_caller() -> None:
    with pytest.raises(ModelError, match="a process of the training failed: the LM is gone"):
        run_in_processes(fail_in_process, train=TrainParams())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"processes": 2}, "1 steps cannot be shared evenly by 2 processes"),
        ({"processes": 2, "steps_per_update": 3}, "3 steps cannot be shared evenly"),
        ({"processes": 2, "steps_per_update": 2, "device": "cuda:1"}, "for 2 processes write cuda"),
        ({"device": "tpu"}, "pattern"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=reason):
        TrainParams.model_validate(values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    params: Params = training_params(tmp_path)
    assert training_device(params.train) == torch.device("cpu")
    assert not needs_own_process(params.train)
    with pytest.raises(ModelError, match=r"train\.device: cuda:1 needs 2 GPUs, this machine has 0"):
        training_device(TrainParams(device="cuda:1"))
    too_many = TrainParams(device="cuda", processes=2, steps_per_update=2)
    with pytest.raises(ModelError, match=r"train\.device: cuda needs 1 GPUs, this machine has 0"):
        run_in_processes(fail_in_process, train=too_many)
