"""Continue the training of ψ on one core, on facts that news tells in passing.

    python benchmarks/continue_reader.py --plain plain.jsonl.xz --articles train-v1.1.json:4500 \
        --articles squad2.json:1500 --articles tweetqa.json:1200 --news FOLDER --output FOLDER

Θ, the keys and π stay as they are, so a bank of the compressor before stays valid. The examples are
sentences that `told.yaml` makes (a fact in passing, or an aside that does not state it) between
sentences of `--plain`; questions of `--articles` (a file in SQuAD's layout and a number of
questions), without the articles that every training leaves out; and stories of `--news` in the
layout of `data/stories`. The mean of the weights over the last steps is averaged with the weights
at the start, which keeps what ψ could do before. A checkpoint is written every ten minutes, and the
same command continues from it. A step takes four to six seconds.
"""

import json
import lzma
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
import yaml
from one_core import Trained, adapted_layers, merge
from protocol import ROOT, read_lines, valid_rows
from torch import Tensor

import cmt
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import load_checkpoint
from cmt.modeling.loading import load_memory_model, new_memory_model
from cmt.training.data import hold_out
from cmt.training.dataset import occurrences
from cmt.training.losses import span_loss

LONGEST = 200  # tokens of a text; the rest is cut off
WINDOWS = {1: 0.66, 2: 0.05, 4: 0.2, 8: 0.05, 16: 0.04}  # tokens a vector → share of the steps
TOKENS = 2600  # of all pairs of a question and a text in a step
HELD_OUT = 20  # articles of each file, as in `train.validation_articles`
TYPED = 0.15  # share of the questions of articles in the letters that people type
ASIDES = 0.17  # share of the made sentences that do not state the fact
OFTEN = {"team": 1.6, "employer": 1.6, "position": 1.6}  # weight of a relation; 0.6 of the others
PERSONS = ("team", "position", "employer", "home", "party", "partner")  # whose subject is a person
PERSON_VALUES = ("holder", "partner", "coach")

Row = dict[str, Any]


class Example(NamedTuple):
    """A question, texts to read, and the answer that the first one states, if any."""

    question: str
    texts: list[str]
    answer: str | None


class Item(NamedTuple):
    """The tokens of an example."""

    question: list[int]
    texts: list[list[int]]
    spans: list[tuple[int, int]]  # of the answer in the first text; none: it does not answer

    @property
    def cost(self) -> int:
        """Tokens of its pairs of question and text."""
        return sum(len(self.question) + len(text) for text in self.texts)


def main(  # noqa: PLR0913 - each is an option of the command
    plain: Annotated[Path, typer.Option(help="Dated paragraphs, JSON lines as .xz.")],
    output: Annotated[Path, typer.Option(help="Folder for the weights and the checkpoint.")],
    articles: Annotated[list[str], typer.Option(help="FILE:NUMBER of questions.")] = [],  # noqa: B006
    news: Annotated[Path | None, typer.Option(help="Folder of stories.")] = None,
    made: Annotated[int, typer.Option(help="Examples that told.yaml makes.")] = 11_000,
    seconds: Annotated[float, typer.Option(help="Duration, of the processor.")] = 2_700,
    kept: Annotated[float, typer.Option(help="Share of the weights at the start.")] = 0.5,
    rate: float = 2e-4,
    seed: int = 1,
) -> None:
    """Continue the training, and write the compressor."""
    torch.set_num_threads(1)
    lm, rng = cmt.open(params=ROOT / "params.yaml").project.lm, random.Random(seed)
    examples = list(told(plain, made, rng))
    for of_file in articles:
        file, _, number = of_file.rpartition(":")
        examples += asked(Path(file), int(number), rng)
    examples += reported(news, rng) if news else []
    items = [item for example in examples if (item := item_of(example, lm))]
    console().print(f"{len(items):,} examples")
    output.mkdir(parents=True, exist_ok=True)
    Training(lm, output, rate).run(costwise(items, rng), seconds, kept)


