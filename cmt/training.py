"""Training Θ, ψ and π on question-answer pairs, with transformers' Trainer underneath; the LM stays as it is.

A step is a handful of paragraphs, four at a time from one article so that its negatives are hard, and some questions on
each. Every question trains the selection (self-matching, window); a share of them goes on through the frozen LM.
"""

import hashlib
import json
import logging
import random
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from cmt.config import Params
from cmt.errors import StreamError
from cmt.memory.aggregator import WindowReader
from cmt.memory.lm import FrozenLM
from cmt.memory.model import WEIGHTS, Design, MemoryModel, choose_windows, write_weights
from cmt.memory.objective import memory_aware, self_matching, window_loss

log = logging.getLogger(__name__)

SAME_ARTICLE = 4  # paragraphs of one article in a step: each other's hard negatives
NEGATIVES, WITHOUT_NEGATIVES = 3, 0.3  # other memories ψ sees beside the right one, and how often none
FORCED_FIRST, FORCED_LAST = 1.0, 0.2  # probability that the right window is among the chosen, from start to end
WITHOUT_TITLE = 0.5
MAX_ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Paragraph:
    """A document ready to train on; token ids without BOS."""

    title: list[int]
    text: list[int]
    questions: list[tuple[list[int], list[int], int]]
    """(question ids, answer ids with end-of-sequence, index in `text` of the answer's first token)."""
    article: str


def paragraphs(documents: pa.Table, questions: pa.Table, *, lm: FrozenLM, longest: int) -> list[Paragraph]:
    """Documents that have questions whose answer stands verbatim in their first `longest` tokens."""
    asked = defaultdict(list)
    for row in questions.select(["doc_id", "question", "answers"]).to_pylist():
        asked[row["doc_id"]].append((row["question"], row["answers"][0]))
    rows = [row for row in documents.select(["doc_id", "title", "text"]).to_pylist() if row["doc_id"] in asked]
    made = [_paragraph(row, asked[row["doc_id"]], lm, longest) for row in rows]
    return [paragraph for paragraph in made if paragraph.questions]


