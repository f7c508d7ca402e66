"""Tiny trainings: eight paragraphs on fares, a random LM, and a callback that records and may
kill.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from cmt.config import Params
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import WEIGHTS
from cmt.training._step import TrainingStep
from cmt.training.dataset import Paragraph, paragraphs
from cmt.training.trainer import train
from tests.helpers.facts import documents, questions
from tests.helpers.lms import build

PLACES = [
    "Saltby",
    "Port Ellery",
    "the harbour",
    "Lindow",
    "the mere",
    "Dunmarrow",
    "the pier",
    "Corvale",
]
PRICES = [
    "six crowns",
    "two crowns",
    "a crown",
    "ten crowns",
    "nothing",
    "a fish",
    "one song",
    "five crowns",
]
FARES: list[dict[str, Any]] = [
    {
        "doc_id": f"fare-{number}",
        "title": "Fares in the east" if number < 5 else "Fares in the west",
        "text": f"Ask the mayor. The ferry to {place} costs {price} a trip.",
        "question": f"What does the ferry to {place} cost?",
        "answer": price,
    }
    for number, (place, price) in enumerate(zip(PLACES, PRICES, strict=True))
]
SMALL: dict[str, dict[str, Any]] = {
    "lm": {"dtype": "float32"},
    "compressor": {"layers": 2, "lora_rank": 2, "memory_tokens": 3},
    "aggregator": {"blocks": 2, "lora_rank": 2, "heads": 2},
    "alignment": {"slots": 3},
    "train": {
        "questions": 16,
        "paragraphs": 4,
        "questions_per_paragraph": 1,
        "answer_fraction": 1.0,
        "learning_rate": 0.01,
        "warmup_steps": 0,
        "save_steps": 2,
    },
}
SQUAD_ROWS: list[dict[str, Any]] = [
    {
        "id": "1",
        "title": "A_town",
        "context": "Moss leads it.",
        "question": "Who leads?",
        "answers": ["Moss", "Moss"],
    },
    {
        "id": "2",
        "title": "B",
        "context": "It is blue.",
        "question": "What colour?",
        "answers": ["blue"],
    },
    {
        "id": "3",
        "title": "A_town",
        "context": "Moss leads it.",
        "question": "What does Moss do?",
        "answers": ["leads"],
    },
]
PUBLISHED: dict[str, Any] = {"aggregator": {"kind": "attention"}, "alignment": {"kind": "prefix"}}


class Recorder(TrainerCallback):
    """Records every loss, and may kill the process at a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.losses = kill_at, list[float]()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: TrainingStep, **_: Any
    ) -> None:
        model.register_forward_hook(lambda *call: self.losses.append(call[2]["loss"].item()))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def training_params(folder: Path, *, seed: int = 0, **sections: dict[str, Any]) -> Params:
    """SMALL with `sections` over it: four steps into `folder`, a checkpoint every second one."""
    merged = {
        name: SMALL.get(name, {}) | sections.get(name, {})
        for name in SMALL.keys() | sections.keys()
    }
    merged["train"] = merged["train"] | {"output": folder}
    return Params.model_validate(merged | {"seed": seed})


def run_training(
    folder: Path, *, lm: FrozenLM | None = None, kill_at: int | None = None, **sections: Any
) -> Recorder:
    """Train on FARES into `folder`, or resume."""
    recorder = Recorder(kill_at)
    train(
        lm=lm or build("llama"),
        documents=documents(FARES),
        questions=questions(FARES),
        params=training_params(folder, **sections),
        callbacks=[recorder],
    )
    return recorder


def checkpoint_weights(folder: Path, step: int = 4) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(
        folder / "checkpoints" / f"checkpoint-{step}" / WEIGHTS
    )
    return weights


def truncate(path: Path) -> None:
    """Cut a file to half of its length."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def paragraph_pool(
    lm: FrozenLM, rows: list[dict[str, Any]], *, longest: int = 256
) -> list[Paragraph]:
    """`rows` as paragraphs to train on."""
    return paragraphs(documents(rows), questions(rows), lm=lm, longest=longest)


def titled_documents(titles: list[str | None]) -> pa.Table:
    """A document for each title."""
    return documents(
        [{"doc_id": f"d{n}", "title": title, "text": "Text."} for n, title in enumerate(titles)]
    )


def squad(rows: list[dict[str, Any]]) -> bytes:
    """Rows like SQUAD_ROWS in SQuAD's layout, a paragraph with a question each; the first answer
    alone.
    """
    data = []
    for row in rows:
        answers = [{"text": text} for text in row["answers"][:1]]
        question = {"id": row["id"], "question": row["question"], "answers": answers}
        data.append(
            {"title": row["title"], "paragraphs": [{"context": row["context"], "qas": [question]}]}
        )
    return json.dumps({"data": data}).encode()


def write_squad(file: Path, texts: dict[str, str]) -> Path:
    """Write documents (title → text), each with a question that its first word answers, in SQuAD's
    layout.
    """
    question = {"question": "Who?"}
    file.write_bytes(
        squad(
            [
                question
                | {"id": title, "title": title, "context": text, "answers": [text.split()[0]]}
                for title, text in texts.items()
            ]
        )
    )
    return file


def fail_in_process() -> None:
    """A process of a training that fails."""
    raise ModelError("the LM is gone")