# 1. examples


def told(plain: Path, number: int, rng: random.Random) -> Iterator[Example]:
    """Examples of `told.yaml`, some between sentences of `plain`."""
    patterns = yaml.safe_load(Path(__file__).with_name("told.yaml").read_text(encoding="utf-8"))
    with lzma.open(plain, "rt") as lines:
        texts = [json.loads(line)["text"].split(". ")[0].rstrip(".") + "." for line in lines]
    around = [text for text in rng.sample(texts, min(8000, len(texts))) if 30 < len(text) < 220]
    scene = Scene(patterns["words"], patterns["relations"], around, rng)
    weights = [
        len(patterns["relations"][name]["told"]) * OFTEN.get(name, 0.6)
        for name in patterns["relations"]
    ]
    for name in rng.choices(list(patterns["relations"]), weights, k=number):
        yield scene.example(name)


class Scene:
    """Makes examples of a relation."""

    def __init__(
        self,
        words: Mapping[str, Sequence[str]],
        relations: Mapping[str, Row],
        around: Sequence[str],
        rng: random.Random,
    ) -> None:
        self.words, self.relations, self.around, self.rng = words, relations, around, rng

    def example(self, name: str) -> Example:
        """A question on a sentence in passing, and up to two other texts."""
        # 1. draw the fact
        rng, relation = self.rng, self.relations[name]
        subject = self.subject(name)
        value, other, third = self.values(name, subject)
        is_aside = rng.random() < ASIDES
        # 2. tell it
        pattern = rng.choice(relation["aside" if is_aside else "told"])
        text = self.fill(pattern, name, subject, "" if is_aside else value, other, third)
        answer = None if is_aside else _as_written(value, text)
        # 3. put it between other sentences, in other letters
        text, answer = self.roughened(self.between(text), answer)
        # 4. add other texts: the fact of another subject, and an aside
        others = []
        for _ in range(rng.choices((0, 1, 2), (0.35, 0.45, 0.2))[0]):
            drawn = rng.random()
            if drawn < 0.45:
                pattern, about = rng.choice(relation["told"]), self.subject(name)
                others.append(self.fill(pattern, name, about, other, third, value))
            elif drawn < 0.8:
                pattern = rng.choice(relation["aside"])
                others.append(self.fill(pattern, name, subject, "", other, third))
            else:
                others.append(rng.choice(self.around))
        question = rng.choice(relation["questions"]).format(N=subject)
        return Example(question, [text, *others], answer)

    def _person(self) -> str:
        first, last = self.rng.choice(self.words["first_names"]), self._last()
        drawn = self.rng.random()
        if drawn < 0.06:
            return f"{first[0]}. {self.rng.choice('ABCDEFGHJKLMRST')}. {last}"
        return f"{first} {self._last()} {last}" if drawn < 0.12 else f"{first} {last}"

    def _last(self) -> str:
        return self.rng.choice(self.words["last_names"])

    def subject(self, name: str) -> str:
        relation = self.relations[name]
        return self._person() if name in PERSONS else self.rng.choice(relation["subjects"])

    def values(self, name: str, subject: str) -> list[str]:
        """Three values of a relation."""
        relation = self.relations[name]
        if name in PERSON_VALUES:
            return [self._person() for _ in range(3)]
        if name == "count":
            return self.rng.sample(relation["values_of_unit"][relation["units"][subject]], 3)
        return self.rng.sample([value for value in relation["values"] if value != subject], 3)

    def fill(self, pattern: str, name: str, subject: str, *values: str) -> str:
        """The pattern with its words filled in; one in capitals stays in capitals."""
        rng, words = self.rng, dict(zip("VOP", values, strict=True))
        words |= {"N": subject, "S": subject.split()[-1], "n": str(rng.randint(2, 99))}
        words |= {letter: self._person() for letter in "XYZ"}
        roles = "players" if name in ("team", "coach") else "jobs"
        for letter, of_kind in zip(
            "rdoc", (roles, "dates", "organisations", "places"), strict=True
        ):
            words[letter] = rng.choice(self.words[of_kind])
        text = re.sub(r"\{(\w)\}", lambda found: words[found[1]], pattern)
        text = re.sub(r"\b([Tt]he) the\b", r"\1", text)
        bare = re.sub(r"\{\w\}", "", pattern)
        in_capitals = bare.upper() == bare and re.search("[A-Z]{3}", bare)
        return text.upper() if in_capitals else text[0].upper() + text[1:]

    def between(self, text: str) -> str:
        rng, around = self.rng, self.around
        drawn = rng.random()
        if drawn < 0.18:
            return f"{text} {rng.choice(around)}"
        if drawn < 0.34:
            return f"{rng.choice(around)} {text}"
        if drawn < 0.42:
            return f"{rng.choice(around)} {text} {rng.choice(around)}"
        if drawn < 0.55:
            heading = (rng.choice(self.words[kind]) for kind in ("organisations", "dates"))
            return f"{', '.join(heading)}\n{text}"
        return text

    def roughened(self, text: str, answer: str | None) -> tuple[str, str | None]:
        drawn = self.rng.random()
        if drawn < 0.08:
            return text.upper(), answer and answer.upper()
        if drawn < 0.11:
            return text.lower(), answer and answer.lower()
        return (f"{text.strip('.')} …", answer) if drawn < 0.16 else (text, answer)


