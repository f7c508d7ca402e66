"""The plan of a training: a few of its steps, run with the same Trainer, say what the whole run
takes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import torch
from torch.utils.data import Subset
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from cmt.common.peak_memory import peak_memory
from cmt.config import Params
from cmt.lm.model import FrozenLM
from cmt.training.dataset import StepDataset
from cmt.training.trainer import explain_out_of_memory, make_trainer, prepare, training_attention

# question-answer pairs of a training → F1 of SmolLM2-135M (docs/experiments.md#learning-curve)
LEARNING_CURVE = {3_500: 30.9, 12_000: 52.7, 24_000: 60.9, 45_300: 64.3, 122_400: 75.2}
PLANNED_PAIRS = (20_000, 100_000)
TIMED_STEPS = 6


@dataclass(frozen=True)
class TrainingPlan:
    """What a training takes, as measured on some of its steps."""

    device: str
    processes: int
    # peak resident memory of a process, with libraries and LM; None except on Linux
    peak_bytes: int | None
    # peak memory that torch allocated on the accelerator; None without one
    device_peak_bytes: int | None
    pairs: int  # question-answer pairs of the timed steps
    seconds: float  # wall-clock time of the timed steps
    compressor_bytes: int  # size of the trained compressor's folder, without codebook and card

    @property
    def pairs_per_hour(self) -> float:
        return 3600 * self.pairs / self.seconds

    def curve(self) -> list[tuple[int, float, float | None]]:
        """(pairs, hours, F1 of LEARNING_CURVE) for its pairs and PLANNED_PAIRS, in ascending
        order.
        """
        pairs = sorted({*LEARNING_CURVE, *PLANNED_PAIRS})
        return [(count, count / self.pairs_per_hour, LEARNING_CURVE.get(count)) for count in pairs]


class Stopwatch(TrainerCallback):  # type: ignore[misc] # transformers is not followed
    """The seconds of each update."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds, self.start = clock, list[float](), 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = self._now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(self._now() - self.start)

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self.clock()


def measure_plan(
    *,
    lm: FrozenLM,
    documents: pa.Table,
    questions: pa.Table,
    params: Params,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingPlan:
    """Run the largest and some typical steps, an update after each, in each process. Raises as
    `trainer.train`.
    """
    processes, watch = params.train.processes, Stopwatch(clock)
    with (
        TemporaryDirectory() as name,
        training_attention(lm),
        explain_out_of_memory(params, lm.device),
        peak_memory() as peak,
    ):
        # 1. the model and its steps
        model, _, steps = prepare(lm=lm, documents=documents, questions=questions, params=params)
        largest, typical = choose_steps(steps)
        chosen = [*largest, *typical]
        # 2. run them
        trainer = make_trainer(
            model,
            Subset(steps, [index for index in chosen for _ in range(processes)]),
            steps.params.with_values(train={"steps_per_update": processes}),
            folder=Path(name),
            callbacks=[watch],
        )
        trainer.args.save_strategy = SaveStrategy.NO
        trainer.train()
        # 3. the size of the result
        model.save(Path(name) / "compressor")
        size = sum(file.stat().st_size for file in (Path(name) / "compressor").iterdir())
    return TrainingPlan(
        device=f"{lm.device}, {str(lm.model.dtype).removeprefix('torch.')}",
        processes=processes,
        peak_bytes=peak.resident,
        device_peak_bytes=peak.device,
        pairs=processes
        * sum(bool(question.answer) for index in typical for question in steps[index]["questions"]),
        seconds=sum(watch.seconds[len(largest) :]),
        compressor_bytes=size,
    )


def choose_steps(steps: StepDataset) -> tuple[list[int], list[int]]:
    """Indices of a warm-up step and the largest step of each window, and of TIMED_STEPS steps of
    all sizes.
    """
    items = [steps[index] for index in range(len(steps))]
    order = sorted(range(len(items)), key=lambda index: _positions_read(items[index]))
    largest = {
        items[index]["window"]: index for index in order
    }  # the last one of a window is its largest
    typical = [
        order[(2 * number + 1) * len(order) // (2 * TIMED_STEPS)] for number in range(TIMED_STEPS)
    ]
    return [typical[0], *largest.values()], typical


def _positions_read(item: dict[str, Any]) -> float:
    """Positions that Θ and ψ read in a step, without the negatives."""
    lengths = [len(tokens) for tokens in item["documents"]]
    asked = [
        len(question.question) + lengths[question.document] / item["window"]
        for question in item["questions"]
    ]
    return float(sum(lengths) + sum(asked))
