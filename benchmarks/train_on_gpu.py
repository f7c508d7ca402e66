"""Continue the training of the shipped compressor on a GPU for some minutes, on `train.mix` and on
`data/stories`.

    python benchmarks/train_on_gpu.py --params mix.yaml --seconds 470    # an H100: 318 pairs a
    second, 59 GB

`mix.yaml` is a `params.yaml` whose `train.mix` `cmt data pull` has fetched. Unlike in `cmt train`,
adapters are merged into the weights once a step, ψ reads 256 pairs at once, and the rate falls with
the time. Weights are written every hundred steps.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import pyarrow as pa
import torch
import torch.nn.functional as F
import typer
from peft.tuners.lora.layer import Linear
from protocol import ROOT, UNSEEN, read_stories
from torch.utils.data import DataLoader

import cmt
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.common.storage import write_json
from cmt.config import Params
from cmt.lm.model import FrozenLM
from cmt.modeling import aggregator
from cmt.modeling.loading import load_memory_model
from cmt.training.augmentation import add_changed_values
from cmt.training.data import load_base_data
from cmt.training.dataset import Paragraph, ParagraphQuestion, StepDataset, occurrences, paragraphs
from cmt.training.entity_swaps import entity_swaps
from cmt.training.published import new_step
from cmt.training.trainer import adamw

SETTINGS = {
    "paragraphs": 128,
    "questions": 600_000,
    "questions_per_paragraph": 4,
    "unanswerable_per_paragraph": 2,
    "answer_fraction": 0.06,
    "learning_rate": 7e-4,
    "window_frequencies": {1: 0.66, 2: 0.05, 4: 0.17, 8: 0.07, 16: 0.05},
}
STORIES = 8.0  # share of the stories, in addition to the shares of `train.mix`
WARMUP, DECAY = 60, 0.35  # DECAY: last share of the time, in which the rate falls
PAIRS = 256  # of a question and a memory, which ψ reads at once


def main(
    params: Annotated[Path, typer.Option(help="Settings with train.mix.")],
    seconds: Annotated[float, typer.Option(help="Duration of the training.")],
    output: Annotated[Path, typer.Option(help="Folder for the weights.")] = ROOT / "data/trained",
    paragraphs_a_step: Annotated[
        int, typer.Option(help="Paragraphs of a step; fewer need less memory.")
    ] = 128,
    left_out: Annotated[str, typer.Option(help="Writers whose stories only measure.")] = UNSEEN,
) -> None:
    """Train for some minutes."""
    workspace = cmt.open(params=params)
    mix = {**workspace.params.train.mix, "path:stories.json": STORIES}
    settings = SETTINGS | {
        "mix": mix,
        "paragraphs": paragraphs_a_step,
        "start": workspace.params.compressor.path,
    }
    pool = [
        *mixed_paragraphs(workspace.project.lm, workspace.params),
        *story_paragraphs(workspace.project.lm, left_out),
    ]
    changed = workspace.params.with_values(train=settings)
    batches = patch.object(aggregator, "PAIRS_PER_BATCH", PAIRS)
    with batches, patch.object(Linear, "forward", merged_forward):
        continue_training(workspace.project.lm, pool, changed, output, seconds)


def continue_training(
    lm: FrozenLM, pool: Sequence[Paragraph], params: Params, output: Path, seconds: float
) -> None:
    """Train the compressor `train.start` for `seconds`."""
    # 1. model, steps and optimizer
    model = load_memory_model(params.compressor.path, lm=lm).train()
    steps = StepDataset(pool, params)
    loader = DataLoader(steps, batch_size=1, collate_fn=lambda items: items[0], num_workers=4)
    step, optimizer = new_step(model, params), adamw(model, params.train.learning_rate)
    rates = [group["lr"] for group in optimizer.param_groups]
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    log, begin = list[dict[str, float]](), time.monotonic()
    for number, item in enumerate(loader):
        # 2. the rate and the share of gold quotes follow the time
        progress = (time.monotonic() - begin) / seconds
        if progress >= 1:
            break
        falling = max(0.0, progress - 1 + DECAY) / DECAY
        factor = min(1, (number + 1) / WARMUP) * (1 - 0.99 * falling**0.5)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        # 3. a step
        with torch.autocast(lm.device.type, torch.bfloat16):
            merge_adapters(layers)
            result = step(**item | {"teacher_forcing": 0.5 - 0.3 * progress})
        result["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # 4. log and save
        log.append(
            {name: round(float(value), 4) for name, value in result["logs"].items()}
            | {"step": number + 1}
        )
        if number % 100 == 99:
            model.save(output)
        if number % 20 == 0:
            console().print(f"step {number + 1}, {time.monotonic() - begin:.0f} s: {log[-1]}")
    console().print(f"{model.save(output)[:12]} is in {output} after {len(log)} steps")
    write_json(output / "log.json", log, indent=1)


def merge_adapters(layers: Sequence[Any]) -> None:
    """The weights of all adapted layers, with gradients for the adapters: one product a step, not
    three a call.
    """
    with torch.autocast(layers[0].base_layer.weight.device.type, enabled=False):
        for layer in layers:
            change = (
                layer.lora_B["default"].weight
                @ layer.lora_A["default"].weight
                * layer.scaling["default"]
            )
            layer.whole_weight = (layer.base_layer.weight.float() + change).to(torch.bfloat16)


def merged_forward(layer: Any, x: torch.Tensor, *_: Any, **_options: Any) -> torch.Tensor:
    """`forward` of an adapted layer after `merge_adapters`."""
    return F.linear(x.to(torch.bfloat16), layer.whole_weight, layer.base_layer.bias)


def mixed_paragraphs(lm: FrozenLM, params: Params) -> list[Paragraph]:
    """The paragraphs of `train.mix`, with two draws of changed values and entity swaps."""
    data, found = load_base_data(params), list[Paragraph]()
    for seed in (11, 12):
        documents = add_changed_values(data.seen, data.all_questions, seed=seed)
        questions = pa.concat_tables(
            [data.all_questions, entity_swaps(data.seen, data.all_questions, seed=seed)]
        )
        found += paragraphs(documents, questions, lm=lm, longest=params.compressor.chunk_tokens)
    return found


def story_paragraphs(lm: FrozenLM, left_out: str) -> list[Paragraph]:
    """The documents of `data/stories`, a story as an article, but for the writers `left_out`.

    Of two documents each answers the other's question with its own value. A trap's last document
    does not answer.
    """
    documents, questions, links = read_stories(ROOT / "data/stories")
    by_id = {row["doc_id"]: row for row in documents}
    asked = defaultdict[str, list[dict[str, Any]]](list)
    for question in questions:
        asked[question["doc_id"]].append(question)
    found = list[Paragraph]()
    for story in links:
        if story["story"][0] in left_out:
            continue
        of_story = [question for doc_id in story["documents"] for question in asked[doc_id]]
        for doc_id in story["documents"]:
            paragraph = _story_paragraph(lm, by_id[doc_id], story, of_story)
            if paragraph.questions or paragraph.unanswerable:
                found.append(paragraph)
    return found


def _story_paragraph(
    lm: FrozenLM, row: dict[str, Any], story: dict[str, Any], asked: Sequence[dict[str, Any]]
) -> Paragraph:
    """A document of a story with the questions `asked` on the story."""
    ids, trap = story["documents"], story["kind"].startswith("trap")
    own = {question["answers"][0] for question in asked if question["doc_id"] == row["doc_id"]}
    shared = own if len(own) == 1 and len(ids) == 2 and not trap else set[str]()
    encoding = lm.tokenizer(row["text"], add_special_tokens=False, truncation=True, max_length=256)
    usable, unanswerable = list[ParagraphQuestion](), list[list[int]]()
    for question in asked:
        tokens = lm.tokenize(" " + question["question"])
        is_own = question["doc_id"] == row["doc_id"]
        for answer in {question["answers"][0]} if is_own else shared:
            if spans := occurrences(answer, row["text"], encoding):
                answer_tokens = [*lm.tokenize(" " + answer), lm.eos]
                usable.append(ParagraphQuestion(tokens, answer_tokens, spans))
        if trap and not is_own and row["doc_id"] == ids[-1]:
            unanswerable.append(tokens)
    title = lm.tokenize(row["title"] + "\n")
    return Paragraph(title, encoding.input_ids, usable, unanswerable, story["story"], "stories")


if __name__ == "__main__":
    run_script(main)