def _as_written(value: str, text: str) -> str:
    """The value in the letters that the text has it in."""
    found = re.search(re.escape(value), text, re.IGNORECASE)
    return found[0] if found else value


def asked(file: Path, number: int, rng: random.Random) -> list[Example]:
    """`number` questions of a file on short texts, some with another text of their article."""
    rows = valid_rows(file)
    seen, _ = hold_out(rows.documents, articles=HELD_OUT)
    texts = {row["doc_id"]: row for row in seen.to_pylist() if len(row["text"]) <= 800}
    of_title: dict[str, list[str]] = {}
    for row in texts.values():
        of_title.setdefault(row["title"] or "", []).append(row["text"])
    questions = [row for row in rows.questions.to_pylist() if row["doc_id"] in texts]
    examples = []
    for row in rng.sample(questions, min(number, len(questions))):
        document, answers = texts[row["doc_id"]], row["answers"]
        heading = f"{document['title']}\n" if document["title"] and rng.random() < 0.5 else ""
        read = [heading + document["text"]]
        other = rng.choice(of_title[document["title"] or ""])
        if answers and rng.random() < 0.4 and answers[0] not in other:
            read.append(heading + other)
        question = as_typed(row["question"]) if rng.random() < TYPED else row["question"]
        examples.append(Example(question, read, answers[0] if answers else None))
    return examples


def as_typed(question: str) -> str:
    """The question in lower case and without its mark, as people type it into a search box."""
    return question.rstrip("? ").lower()


def reported(folder: Path, rng: random.Random) -> Iterator[Example]:
    """The questions of stories, each on the document that answers it, twice."""
    texts = {row["doc_id"]: row["text"] for row in read_lines(folder, "documents")}
    for row in read_lines(folder, "questions"):
        for _ in range(2):
            others = [rng.choice(list(texts.values()))] if rng.random() < 0.6 else []
            yield Example(row["question"], [texts[row["doc_id"]], *others], row["answers"][0])


def item_of(example: Example, lm: FrozenLM) -> Item | None:
    """The tokens of an example; None if its first text lacks the answer."""
    texts, spans = [], []
    for number, text in enumerate(example.texts):
        encoded = lm.tokenizer(text, add_special_tokens=False, truncation=True, max_length=LONGEST)
        texts.append(list(encoded.input_ids))
        if number == 0 and example.answer:
            spans = occurrences(example.answer, text, encoded)
    if not all(texts) or (example.answer and not spans):
        return None
    return Item(lm.tokenize(" " + example.question), texts, spans)


