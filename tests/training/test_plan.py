"""The plan of a training: which steps it runs, and what it says of the whole run."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.errors import ModelError
from cmt.lm.model import FrozenLM, weights_digest
from cmt.training.dataset import StepDataset
from cmt.training.plan import TIMED_STEPS, Stopwatch, TrainingPlan, choose_steps, measure_plan
from cmt.training.trainer import train
from tests.helpers.facts import documents, questions
from tests.helpers.lms import build
from tests.helpers.training import FARES, Recorder, paragraph_pool, run_training, training_params


def plan(folder: Path, lm: FrozenLM | None = None, **sections: Any) -> TrainingPlan:
    """The plan of a training on FARES, in which a step takes a second."""
    seconds: Iterator[int] = count()
    return measure_plan(
        lm=lm or build("llama"),
        documents=documents(FARES),
        questions=questions(FARES),
        params=training_params(folder, **sections),
        clock=lambda: next(seconds),
    )


def test_the_plan_says_what_the_training_takes_and_writes_nothing(
    finished: tuple[Path, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    lm = build("llama")
    before = lm.model.config._attn_implementation
    measured = plan(tmp_path / "trained", lm)
    # 1. rate and size
    assert (measured.pairs, measured.seconds) == (4 * TIMED_STEPS, TIMED_STEPS)  # four pairs a step
    assert measured.pairs_per_hour == 4 * 3600
    curve = measured.curve()
    assert [hours for _, hours, _ in curve] == pytest.approx(
        [pairs / 14_400 for pairs, _, _ in curve]
    )
    known = {pairs: f1 for pairs, _, f1 in curve}
    assert (known[20_000], known[24_000], known[100_000]) == (None, 60.9, None)
    assert list(known) == sorted(known)
    written = [
        finished[0] / name for name in ("compressor.safetensors", "config.json", "SHA256SUMS")
    ]
    assert measured.compressor_bytes == sum(file.stat().st_size for file in written)
    # 2. memory
    if measured.peak_bytes is not None:
        assert measured.peak_bytes > 100e6  # torch alone
    assert (measured.device_peak_bytes is None) == (not torch.cuda.is_available())
    # 3. nothing is left
    assert list(tmp_path.rglob("*")) == [tmp_path / "scratch"]
    assert lm.model.config._attn_implementation == before
    assert weights_digest(lm.model) == lm.digest


def test_the_largest_step_of_each_window_and_steps_of_all_sizes_are_run(tmp_path: Path) -> None:
    rows = [
        fare | {"text": fare["text"] + " It rains." * number} for number, fare in enumerate(FARES)
    ]
    section = {"questions": 200, "paragraphs": 2, "window_frequencies": {1: 1.0, 4: 3.0, 8: 1.0}}
    steps = StepDataset(
        paragraph_pool(build("llama"), rows), training_params(tmp_path, train=section)
    )
    largest, typical = choose_steps(steps)
    assert len(typical) == len(set(typical)) == TIMED_STEPS
    tokens = {index: sum(map(len, steps[index]["documents"])) for index in range(len(steps))}
    for index in largest[1:]:
        of_window = [other for other in tokens if steps[other]["window"] == steps[index]["window"]]
        assert tokens[index] >= 0.95 * max(tokens[other] for other in of_window)
    assert sorted(steps[index]["window"] for index in largest[1:]) == [1, 4, 8]
    mean = sum(tokens.values()) / len(tokens)
    assert sum(tokens[index] for index in typical) / TIMED_STEPS == pytest.approx(mean, rel=0.15)


def test_a_run_of_one_update_is_planned_by_repeating_it_and_each_process_counts_its_own_pairs(
    tmp_path: Path,
) -> None:
    plans = [
        plan(tmp_path, train={"questions": 4 * n, "steps_per_update": n, "processes": n})
        for n in (1, 2)
    ]
    assert [(made.processes, made.pairs) for made in plans] == [
        (1, 4 * TIMED_STEPS),
        (2, 8 * TIMED_STEPS),
    ]


def test_the_rate_is_that_of_the_training(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"documents": documents(FARES), "questions": questions(FARES)}
    params = training_params(tmp_path, train={"questions": 64, "save_steps": 1000})
    work = 0  # a clock of computed numbers: steps of 0.2 s on a busy machine vary by half

    def count_numbers(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal work
        work += output.numel() if isinstance(output, torch.Tensor) else 0

    watch = Stopwatch(lambda: work)
    handle = torch.nn.modules.module.register_module_forward_hook(count_numbers)
    try:
        measured = measure_plan(lm=build("llama"), params=params, clock=watch.clock, **arguments)
        train(lm=build("llama"), params=params, callbacks=[watch], **arguments)
    finally:
        handle.remove()
    mean = sum(watch.seconds) / len(watch.seconds)
    assert measured.pairs_per_hour == pytest.approx(3600 * 4 / mean, rel=0.2)


def allocate_too_much() -> None:
    torch.empty(2**62, dtype=torch.uint8)


def fail_on_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fail_in_python() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("fail", "run"),
    [(allocate_too_much, run_training), (fail_on_gpu, plan), (fail_in_python, run_training)],
)
def test_a_failed_allocation_names_the_keys_that_save_memory(
    fail: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: fail())
    with pytest.raises(ModelError) as caught:
        run(tmp_path / "trained")
    message = str(caught.value)
    assert message.startswith("out of memory on ") and "\n" not in message
    assert (
        "research.train.paragraphs (4), research.train.questions_per_paragraph (1), "
        "research.train.answer_fraction (1)" in message
    )


def test_another_error_of_a_training_is_not_taken_for_one_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run_training(tmp_path)
