"""Train the cross-encoder that compares two documents, on stories whose facts change (`data/stories`).

    python benchmarks/train_cross_encoder.py --left-out styz                # 200 s on an H100, hours on a core
    python benchmarks/train_cross_encoder.py --start FILE --epochs 1        # continue from other weights

Writes `cross_encoder.safetensors` into `--output`, and prints after each epoch the area under the ROC curve on the
stories of the writers left out. A continued training has half the rate. A pair is a question, the document with the
right answer, and another one: of its story, or with less weight the nearest of some others by the same writer, or one
about something else in which the names of the question replace its own.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import cmt
from cmt.bank.lexical import stems
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.common.english import NAME
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import pad
from cmt.modeling.cross_encoder import FILE, Report, reading
from cmt.modeling.lora import layers_with_lora

ROOT = Path(__file__).resolve().parent.parent
LAYERS, RANK = 22, 16
BATCH, RATE, WARMUP = 32, 4e-4, 50
OTHER_STORY = 0.2
"""Weight of a pair of two stories, that of one story being 1."""
RENAMED = 0.12
"""Share of the questions with a pair of a document about something else that takes the question's names."""
RENAMED_WEIGHT = 0.5
DRAWN = 60
"""Documents of other stories among which the nearest one is chosen."""


class Pair(NamedTuple):
    """What the cross-encoder reads, and what it should say."""

    tokens: list[int]
    later_holds: bool
    weight: float
    writer: str


def main(
    stories: Annotated[Path, typer.Option(help="Folder of stories.")] = ROOT / "data/stories",
    left_out: Annotated[str, typer.Option(help="Writers whose stories only measure.")] = "styz",
    start: Annotated[Path | None, typer.Option(help="Weights to continue from.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    output: Annotated[Path, typer.Option(help="Folder for the weights.")] = ROOT / "data/compressor",
) -> None:
    """Train the cross-encoder."""
    lm = cmt.open(params=ROOT / "params.yaml").lm
    torch.manual_seed(1)
    # 1. the pairs and the model
    pairs = list(pairs_of(stories, lm))
    seen = [pair for pair in pairs if pair.writer not in left_out]
    unseen = [pair for pair in pairs if pair.writer in left_out and pair.weight == 1]
    decoder, head = layers_with_lora(lm, 0, LAYERS, RANK).to(lm.device), nn.Linear(lm.hidden_size, 1).to(lm.device)
    nn.init.zeros_(head.weight)
    named = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    named |= {f"head.{name}": p for name, p in head.named_parameters()}
    for name, tensor in (load_file(start) if start else {}).items():
        named[name].data = tensor.float().to(lm.device)
    optimizer = torch.optim.AdamW(named.values(), lr=RATE / 2 if start else RATE, weight_decay=0.02)
    updates = epochs * -(-len(seen) // BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, (n + 1) / WARMUP) * max(0.02, 1 - n / updates))

    def scores(batch: Sequence[Pair]) -> Tensor:
        ids, mask = pad([pair.tokens for pair in batch], left=False, device=lm.device)  # (B, T)
        with torch.autocast(lm.device.type, torch.bfloat16):
            states = decoder(inputs_embeds=lm.embed(ids), attention_mask=mask, use_cache=False).last_hidden_state
        last: Tensor = states[torch.arange(len(ids)), mask.sum(1) - 1]  # (B, D)
        logits: Tensor = head(last.float())  # (B, 1)
        return logits[:, 0]

    # 2. train
    for epoch in range(epochs):
        for batch in batches(seen, random.Random(epoch)):
            labels = torch.tensor([float(pair.later_holds) for pair in batch], device=lm.device)
            weights = torch.tensor([pair.weight for pair in batch], device=lm.device)
            losses = F.binary_cross_entropy_with_logits(scores(batch), labels, reduction="none")
            loss: Any = (losses * weights).sum() / weights.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
        # 3. measure
        with torch.no_grad():
            found = np.concatenate([scores(unseen[i : i + BATCH]).cpu() for i in range(0, len(unseen), BATCH)])
        area = roc_auc_score([pair.later_holds for pair in unseen], found)
        console().print(f"epoch {epoch + 1}: area under the curve {area:.3f} of {len(unseen)} pairs")
    half = {name: p.detach().to(torch.bfloat16 if "lora" in name else torch.float32) for name, p in named.items()}
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in half.items()}, output / FILE, {"lm_digest": lm.digest}
    )


def pairs_of(folder: Path, lm: FrozenLM) -> Iterator[Pair]:
    """The pairs of all stories in `folder`."""
    documents, questions, links = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("documents", "questions", "links")
    )
    by_id, words = (
        {row["doc_id"]: row for row in documents},
        {row["doc_id"]: set(stems(row["text"])) for row in documents},
    )
    story = {doc_id: row["documents"] for row in links for doc_id in row["documents"]}
    of_writer, names_in = defaultdict(list), defaultdict[str, list[str]](list)
    for doc_id in by_id:
        of_writer[doc_id[0]].append(doc_id)
    for question in questions:
        for doc_id in story[question["doc_id"]]:
            names_in[doc_id] += re.findall(NAME, question["question"])
    rng = random.Random(3)
    for question in questions:
        right, asked = question["doc_id"], question["asked_at"][:10]

        def comparable(doc_id: str, right: str = right, asked: str = asked) -> bool:
            day, other = (str(by_id[one]["published_at"])[:10] for one in (doc_id, right))
            return asked >= day != other

        others = [(doc_id, 1.0) for doc_id in story[right] if comparable(doc_id)]
        strange = [one for one in of_writer[right[0]] if one not in story[right] and comparable(one)]
        drawn = rng.sample(strange, min(DRAWN, len(strange)))
        others += [(max(drawn, key=lambda one: len(words[one] & words[right])), OTHER_STORY)] if drawn else []
        rows = [(by_id[doc_id], weight) for doc_id, weight in others]
        # a document about something else, as if it were about the same place, person or firm
        if strange and rng.random() < RENAMED:
            other = by_id[rng.choice(strange)]
            rows.append((renamed(other, names_in[other["doc_id"]], names_in[right]), RENAMED_WEIGHT))
        for row, weight in rows:
            earlier, later = sorted((by_id[right], row), key=lambda row: row["published_at"])
            tokens = reading(lm, question["question"], report(earlier), report(later))
            yield Pair(tokens, later is by_id[right], weight, right[0])


def renamed(row: dict[str, Any], names: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """The document with `others` in place of its own `names`."""
    text, title = row["text"], row["title"]
    for name, other in zip(dict.fromkeys(names), dict.fromkeys(others), strict=False):
        text, title = text.replace(name, other), title.replace(name, other)
    return {**row, "text": text, "title": title}


def report(row: dict[str, Any]) -> Report:
    """The document as the cross-encoder reads it."""
    return Report(f"{row['title']}\n{row['text']}", date.fromisoformat(row["published_at"][:10]))


def batches(pairs: Sequence[Pair], rng: random.Random) -> list[list[Pair]]:
    """Batches of pairs of similar length, in random order."""
    order = rng.sample(list(pairs), len(pairs))
    near = [
        pair
        for i in range(0, len(order), 32 * BATCH)
        for pair in sorted(order[i : i + 32 * BATCH], key=lambda pair: len(pair.tokens))
    ]
    found = [near[i : i + BATCH] for i in range(0, len(near), BATCH)]
    return rng.sample(found, len(found))


if __name__ == "__main__":
    run_script(main)