def costwise(items: Sequence[Item], rng: random.Random) -> list[list[Item]]:
    """Batches of items of similar length and at most TOKENS tokens, in random order."""
    batches: list[list[Item]] = [[]]
    for item in sorted(items, key=lambda item: max(map(len, item.texts))):
        if batches[-1] and sum(each.cost for each in batches[-1]) + item.cost > TOKENS:
            batches.append([])
        batches[-1].append(item)
    return rng.sample(batches, len(batches))


# 2. training


class Training:
    """ψ in training."""

    def __init__(self, lm: FrozenLM, output: Path, rate: float) -> None:
        self.output, folder = output, ROOT / "data/compressor"
        self.encoder = load_memory_model(folder, lm=lm, merged=True)
        checkpoint = load_checkpoint(folder)
        self.model = new_memory_model(lm, checkpoint.config, trainable=True)
        self.model.load_weights(checkpoint.weights, merged=False)
        self.reader = self.model.aggregator
        named = self.reader.named_parameters()
        self.trained = Trained(
            {name: weight for name, weight in named if weight.requires_grad},
            output / "state.pt",
            rate,
            share_of=lambda name: 1.0 if "lora" in name else 0.5,
        )
        self.layers = adapted_layers(self.reader.blocks)

    def run(self, batches: Sequence[Sequence[Item]], seconds: float, kept: float) -> None:
        """Train for `seconds` of the processor in all, and write the compressor."""
        self.trained.run(batches, self._loss, seconds)
        for name, weight in self.trained.averaged(kept).items():
            self.trained.named[name].data = weight
        self.model.save(self.output / "compressor")
        for name in ("codebooks.safetensors", "cross_encoder.safetensors"):
            shutil.copy(ROOT / "data/compressor" / name, self.output / "compressor" / name)

    def _loss(self, batch: Sequence[Item], number: int) -> Tensor:
        """The loss of a batch; the step `number` draws its window."""
        merge(self.layers)
        window = random.Random(number).choices(list(WINDOWS), list(WINDOWS.values()))[0]
        return span_loss(*self._scores(batch, window))

    def _scores(self, batch: Sequence[Item], window: int) -> tuple[Tensor, Tensor]:
        """ψ's scores (Q, S, n, 2) of the tokens of a batch, and the gold tokens (Q, G, 2)."""
        # 1. encode the texts, each once, and the questions
        texts = list(dict.fromkeys(tuple(text) for item in batch for text in item.texts))
        place = {text: number for number, text in enumerate(texts)}
        with torch.no_grad(), self.encoder.autocast():
            memories = self.encoder.encode([list(text) for text in texts], group=16, window=window)
            question = self.encoder.encode([item.question for item in batch], group=32)
        # 2. lay them out by question
        most = max(len(item.texts) for item in batch)
        read = torch.full((len(batch), most), -1)
        for row, item in enumerate(batch):
            read[row, : len(item.texts)] = torch.tensor([place[tuple(t)] for t in item.texts])
        ids = torch.full((len(texts), memories.vectors.shape[1] * window), -1)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        chosen, present = read.clamp(min=0), (read >= 0).unsqueeze(-1)
        mask = memories.vector_mask[chosen] * present
        # 3. read them
        vectors, tokens = memories.vectors[chosen].float(), ids[chosen].masked_fill(~present, -1)
        with torch.autocast("cpu", torch.bfloat16):
            scores = self.reader(question, vectors, mask, tokens)  # (Q, S, n, 2)
        most = max(1, max(len(item.spans) for item in batch))
        gold = torch.full((len(batch), most, 2), -1)
        for row, item in enumerate(batch):
            nowhere = scores[0, ..., 0].numel()
            spans = item.spans or [(nowhere, nowhere)]
            gold[row, : len(spans)] = torch.tensor(spans)
        return scores, gold


if __name__ == "__main__":
    run_script(main)
