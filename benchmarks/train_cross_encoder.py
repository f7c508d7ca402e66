"""Train the cross-encoder that compares two documents, on stories whose facts change
(`data/stories`).

    python benchmarks/train_cross_encoder.py --articles train-v1.1.json

Takes minutes on an H200 and days on a core. Writes `cross_encoder.safetensors` into `--output`
after each epoch, and prints the area under the ROC curve of both heads on the stories of the
writers left out.

A pair is two documents of a story, or of one writer, with a question. It is a question of the
story, or one that `cmt.evaluation.changes.questions` makes of either document. The later document
*holds* if its answer is the right one, and *changed* the answer if both documents answer the
question and the story says that it does. `--articles` adds pairs of paragraphs of encyclopedic
articles: two about one subject, of which one answers, or two versions of one.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from peft.tuners.lora.layer import Linear
from protocol import ROOT, UNSEEN, read_stories
from safetensors.torch import load_file, save
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from train_on_gpu import merge_adapters, merged_forward

import cmt
from cmt.answering.judge import COMPARED, FEWEST_SHARED, NAMES_SHARED, Statement, excerpt
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.common.storage import write_bytes
from cmt.evaluation.changes.questions import questions_between
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import pad
from cmt.modeling.cross_encoder import FILE, DatedText, Odds, reading
from cmt.modeling.lora import layers_with_lora
from cmt.text.answers import same_value
from cmt.text.display import heading
from cmt.text.names import NAME, name_words
from cmt.text.overlap import WordWeights
from cmt.text.words import stem, stems

LAYERS, RANK = 22, 16
BATCH, WARMUP = 64, 60
OTHER_STORY = 0.4  # weight of a pair of two stories, that of one story being 1
# share of the questions with a pair of a document about something else that takes the question's
# names
RENAMED = 0.12
NAMED = 0.6  # share of the pairs that name the publishers of the documents; many files do not
NATURAL_QUESTIONS, MADE_QUESTIONS = 1.0, 0.5  # weights of a story's own questions, and of made ones
ARTICLE_PAIRS = 8000
OTHER_VALUE = 0.25  # share of the article pairs that are one paragraph with another value
LONGEST_VALUE = 4  # words
NEAR, TITLED = 0.8, 0.8
"""Shares of the other article pairs with a paragraph of the same article, and of all documents with
a title.
"""
DRAWN = 60  # documents of other stories among which the nearest one is chosen
ASKED = 2
"""Documents of other stories with most of a question's words, each of which makes a pair with the
right document.
"""
PAST = re.compile(r"\b(?:was|were|did|had|former\w*|before|previous\w*)\b")
"""A question about the past, whose answer the later document does not change."""

Row = dict[str, Any]


class Pair(NamedTuple):
    """An input of the cross-encoder, and its labels."""

    tokens: list[int]
    labels: tuple[float, float]  # of each of `Odds`: 0, 1, or NaN where the story does not tell
    weight: float
    writer: str
    natural: bool  # whether the question is one of the story


class Labels(NamedTuple):
    """Labels of a pair; None where the story does not tell."""

    holds: bool | None
    changed: bool | None


def main(  # noqa: PLR0913 - each is an option of the command
    stories: Annotated[Path, typer.Option(help="Folder of stories.")] = ROOT / "data/stories",
    left_out: Annotated[str, typer.Option(help="Writers whose stories only measure.")] = UNSEEN,
    articles: Annotated[
        Path | None, typer.Option(help="Paragraphs with questions, as in SQuAD 1.1.")
    ] = None,
    writers: Annotated[str, typer.Option(help="Writers to train on; all by default.")] = "",
    start: Annotated[Path | None, typer.Option(help="Weights to continue.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    rate: float = 5e-4,
    output: Annotated[Path, typer.Option(help="Folder for the weights.")] = ROOT
    / "data/compressor",
) -> None:
    """Train the cross-encoder."""
    lm = cmt.open(params=ROOT / "params.yaml").project.lm
    pairs = list(pairs_of(stories, lm))
    unseen = [pair for pair in pairs if pair.writer in left_out]
    seen = [
        pair
        for pair in pairs
        if pair.writer not in left_out and (not writers or pair.writer in writers)
    ]
    seen += islice(article_pairs(articles, lm), ARTICLE_PAIRS) if articles else []
    with patch.object(Linear, "forward", merged_forward):
        train(lm, seen, unseen, epochs, rate, start, output / FILE)


def train(
    lm: FrozenLM,
    seen: Sequence[Pair],
    unseen: Sequence[Pair],
    epochs: int,
    highest_rate: float,
    start: Path | None,
    path: Path,
) -> None:
    """Train on `seen`, from the weights `start` on if there are any; write the weights and measure
    after each epoch.
    """
    torch.manual_seed(1)
    # 1. the model
    console().print(f"{len(seen)} pairs to train on, {len(unseen)} to measure")
    decoder = layers_with_lora(lm, 0, LAYERS, RANK).to(lm.device)
    head = nn.Linear(lm.hidden_size, len(Odds._fields)).to(lm.device)
    nn.init.zeros_(head.weight)
    layers = [module for module in decoder.modules() if isinstance(module, Linear)]
    named = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    named |= {f"head.{name}": p for name, p in head.named_parameters()}
    for name, weights in (load_file(start) if start else {}).items():
        named[name].data = weights.to(lm.device, torch.float32)
    optimizer = torch.optim.AdamW(named.values(), lr=highest_rate, weight_decay=0.02)
    updates = epochs * -(-len(seen) // BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1, (n + 1) / WARMUP) * max(0.02, 1 - n / updates)
    )

    def logits(batch: Sequence[Pair]) -> Tensor:
        merge_adapters(layers)
        ids, mask = pad([pair.tokens for pair in batch], left=False, device=lm.device)  # (B, T)
        with torch.autocast(lm.device.type, torch.bfloat16):
            states = decoder(
                inputs_embeds=lm.embed(ids), attention_mask=mask, use_cache=False
            ).last_hidden_state
        last: Tensor = states[torch.arange(len(ids)), mask.sum(1) - 1]  # (B, D)
        found: Tensor = head(last.float())  # (B, 2)
        return found

    # 2. train
    for epoch in range(epochs):
        for batch in batches(seen, random.Random(epoch)):
            labels = torch.tensor([pair.labels for pair in batch], device=lm.device)  # (B, 2)
            weights = (
                torch.tensor([[pair.weight] for pair in batch], device=lm.device) * ~labels.isnan()
            )  # (B, 2)
            losses = F.binary_cross_entropy_with_logits(
                logits(batch), labels.nan_to_num(), reduction="none"
            )
            loss: Any = (losses * weights).sum() / weights.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
        # 3. write and measure
        half = {
            name: p.detach().to(torch.bfloat16 if "lora" in name else torch.float32)
            for name, p in named.items()
        }
        tensors = {name: tensor.cpu().contiguous() for name, tensor in half.items()}
        write_bytes(path, save(tensors, {"lm_digest": lm.digest}))  # makes the folder
        if not unseen:
            continue
        with torch.no_grad():
            found = torch.cat(
                [logits(unseen[i : i + BATCH]).cpu() for i in range(0, len(unseen), BATCH)]
            ).numpy()
        console().print(f"epoch {epoch + 1}: {areas(unseen, found)}")


def areas(pairs: Sequence[Pair], found: NDArray[np.float32]) -> str:
    """Area under the curve of each head, on pairs of one story and on all, by the kind of
    question.
    """
    texts = []
    for index, name in enumerate(Odds._fields):
        for kind, natural, least in (
            ("natural, one story", True, 1.0),
            ("all natural", True, 0),
            ("made", False, 0),
        ):
            fits = [
                pair.natural == natural and pair.weight >= least and pair.labels[index] in (0, 1)
                for pair in pairs
            ]
            labels = [pair.labels[index] for pair, fit in zip(pairs, fits, strict=True) if fit]
            if len(set(labels)) == 2:
                area = roc_auc_score(labels, found[fits, index])
                texts.append(f"{name} ({kind}) {area:.3f} of {len(labels)}")
    return "; ".join(texts)


def pairs_of(folder: Path, lm: FrozenLM) -> Iterator[Pair]:
    """The pairs of all stories in `folder`."""
    documents, questions, links = read_stories(folder)
    for letter in sorted({story["story"][0] for story in links}):
        rng = random.Random(letter)
        writer = Writer(
            letter,
            {row["doc_id"]: row for row in documents if row["doc_id"][0] == letter},
            [question for question in questions if question["doc_id"][0] == letter],
            [story for story in links if story["story"][0] == letter],
        )
        for natural, weight in ((True, NATURAL_QUESTIONS), (False, MADE_QUESTIONS)):
            for question, one, other, asked, labels, share in (
                writer.natural() if natural else writer.made()
            ):
                holds, changed = (
                    float("nan") if label is None else float(label) for label in labels
                )
                left_out = ("title",) * (rng.random() > TITLED) + ("source",) * (
                    rng.random() > NAMED
                )
                earlier, later = (report(row | dict.fromkeys(left_out)) for row in (one, other))
                tokens = reading(lm, question, earlier, later, asked)
                yield Pair(tokens, (holds, changed), weight * share, letter, natural)


def article_pairs(file: Path, lm: FrozenLM) -> Iterator[Pair]:
    """Pairs of the paragraphs in `file`, each with a question that one of them answers, and drawn
    dates.

    The other paragraph is the one of the article that has most words of the question, sometimes one
    of another article, or the same paragraph with another answer of its kind, which the later one
    then changes.
    """
    rng = random.Random("articles")
    asked = list[tuple[Row, Row, Row]]()
    values = defaultdict[str, list[str]](list)
    for article in json.loads(file.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                asked.append((article, paragraph, question))
                values[answer_kind(question)].append(question["answers"][0]["text"])
    for article, paragraph, question in rng.sample(asked, len(asked)):
        # 1. the right paragraph and the other one, each with the characters that are read as its
        #    answer
        text, answer = paragraph["context"], question["answers"][0]
        first, old = answer["answer_start"], answer["text"]
        right, changed = (text, first, first + len(old)), rng.random() < OTHER_VALUE
        if changed:
            new = rng.choice(values[answer_kind(question)])
            if new.lower() in text.lower() or len(old.split()) > LONGEST_VALUE:
                continue
            other = (text[:first] + new + text[first + len(old) :], first, first + len(new))
        else:
            nearest = nearest_paragraph(article, paragraph, question)
            another = nearest if rng.random() < NEAR else rng.choice(asked)[1]
            if old.lower() in another["context"].lower():
                continue
            span = rng.choice(another["qas"])["answers"][0]
            other = (
                another["context"],
                span["answer_start"],
                span["answer_start"] + len(span["text"]),
            )
        # 2. their order and dates
        later = rng.random() < 0.5
        earliest = date(2015, 1, 1) + timedelta(rng.randrange(5000))
        dates = earliest, earliest + timedelta(rng.randrange(3, 700))
        title = article["title"].replace("_", " ") + "\n" if rng.random() < TITLED else ""
        reports = list[DatedText]()
        for (text, start, end), when in zip(
            (other, right) if later else (right, other), dates, strict=True
        ):
            instant = datetime(when.year, when.month, when.day, tzinfo=UTC)
            stated = Statement(title + text, len(title) + start, len(title) + end, 0.0, instant)
            reports.append(DatedText(excerpt(stated), when))
        tokens = reading(lm, question["question"].strip(), reports[0], reports[1], dates[1])
        labels = (1.0, 1.0) if changed else (float(later), 0.0)
        yield Pair(
            tokens, labels, OTHER_STORY / 2 if changed else OTHER_STORY, "articles", natural=False
        )


def nearest_paragraph(article: Row, paragraph: Row, question: Row) -> Row:
    """The other paragraph of the article with most words of the question; `paragraph` without
    another one.
    """
    near: list[Row] = [one for one in article["paragraphs"] if one is not paragraph and one["qas"]]
    words = set(stems(question["question"]))

    def shared(other: Row) -> int:
        return len(words.intersection(stems(other["context"])))

    return max(near, key=shared, default=paragraph)


def answer_kind(question: Row) -> str:
    """The kind of the answer, by its digits or the question word."""
    words, answer = question["question"].lower().split(), question["answers"][0]["text"]
    return (
        "figure"
        if re.search(r"\d", answer)
        else next((word for word in words if word in ("who", "where")), "other")
    )


Example = tuple[str, Row, Row, date, Labels, float]
"""A question, the earlier document, the later one, the day of the question, the labels, and the
weight.
"""


@dataclass
class Writer:
    """The stories of one writer, and the pairs that they give."""

    letter: str
    documents: dict[str, Row]
    questions: list[Row]
    stories: list[Row]

    def __post_init__(self) -> None:
        self.rng = random.Random(f"pairs of {self.letter}")
        self.story_of = {doc_id: story for story in self.stories for doc_id in story["documents"]}
        self.values = defaultdict[str, list[str]](list)
        self.names_in = defaultdict[str, list[str]](list)
        for question in self.questions:
            self.values[question["doc_id"]] += question["answers"]
            for doc_id in self.story_of[question["doc_id"]]["documents"]:
                self.names_in[doc_id] += re.findall(NAME, question["question"])
        texts = {doc_id: text_of(row) for doc_id, row in self.documents.items()}
        self.weights = WordWeights([*texts.values()])
        self.stems = {doc_id: set(stems(text)) for doc_id, text in texts.items()}
        self.letters = {
            doc_id: sum(map(len, found)) or 1 for doc_id, found in self.stems.items()
        }  # of the stems
        self.names = {
            doc_id: {stem(word) for word in name_words(text)} for doc_id, text in texts.items()
        }

    def natural(self) -> Iterator[Example]:
        """Pairs with the questions of the stories."""
        for question in self.questions:
            text = question["question"]
            right = self.documents[question["doc_id"]]
            asked = day(question["asked_at"])
            story = self.story_of[right["doc_id"]]
            trap = story["kind"].startswith("trap")
            due = "due" in story["kind"] or "effect" in story["kind"]
            # 1. two documents of a story
            for other in (self.documents[doc_id] for doc_id in story["documents"]):
                if published(other) == published(right):
                    continue
                one, two = in_order(right, other)
                if published(other) <= asked:
                    known = not self._same(one, two) and not (trap and story["update_of"])
                    labels = Labels(two is right, (two is right and not trap) if known else None)
                    when = asked if due or self.rng.random() < 0.5 else published(two)
                    yield text, one, two, when, labels, 1.0
                    if due and two is right:
                        yield text, one, two, published(two), Labels(holds=False, changed=None), 1.0
                elif not (trap or due or PAST.search(text) or self._same(one, two)):
                    # a question between the dates, asked later
                    yield text, one, two, published(two), Labels(holds=True, changed=True), 1.0
            # 2. documents of other stories
            for other in self._unrelated(question, right, story):
                one, two = in_order(right, other)
                labels = Labels(two is right, changed=False)
                yield text, one, two, published(two), labels, OTHER_STORY

    def _unrelated(self, question: Row, right: Row, story: Row) -> list[Row]:
        """Documents of other stories: a similar one, one with the right names, and two with the
        question's words.
        """
        text, asked = question["question"], day(question["asked_at"])
        unrelated = [
            row
            for doc_id, row in self.documents.items()
            if doc_id not in story["documents"]
            and published(row) <= asked
            and published(row) != published(right)
        ]
        if not unrelated:
            return []
        drawn = self.rng.sample(unrelated, min(DRAWN, len(unrelated)))
        words = self.stems[right["doc_id"]]
        others = [max(drawn, key=lambda row: len(self.stems[row["doc_id"]] & words))]
        if self.rng.random() < RENAMED:
            other = self.rng.choice(unrelated)
            names, right_names = (self.names_in[row["doc_id"]] for row in (other, right))
            others.append(renamed(other, names, right_names))
        others += nlargest(
            ASKED, unrelated, key=lambda row: self.weights.coverage(text, text_of(row))
        )
        return others

    def made(self) -> Iterator[Example]:
        """Pairs with made questions, of the documents that the detection of changes compares, and
        of each story.
        """
        for later in self.documents.values():
            story, doc_id = self.story_of[later["doc_id"]], later["doc_id"]
            earlier = [row for row in self.documents.values() if published(row) < published(later)]
            for one in (row for row in earlier if row["doc_id"] in story["documents"]):
                yield from self._made(one, later, 1.0)
            words = self.stems[doc_id]
            alike = [
                (
                    sum(map(len, words & self.stems[row["doc_id"]])) / self.letters[row["doc_id"]],
                    row,
                )
                for row in earlier
                if row["doc_id"] not in story["documents"]
                and len(self.names[row["doc_id"]] & words)
                >= NAMES_SHARED * len(self.names[row["doc_id"]])
            ]
            nearest = sorted(alike, key=lambda pair: -pair[0])[:COMPARED]
            for one in (row for share, row in nearest if share >= FEWEST_SHARED):
                yield from self._made(one, later, OTHER_STORY)

    def _made(self, one: Row, two: Row, weight: float) -> Iterator[Example]:
        story, other = self.story_of[two["doc_id"]], self.story_of[one["doc_id"]]
        trap, declared = story["kind"].startswith("trap"), bool(story["update_of"])
        for question, answer, of_earlier, _ in questions_between(text_of(one), text_of(two)):
            values = self.values[(one if of_earlier else two)["doc_id"]]
            told = any(
                same_value(answer, value) for value in values
            )  # the question asks for the story's fact
            if other is not story:
                labels = Labels(holds=False if of_earlier else None, changed=False)
            elif trap and not declared:
                labels = Labels(holds=False if told and of_earlier else None, changed=False)
            elif not trap and told and not self._same(one, two) and "due" not in story["kind"]:
                labels = Labels(holds=True, changed=True)
            else:
                continue
            yield question, one, two, published(two), labels, weight

    def _same(self, one: Row, two: Row) -> bool:
        """Whether both documents may have the same value."""
        values, others = self.values[one["doc_id"]], self.values[two["doc_id"]]
        return any(same_value(value, other) for value in values for other in others)


def renamed(row: Row, names: Sequence[str], others: Sequence[str]) -> Row:
    """The document with `others` in place of its own `names`."""
    text, title = row["text"], row["title"]
    for name, other in zip(dict.fromkeys(names), dict.fromkeys(others), strict=False):
        text, title = text.replace(name, other), title.replace(name, other)
    return {**row, "text": text, "title": title}


def in_order(one: Row, other: Row) -> tuple[Row, Row]:
    """Both documents, the earlier one first."""
    return (one, other) if published(one) < published(other) else (other, one)


def day(instant: str) -> date:
    """The day of a date or an instant."""
    return date.fromisoformat(instant[:10])


def published(row: Row) -> date:
    """The day of the document."""
    return day(row["published_at"])


def text_of(row: Row) -> str:
    """The text of the document without its publisher."""
    return f"{row['title']}\n{row['text']}"


def report(row: Row) -> DatedText:
    """The document as the cross-encoder reads it."""
    return DatedText(
        f"{heading(row['title'], row['source'])}\n{row['text']}".lstrip(), published(row)
    )


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
