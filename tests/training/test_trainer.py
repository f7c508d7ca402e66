"""Training as a whole: it learns, resumes after a kill, and leaves the LM as it was."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cmt.errors import ModelError, StreamError
from cmt.lm.model import weights_digest
from cmt.modeling.checkpoint import TO_KEY, WEIGHTS, load_checkpoint, save_checkpoint
from cmt.modeling.loading import load_memory_model, new_memory_model
from cmt.training.trainer import _check_compiler, train, training_attention
from tests.helpers.damage import file_size_limit
from tests.helpers.facts import documents, questions
from tests.helpers.lms import build
from tests.helpers.processes import exit_code
from tests.helpers.training import (
    FARES,
    PUBLISHED,
    Recorder,
    checkpoint_weights,
    run_training,
    training_params,
)


@pytest.mark.parametrize(
    "sections",
    [{}, PUBLISHED | {"compressor": {"kind": "tokens"}}],
    ids=["windows", "published tokens"],
)
def test_a_few_steps_reduce_the_loss_and_leave_the_lm_unchanged(
    tmp_path: Path, sections: dict[str, Any]
) -> None:
    lm = build("llama")
    losses = run_training(
        tmp_path, lm=lm, train={"questions": 160, "save_steps": 1000}, **sections
    ).losses
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert weights_digest(lm.model) == lm.digest
    model = load_memory_model(tmp_path, lm=lm)
    trained, untrained = (
        model.trained_tensors(),
        new_memory_model(lm, model.config).trained_tensors(),
    )
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())
    assert [name for name, tensor in trained.items() if torch.equal(tensor, untrained[name])] == []


def test_a_killed_training_resumes_as_if_it_had_not_been_killed(
    finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    assert exit_code(run_training, tmp_path, kill_at=3) == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob("**/checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / WEIGHTS).exists()
    folder, recorder = finished
    assert run_training(tmp_path).losses == pytest.approx(recorder.losses[2:], rel=1e-5)
    resumed, undisturbed = checkpoint_weights(tmp_path), checkpoint_weights(folder)
    assert resumed.keys() == undisturbed.keys()
    for name, tensor in resumed.items():
        torch.testing.assert_close(tensor, undisturbed[name], rtol=1e-5, atol=1e-7)
    assert not torch.equal(
        resumed["log_temperature"], checkpoint_weights(tmp_path, 2)["log_temperature"]
    )


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_an_error_with_advice(
    finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    weights = finished[0] / "checkpoints/checkpoint-2" / WEIGHTS
    reason = "could not be written .*: free space and run `cmt train` again"
    # the state of the optimizer is twice as large
    with file_size_limit(weights.stat().st_size), pytest.raises(ModelError, match=reason):
        run_training(tmp_path)
    for steps in (4, 0):  # a finished training runs no further one
        assert len(run_training(tmp_path).losses) == steps
        assert (tmp_path / WEIGHTS).read_bytes() == (finished[0] / WEIGHTS).read_bytes()


def test_a_training_can_start_from_a_compressor_with_another_psi(
    finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    start, train = finished[0], {"learning_rate": 1e-9, "start_weight": 0.0}
    run_training(tmp_path / "prefix", aggregator={"kind": "none"}, train=train | {"start": start})
    run_training(tmp_path / "new reader", train=train | {"start": tmp_path / "prefix"})
    folders = start, tmp_path / "prefix", tmp_path / "new reader"
    reader, prefix, new_reader = (load_file(folder / WEIGHTS) for folder in folders)
    assert {name for name in reader if not name.startswith("aggregator.")} == prefix.keys()
    assert new_reader.keys() == reader.keys()
    for after in (prefix, {name: new_reader[name] for name in prefix}):
        torch.testing.assert_close(
            after, {name: reader[name] for name in prefix}, rtol=1e-2, atol=1e-6
        )
    with pytest.raises(ModelError, match="no compressor"):
        run_training(tmp_path / "none", train={"start": tmp_path / "nowhere"})


def test_a_training_that_starts_from_a_compressor_keeps_its_windows_and_the_length_of_its_keys(
    finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(finished[0])
    config = replace(checkpoint.config, key_dim=5, windows=(1, 4))
    weights = {TO_KEY: checkpoint.weights[TO_KEY][:5]}
    save_checkpoint(
        tmp_path / "short", checkpoint._replace(config=config, weights=checkpoint.weights | weights)
    )
    run_training(tmp_path / "second", train={"start": tmp_path / "short"})
    run_training(
        tmp_path / "third", train={"start": tmp_path / "short", "window_frequencies": {4: 1.0}}
    )
    second, third = (load_checkpoint(tmp_path / name) for name in ("second", "third"))
    assert (second.config.windows, third.config.windows) == ((1, 4), (4,))
    assert second.config.key_dim == len(second.weights[TO_KEY]) == 5


def test_a_training_that_starts_from_a_compressor_ends_as_the_mean_of_both(
    finished: tuple[Path, Recorder], tmp_path: Path
) -> None:
    by_share = {}
    for share in (0.0, 0.5, 1.0):  # trained once: the share is no part of the run's identity
        run_training(tmp_path / "second", train={"start": finished[0], "start_weight": share})
        by_share[share] = load_file(tmp_path / "second" / WEIGHTS)
    first = load_file(finished[0] / WEIGHTS)
    assert all(torch.equal(by_share[1.0][name], tensor) for name, tensor in first.items())
    assert any(not torch.equal(by_share[0.0][name], tensor) for name, tensor in first.items())
    for name, tensor in by_share[0.5].items():
        mean = (by_share[0.0][name] + first[name].float()) / 2
        torch.testing.assert_close(tensor.float(), mean, rtol=1e-2, atol=1e-3)


def test_a_prefix_alone_learns_from_whole_texts_by_the_answer_likelihood_alone(
    tmp_path: Path,
) -> None:
    answer_alone = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "uniformity_weight": 0.0}
    sections: dict[str, Any] = {"aggregator": {"kind": "none"}, "objective": answer_alone}
    losses = run_training(
        tmp_path, **sections, train={"questions": 160, "learning_rate": 0.05}
    ).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    weights = load_file(tmp_path / WEIGHTS)
    assert not any(name.startswith("aggregator") for name in weights)
    assert weights["alignment.slots"].any()


def test_without_a_usable_question_nothing_is_written_and_the_attention_of_the_lm_is_reset(
    tmp_path: Path,
) -> None:
    lm, rows = build("llama"), [row | {"answer": "free of charge"} for row in FARES]
    lm.model.set_attn_implementation("sdpa")
    params = training_params(tmp_path / "trained")
    with pytest.raises(
        StreamError,
        match="no question has its answer verbatim in its document: nothing to train on",
    ):
        train(lm=lm, documents=documents(rows), questions=questions(rows), params=params)
    assert not (tmp_path / "trained").exists()
    assert lm.model.config._attn_implementation == "sdpa"
    with training_attention(lm):
        expected = "sdpa" if torch.cuda.is_available() else "eager"
        assert lm.model.config._attn_implementation == expected
    assert lm.model.config._attn_implementation == "sdpa"


def test_a_constant_rate_falls_over_the_last_steps_and_the_log_has_every_part_of_the_loss(
    tmp_path: Path,
) -> None:
    train_section = {"questions": 120, "warmup_steps": 4, "decay_steps": 16, "save_steps": 1000}
    run_training(tmp_path, train=train_section)
    history = json.loads((tmp_path / "log.json").read_text())
    rates = {entry["step"]: entry["learning_rate"] for entry in history if "learning_rate" in entry}
    names = {name for entry in history for name in entry}
    assert {"loss", "matching", "span", "answer", "recall_at_1"} <= names
    constant, end = [rates[step] for step in (5, 10)], [rates[step] for step in (20, 25, 30)]
    assert constant == pytest.approx([constant[0]] * 2)
    assert end == sorted(end, reverse=True) and 0 < end[-1] < 0.1 * constant[0]


def test_a_training_with_a_decay_can_be_made_longer(tmp_path: Path) -> None:
    train_section = {"decay_steps": 1, "save_steps": 2}
    run_training(tmp_path / "short", train=train_section)
    shutil.rmtree(tmp_path / "short/checkpoints/checkpoint-4")  # it is of the decay
    assert (
        len(run_training(tmp_path / "short", train=train_section | {"questions": 24}).losses) == 4
    )


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning"
)  # torch hides it, errors get through
def test_compiled_layers_have_the_same_losses_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_module, calls = torch.nn.Module.compile, list[int]()

    def backend(graph: Any, _: Any) -> Any:
        """Runs a traced layer as it is: generating code for it takes a minute."""

        def call(*tensors: Any) -> Any:
            calls.append(1)
            return graph.forward(*tensors)

        return call

    def compile_with_backend(module: Any, **options: Any) -> None:
        compile_module(module, backend=backend, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with_backend)
    monkeypatch.setattr("cmt.training.trainer._check_compiler", lambda device: None)
    eager = run_training(tmp_path / "eager", train={"questions": 20})
    compiled = run_training(tmp_path / "compiled", train={"questions": 20, "compile": True})
    assert compiled.losses == pytest.approx(eager.losses, rel=1e-4)
    assert (
        len(calls) >= 5 * 4
    )  # five steps, the last of them logged; two layers of Θ and one of ψ, some called twice
    names = [load_file(tmp_path / name / WEIGHTS).keys() for name in ("eager", "compiled")]
    assert names[0] == names[1]


def test_where_torch_cannot_compile_the_error_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(function: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(
        ModelError,
        match=r"cannot compile on this machine \(No working C\+\+ compiler found\): install",
    ):
        _check_compiler(torch.device("cpu"))
