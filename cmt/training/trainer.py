"""Training of Θ, ψ and π with transformers' Trainer; the LM stays frozen."""

import logging
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from cmt.common.storage import write_bytes, write_json
from cmt.config import Params, dotted
from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import WEIGHTS, CompressorConfig, load_checkpoint, weights_bytes
from cmt.modeling.loading import load_memory_model, new_memory_model
from cmt.modeling.lora import cast_lora_inputs
from cmt.modeling.model import MemoryModel
from cmt.text.display import first_line
from cmt.training._checkpoints import claim_folder, last_checkpoint, run_identity
from cmt.training.augmentation import add_changed_values
from cmt.training.dataset import StepDataset, paragraphs
from cmt.training.entity_swaps import entity_swaps
from cmt.training.published import new_step

log = logging.getLogger(__name__)


def train(
    *,
    lm: FrozenLM,
    documents: pa.Table,
    questions: pa.Table,
    params: Params,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train a compressor on `documents` and `questions`, or resume from the last checkpoint in
    `train.output`.

    Returns the folder of the trained compressor, with the losses in `log.json`. A training that
    starts from another compressor (`train.start`) ends as the mean of both (`train.start_weight`).
    Checkpoints are in the subfolder `checkpoints`; another run (other data, seed or parameters)
    deletes them with a warning.

    Raises StreamError if there is nothing to train on, ModelError if `train.start` cannot be
    loaded, or if `train.compile` is set and torch cannot compile here.
    """
    output = params.train.output
    with training_attention(lm), explain_out_of_memory(params, lm.device):
        # 1. the model and its steps
        model, start_weights, steps = prepare(
            lm=lm, documents=documents, questions=questions, params=params
        )
        # 2. train, or resume
        trainer = make_trainer(
            model, steps, steps.params, folder=output / "checkpoints", callbacks=callbacks
        )
        with trainer.args.main_process_first():
            claim_folder(output / "checkpoints", run_identity(model, steps))
            checkpoint = last_checkpoint(output / "checkpoints")
        if checkpoint:
            log.info("continuing the training from %s", checkpoint)
        trainer.train(resume_from_checkpoint=checkpoint)
    # 3. the first process saves the mean of the trained weights and the weights of `train.start`
    if trainer.is_world_process_zero():
        share, trained = params.train.start_weight, model.trained_tensors()
        if start_weights:
            model.load_tensors(
                {name: tensor.lerp(start_weights[name], share) for name, tensor in trained.items()}
            )
        model.save(output)
        write_json(output / "log.json", trainer.state.log_history, indent=1)
    return output


def prepare(
    *, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params
) -> tuple[MemoryModel, dict[str, torch.Tensor], StepDataset]:
    """The model to train, the weights of `train.start` in it, and all steps of the run. Raises as
    `train`.
    """
    # 1. the settings
    if params.train.compile:
        _check_compiler(lm.device)
    if (
        params.train.start and not params.train.window_frequencies
    ):  # the windows of `start`, equally often
        frequencies = dict.fromkeys(load_checkpoint(params.train.start).config.windows, 1.0)
        params = params.with_values(train={"window_frequencies": frequencies})
    torch.manual_seed(params.seed)
    # 2. the model
    model, start_weights = _untrained_model(lm, params)
    if not _autocasts(model, params):
        cast_lora_inputs(model)
    if (
        params.train.compile
    ):  # each layer of Θ and ψ in place, once for all widths; tensor names do not change
        for part in filter(None, (model.compressor, model.aggregator)):
            layers = next(
                module for module in part.modules() if isinstance(module, torch.nn.ModuleList)
            )
            for layer in layers:
                layer.compile(dynamic=True)
    # 3. the steps
    augmented = add_changed_values(documents, questions, seed=params.seed)
    if params.train.unanswerable_per_paragraph:
        questions = pa.concat_tables(
            [questions, entity_swaps(documents, questions, seed=params.seed)]
        )
    pool = paragraphs(augmented, questions, lm=lm, longest=params.compressor.chunk_tokens)
    return model, start_weights, StepDataset(pool, params)


def make_trainer(
    model: MemoryModel,
    steps: Sized,
    params: Params,
    *,
    folder: Path,
    callbacks: Sequence[TrainerCallback],
) -> "CompressorTrainer":
    """A Trainer of `model` on `steps`, with its checkpoints in `folder`."""
    bf16, device = _autocasts(model, params), model.lm.device
    return CompressorTrainer(
        model=new_step(model, params),
        args=_training_arguments(folder, len(steps), params, bf16=bf16, device=device),
        train_dataset=steps,
        data_collator=lambda items: items[0],  # an item is a whole step
        optimizers=(adamw(model, params.train.learning_rate), None),
        callbacks=list(callbacks),
    )


def adamw(model: MemoryModel, rate: float) -> torch.optim.AdamW:
    """AdamW with half the learning rate for the LoRA adapters, its first group."""
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    adapters = {"params": [tensor for name, tensor in trained if "lora_" in name], "lr": rate / 2}
    others = {"params": [tensor for name, tensor in trained if "lora_" not in name], "lr": rate}
    return torch.optim.AdamW([adapters, others], lr=rate, betas=(0.9, 0.98), weight_decay=0.01)


def _autocasts(model: MemoryModel, params: Params) -> bool:
    return params.train.bf16 and model.lm.model.dtype == torch.bfloat16


def _untrained_model(lm: FrozenLM, params: Params) -> tuple[MemoryModel, dict[str, torch.Tensor]]:
    """The model to train, and the weights of `train.start` in it; no weights if it starts from a
    random state.
    """
    design = CompressorConfig.of(params)
    if not params.train.start:
        return new_memory_model(lm, design).train(), {}
    start = load_memory_model(params.train.start, lm=lm, window=design.compressor.window)
    model = new_memory_model(lm, replace(design, key_dim=start.config.key_dim)).train()
    weights = start.trained_tensors()
    if (
        start.config.aggregator.kind != design.aggregator.kind
    ):  # the weights of ψ are the random ones
        psi = "aggregator."
        random = {
            name: tensor.clone()
            for name, tensor in model.trained_tensors().items()
            if name.startswith(psi)
        }
        weights = {
            name: tensor for name, tensor in weights.items() if not name.startswith(psi)
        } | random
    model.load_tensors(weights)
    return model, weights


@contextmanager
def training_attention(lm: FrozenLM) -> Iterator[None]:
    """Eager attention of the shared LM during training on a CPU; always reset afterwards."""
    previous = lm.model.config._attn_implementation
    # up to 1.7 × faster than sdpa for passes forward and backward over short sequences; for
    # answering, sdpa is faster
    if lm.device.type == "cpu":
        lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(previous)


@contextmanager
def explain_out_of_memory(params: Params, device: torch.device) -> Iterator[None]:
    """Turn a failed allocation of a training into a ModelError that names the keys which save
    memory.
    """
    try:
        yield
    except (
        MemoryError,
        RuntimeError,
    ) as error:  # torch.OutOfMemoryError is a RuntimeError; on a CPU torch has no own
        if not isinstance(
            error, MemoryError | torch.OutOfMemoryError
        ) and "DefaultCPUAllocator" not in str(error):
            raise
        names = ["paragraphs", "questions_per_paragraph", "answer_fraction"]
        names += ["processes"] if params.train.processes > 1 else []
        keys = [f"{dotted('train', name)} ({getattr(params.train, name):g})" for name in names]
        raise ModelError(
            f"out of memory on {device}: lower {', '.join(keys)} or"
            f" {dotted('compressor', 'chunk_tokens')} ({params.compressor.chunk_tokens}); `cmt"
            " train --plan` measures the peak"
        ) from error


class CompressorTrainer(Trainer):  # type: ignore[misc] # transformers is not followed
    """A Trainer with checkpoints of the trained tensors only and with the steps in the order of the
    dataset.
    """

    last_logs: dict[str, float] = {}  # parts of the loss of the latest step

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:  # one of several processes saves
            return
        folder = Path(output_dir or self.args.output_dir)
        write_bytes(folder / WEIGHTS, weights_bytes(self.model.model.trained_tensors()))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except RuntimeError as error:  # torch.save raises no OSError
            raise ModelError(
                f"the checkpoint in {self.args.output_dir} could not be written "
                f"({first_line(error)}): free space and "
                "run `cmt train` again, which continues from the checkpoint before"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.model.load_tensors(load_file(Path(resume_from_checkpoint) / WEIGHTS))

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **_options: Any) -> Any:
        outputs = model(**inputs)
        self.last_logs = {name: round(value.item(), 4) for name, value in outputs["logs"].items()}
        return outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log(logs | self.last_logs, *args, **kwargs)


def _check_compiler(device: torch.device) -> None:
    """Compile a minimal function, so that a missing compiler shows before the first step. Raises
    ModelError.
    """
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as error:  # of dynamo, of inductor, of the compiler
        raise ModelError(
            f"research.train.compile: torch cannot compile on this machine ({first_line(error)}): "
            "install a C++ compiler (g++, or the one that the environment variable CXX names) and "
            "Python's headers, or set research.train.compile to false"
        ) from error


def _training_arguments(
    folder: Path, steps: int, params: Params, *, bf16: bool, device: torch.device
) -> TrainingArguments:
    train = params.train
    updates = max(1, steps // train.steps_per_update)
    warmup = min(train.warmup_steps, updates // 10)
    decay = min(train.decay_steps, updates - warmup)
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=updates,
        gradient_accumulation_steps=train.steps_per_update // train.processes,
        ddp_find_unused_parameters=False,  # every step has a gradient for all parameters
        per_device_train_batch_size=1,  # an item of the dataset is a whole step
        lr_scheduler_type="warmup_stable_decay" if decay else "cosine",
        lr_scheduler_kwargs={"num_decay_steps": decay, "decay_type": "1-sqrt"} if decay else {},
        warmup_steps=warmup,
        max_grad_norm=1.0,
        bf16=bf16,
        use_cpu=device.type == "cpu",
        save_steps=train.save_steps,
        save_total_limit=2,
        logging_steps=5,
        report_to=[],
        seed=params.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=False,
    )