def hold_out(documents: pa.Table, *, articles: int, seed: int) -> tuple[pa.Table, pa.Table]:
    """Documents to train on, and those of `articles` titles (or single documents without one) to measure on."""
    names = [row["title"] or row["doc_id"] for row in documents.select(["doc_id", "title"]).to_pylist()]
    distinct = sorted(set(names))
    held = set(_random(seed).sample(distinct, min(articles, len(distinct) // 2)))
    mask = pa.array([name in held for name in names])
    return documents.filter(pc.invert(mask)), documents.filter(mask)


def _random(seed: int | float | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - to be repeated, not to be secret


def _paragraph(row: dict[str, Any], asked: Sequence[tuple[str, str]], lm: FrozenLM, longest: int) -> Paragraph:
    coded = lm.tokenizer(row["text"], add_special_tokens=False, truncation=True, max_length=longest)
    found = []
    for question, answer in asked:
        place = row["text"].find(answer)
        token = coded.char_to_token(place) if place >= 0 else None
        ids = lm.encode(" " + answer)
        if token is not None and len(ids) < MAX_ANSWER_TOKENS:
            found.append((lm.encode(" " + question), [*ids, lm.eos], token))
    title = row["title"] or ""
    return Paragraph(lm.encode(title + "\n") if title else [], coded.input_ids, found, title or row["doc_id"])


class Steps(Dataset[dict[str, Any]]):
    """All steps of a run, a pure function of data, params and seed: resuming at step n sees what it would have seen."""

    def __init__(self, pool: Sequence[Paragraph], params: Params) -> None:
        self.pool, self.params = pool, params
        if not pool:
            raise StreamError("no question has its answer verbatim in its document: nothing to train on")
        source = _random(params.seed)
        self.steps: list[list[int]] = []
        questions = 0
        while questions < params.train.questions:
            for step in self._epoch(source):
                self.steps.append(step)
                questions += sum(min(params.train.questions_per_paragraph, len(pool[i].questions)) for i in step)
                if questions >= params.train.questions:
                    break

    def _epoch(self, source: random.Random) -> list[list[int]]:
        articles = defaultdict(list)
        for index, paragraph in enumerate(self.pool):
            articles[paragraph.article].append(index)
        groups = []
        for members in articles.values():
            source.shuffle(members)
            groups += [members[i : i + SAME_ARTICLE] for i in range(0, len(members), SAME_ARTICLE)]
        source.shuffle(groups)
        flat = [index for group in groups for index in group]
        size = self.params.train.paragraphs
        return [flat[i : i + size] for i in range(0, len(flat), size)]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source = _random(f"{self.params.seed}/{index}")
        documents, asked = [], []
        for row, member in enumerate(self.steps[index]):
            paragraph = self.pool[member]
            title = [] if source.random() < WITHOUT_TITLE else paragraph.title
            documents.append(title + paragraph.text)
            count = min(self.params.train.questions_per_paragraph, len(paragraph.questions))
            for question, answer, start in source.sample(paragraph.questions, count):
                asked.append((question, answer, row, (len(title) + start) // self.params.compressor.window))
        source.shuffle(asked)
        done = index / max(1, len(self.steps))
        forced = FORCED_FIRST + (FORCED_LAST - FORCED_FIRST) * done
        return {"documents": documents, "asked": asked, "forced": forced, "draw": source.random()}


class Lesson(nn.Module):
    """One training step: the total loss of method §2 and what is worth plotting of it."""

    def __init__(self, model: MemoryModel, params: Params) -> None:
        super().__init__()
        self.model, self.params = model, params

    def forward(self, documents: list[list[int]], asked: list[Any], forced: float, draw: float) -> dict[str, Any]:
        """`asked`: (question ids, answer ids, document row, gold window); `draw`: this step's random number."""
        model, objective = self.model, self.params.objective
        memories = model.encode(documents)
        question = model.encode([ids for ids, *_ in asked], group=32)
        gold = torch.tensor([row for _, _, row, _ in asked], device=model.lm.device)
        matching = self_matching(question.key, memories.key, gold, model.temperature, objective.spread)
        loss = objective.beta * matching
        similarity = (question.key @ memories.key.T).detach()
        logs = {"matching": matching, "recall_at_1": (similarity.argmax(1) == gold).float().mean()}
        count = max(1, round(self.params.train.answered * len(asked)))
        if isinstance(model.aggregator, WindowReader):
            chosen = self._candidates(similarity, gold, draw)
            mask = memories.vector_mask[chosen.clamp(min=0)] * (chosen >= 0).unsqueeze(-1)  # (Q, S, k)
            scores = model.aggregator(question, memories.vectors[chosen.clamp(min=0)], mask)
            target = torch.tensor([window for *_, window in asked], device=gold.device)
            finding = window_loss(scores.flatten(1), target)  # the right memory stands first
            loss = loss + objective.gamma * finding
            logs |= {"window": finding, "window_found": (scores.flatten(1).argmax(1) == target).float().mean()}
            prompt, ends = self._read_windows(_first(question, count), documents, asked[:count], chosen, scores, forced)
        else:
            rows = count, *memories.vectors.shape
            every, mask = memories.vectors.expand(rows), memories.vector_mask.expand(rows[:-1])
            tails = [[*model.question_text(ids), *answer] for ids, answer, *_ in asked[:count]]
            prompt = model.prefix_prompt(_first(question, count), every, mask, tails, left=False)
            ends = prompt.mask.sum(1).tolist()
        answering = self._answer(prompt, ends, asked[:count])
        logs["answer"] = answering
        return {"loss": loss + answering, "logs": {name: value.detach() for name, value in logs.items()}}

    def _candidates(self, similarity: Tensor, gold: Tensor, draw: float) -> Tensor:
        """(Q, 1 + negatives): each question's document and the most similar others; −1 where ψ is to see none."""
        others = similarity.scatter(1, gold[:, None], -2.0)
        hard = others.topk(min(NEGATIVES, similarity.shape[1] - 1), dim=1).indices
        lone = torch.rand(len(gold), generator=torch.Generator().manual_seed(int(draw * 2**31))) < WITHOUT_NEGATIVES
        return torch.cat([gold[:, None], hard.masked_fill(lone.to(gold.device)[:, None], -1)], 1)

    def _read_windows(
        self, question: Any, documents: list[list[int]], asked: list[Any], chosen: Tensor, scores: Tensor, forced: float
    ) -> tuple[Any, list[int]]:
        model, how = self.model, self.params.selection
        count, source = len(asked), _random(forced)
        probability = scores[:count].flatten(1).softmax(1).view_as(scores[:count])
        wanted = scores[:count].detach().float().cpu()
        for row, (*_, window) in enumerate(asked):
            if source.random() < forced:
                wanted[row, 0, window] = 1e4
        runs = [choose_windows(row, how.windows, how.neighbours) for row in wanted]
        texts = [[documents[max(0, d)] for d in row] for row in chosen[:count].tolist()]
        tails = [[*model.question_text(ids), *answer] for ids, answer, *_ in asked]
        prompt = model.text_prompt(question, runs, texts, probability, tails, left=False)
        return prompt, prompt.mask.sum(1).tolist()

    def _answer(self, prompt: Any, ends: Sequence[int], asked: list[Any]) -> Tensor:
        """Memory-aware NLL of the answers, which are the last tokens before `ends`."""
        lm, answers = self.model.lm, [answer for _, answer, *_ in asked]
        target = torch.tensor([token for answer in answers for token in answer], device=lm.device)
        alpha = self.params.objective.alpha
        with_memory = lm.logits(prompt, _before(answers, ends, lm.device))
        without = torch.zeros_like(with_memory)
        if alpha:
            with torch.no_grad():
                rows = [[lm.bos, *self.model.question_text(ids), *answer] for ids, answer, *_ in asked]
                without = lm.logits(lm.prompt(rows), _before(answers, [len(row) for row in rows], lm.device))
        return memory_aware(with_memory, without, target, alpha)


def _before(answers: Sequence[Sequence[int]], ends: Sequence[int], device: torch.device) -> Tensor:
    """(N, 2) row and column of the positions that predict the answers' tokens."""
    places = [
        (row, column - 1)
        for row, (answer, end) in enumerate(zip(answers, ends, strict=True))
        for column in range(end - len(answer), end)
    ]
    return torch.tensor(places, device=device)


def _first(code: Any, count: int) -> Any:
    return type(code)(*(getattr(code, name)[:count] for name in code.__dataclass_fields__))


class CompressorTrainer(Trainer):  # type: ignore[misc] # transformers is not followed
    """Checkpoints hold the trained tensors only, and steps come in their own order."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, self.model.model.trained())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.model.load_trained(load_file(Path(resume_from_checkpoint) / WEIGHTS))

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        outputs = model(**inputs)
        self.last_logs = {name: round(value.item(), 4) for name, value in outputs["logs"].items()}
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log(logs | getattr(self, "last_logs", {}), *args, **kwargs)


def train(
    *, lm: FrozenLM, documents: pa.Table, questions: pa.Table, params: Params, callbacks: Sequence[TrainerCallback] = ()
) -> Path:
    """Train a compressor on `documents` and `questions`; resumes from the last checkpoint in `train.output`.

    Returns the folder of the trained compressor. Checkpoints are kept beside it in `checkpoints/`; those of another run
    (other data, seed, design or train section) are removed with a warning.
    """
    torch.manual_seed(params.seed)
    if not torch.cuda.is_available():
        # up to 1.7 × faster than sdpa for forward and backward over short sequences; answering keeps sdpa
        lm.model.set_attn_implementation("eager")
    model = MemoryModel(lm, Design.of(params))
    model.train()
    if params.train.gradient_checkpointing:
        _checkpoint_layers(model.compressor.encoder)
    steps = Steps(paragraphs(documents, questions, lm=lm, longest=params.compressor.chunk_tokens), params)
    folder = params.train.output
    trainer = CompressorTrainer(
        model=Lesson(model, params),
        args=_arguments(folder / "checkpoints", len(steps), params),
        train_dataset=steps,
        data_collator=lambda items: items[0],
        optimizers=(_optimizer(model, params), None),
        callbacks=list(callbacks),
    )
    _claim(folder / "checkpoints", _identity(model, steps))
    trainer.train(resume_from_checkpoint=last_checkpoint(folder / "checkpoints"))
    lm.model.set_attn_implementation("sdpa")
    model.save(folder)
    (folder / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
    return folder


def _checkpoint_layers(encoder: Any) -> None:
    # the method's name of the future, then that of transformers 5.0
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _identity(model: MemoryModel, steps: Steps) -> str:
    """sha256 of all that shapes the weights: two runs with one identity may go on from each other's checkpoints."""
    train = steps.params.train.model_dump(exclude={"enabled", "source", "path", "output", "save_steps"})
    run = [model.lm.digest, model.design.to_dict(), steps.params.seed, train, [asdict(item) for item in steps.pool]]
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


def _claim(folder: Path, identity: str) -> None:
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


def _optimizer(model: MemoryModel, params: Params) -> torch.optim.Optimizer:
    adapters = [p for name, p in model.named_parameters() if p.requires_grad and "lora_" in name]
    others = [p for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name]
    rate = params.train.learning_rate
    groups = [{"params": adapters, "lr": rate / 2}, {"params": others, "lr": rate}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)


def _arguments(folder: Path, steps: int, params: Params) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the dataset is a whole step
        lr_scheduler_type="cosine",
        warmup_steps=min(params.train.warmup_steps, steps // 10),
        max_grad_norm=1.0,
        bf16=params.train.bf16 and params.lm.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        save_steps=params.train.save_steps,
        save_total_limit=2,
        logging_steps=5,
        report_to=[],
        seed=params.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=False,
    )
