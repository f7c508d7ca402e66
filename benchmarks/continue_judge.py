"""Continue the training of the cross-encoder on one core, on pairs that answers and rounds judge.

    python benchmarks/continue_judge.py --output FOLDER --plain plain.jsonl.xz --news portal \
        --news data/offices/transport --news data/offices/hospital --articles train-v1.1.json:600

The pairs come from five places:

1. `--news`: a folder that `undeclared_changes.py` measures. Its questions are answered, and its
   changes are searched for, in a bank of its documents; each pair that the judge is asked about is
   labelled by the documents with the right answers.
2. `--articles`: a file in SQuAD's layout and a number of its paragraphs, with random dates. No fact
   changes there.
3. `told.yaml`: two sentences that tell a fact of one subject, or of different ones, or no fact.
4. `--plain`: dated paragraphs, in which an office has another holder than years before, or a person
   another office.
5. `data/stories`, without the writers of `UNSEEN`.

The mean of the weights over the last steps is averaged with the weights at the start. A checkpoint
is written every ten minutes, and the same command continues from it.
"""

import json
import lzma
import math
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
import typer
import yaml
from changes import asked_at
from continue_reader import Scene
from one_core import Trained, adapted_layers, merge
from protocol import ROOT, UNSEEN, read_lines, valid_rows
from safetensors.torch import load_file, save
from torch import Tensor, nn
from train_cross_encoder import LAYERS, RANK, Writer, published, report
from undeclared_changes import DataSet

import cmt
from cmt.answering.judge import Judge, Statement, excerpt
from cmt.cli.context import run_script
from cmt.cli.output import console
from cmt.common.arrow import replace_column, rows_with
from cmt.common.storage import write_bytes
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.changes.questions import RELATIONS
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.decoding import Generation
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import pad
from cmt.modeling.cross_encoder import FILE, DatedText, Odds, reading
from cmt.modeling.lora import layers_with_lora
from cmt.text.answers import same_value, words_of
from cmt.text.names import NAME_WORD
from cmt.training.data import hold_out

TOKENS = 6_000  # of all pairs in a step, with padding
FROZEN = 9  # layers from below whose adapters stay, so that no gradient passes through them
HELD_OUT = 20  # articles of each file, as in `train.validation_articles`
UNKNOWN = float("nan")
NOT_ASKED = Odds(0.0, 0.0)
# relation of told.yaml → the question of a round about it
MADE = dict(team=0, position=1, home=2, seat=2)
OFFICE = re.compile(
    rf"(?P<former>\b[Ff]ormer |\b[Ee]x-|\b[Vv]ice[ -]|\b[Dd]eputy )?"
    rf"(?P<office>(?:{NAME_WORD} ){{0,3}}(?:President|Prime Minister|Chancellor|Premier|Governor|"
    rf"Foreign (?:Minister|Secretary)|(?:Defen[cs]e|Finance|Interior|Health|Justice) Minister|"
    rf"Secretary of \w+|Attorney General|Mayor|Speaker|CEO|chairman|captain|manager|coach|"
    rf"spokesman|Pope|King|Queen)),? (?P<name>{NAME_WORD}(?: {NAME_WORD})+)"
)

Row = dict[str, Any]


class Pair(NamedTuple):
    """A question, two dated texts, and the labels of both outcomes: 0, 1 or NaN (unknown)."""

    question: str
    earlier: DatedText
    later: DatedText
    holds: float
    changed: float


def main(  # noqa: PLR0913 - each is an option of the command
    output: Annotated[Path, typer.Option(help="Folder for the weights and the checkpoint.")],
    plain: Annotated[Path, typer.Option(help="Dated paragraphs, JSON lines as .xz.")],
    news: Annotated[list[Path], typer.Option(help="Folder of questions on changes.")] = [],  # noqa: B006
    articles: Annotated[list[str], typer.Option(help="FILE:NUMBER of paragraphs.")] = [],  # noqa: B006
    told: Annotated[int, typer.Option(help="Pairs of told.yaml.")] = 3_500,
    dated: Annotated[int, typer.Option(help="Pairs of dated paragraphs.")] = 2_500,
    stories: Annotated[int, typer.Option(help="Pairs of data/stories.")] = 7_000,
    seconds: Annotated[float, typer.Option(help="Duration, of the processor.")] = 2_700,
    kept: Annotated[float, typer.Option(help="Share of the weights at the start.")] = 0.3,
    rate: float = 2e-4,
) -> None:
    """Continue the training, and write the weights of the cross-encoder."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    lm, rng = cmt.open(params=ROOT / "params.yaml").project.lm, random.Random(1)
    stored = output / "pairs.jsonl"
    if not stored.exists():
        pairs = [pair for folder in news for pair in judged_pairs(DataSet.read(folder), rng)]
        for of_file in articles:
            path, _, number = of_file.rpartition(":")
            pairs += judged_pairs(unchanged(Path(path), int(number), rng), rng)
        console().print(f"{len(pairs):,} judged pairs")
        pairs += islice(told_pairs(plain, rng), told)
        pairs += islice(dated_pairs(plain, rng), dated)
        pairs += story_pairs(stories, rng)
        rng.shuffle(pairs)
        stored.write_text("".join(f"{json.dumps(pair, default=str)}\n" for pair in pairs))
    pairs = [read_pair(line) for line in stored.read_text().splitlines()]
    console().print(f"{len(pairs):,} pairs")
    train(lm, pairs, output, seconds, kept, rate)


def read_pair(line: str) -> Pair:
    """The pair of a line of JSON."""
    question, earlier, later, holds, changed = json.loads(line)
    earlier, later = (DatedText(text, date.fromisoformat(day)) for text, day in (earlier, later))
    return Pair(question, earlier, later, holds, changed)


# 1. pairs


def judged_pairs(data: DataSet, rng: random.Random) -> Iterator[Pair]:
    """The pairs that answers to the questions and the search for changes judge, as far as the data
    tell the outcome.
    """
    workspace = cmt.open(params=ROOT / "params.yaml")
    path, params = workspace.params.compressor.path, workspace.params
    bank = TemporaryBank.of(path, lm=workspace.project.lm, documents=data.documents, params=params)
    asked = list[tuple[str, Statement, Statement]]()

    def note(_: Judge, question: str, earlier: Statement, later: Statement) -> Odds:
        asked.append((question, earlier, later))
        return NOT_ASKED

    # 1. ask, and note the pairs
    with bank.answerer() as answerer, patch.object(Judge, "read", note):
        find_changes(answerer, bank.rows)
        made = len(asked)
        dates = [asked_at(row) for row in data.questions]
        silent = replace(answerer, generate=say_nothing)
        silent.answer([row["question"] for row in data.questions], as_of=dates)
    # 2. label them
    labels = Labels(data, {row["text"]: row["doc_id"] for row in bank.rows.to_pylist()})
    for number, (question, earlier, later) in enumerate(asked):
        texts = [DatedText(excerpt(one), one.published_at.date()) for one in (earlier, later)]
        label = labels.made if number < made else labels.natural
        holds, changed = label(question, earlier, later)
        if holds == holds or changed == changed:
            yield Pair(question, texts[0], texts[1], holds, changed)


def say_nothing(_: FrozenLM, prompt: Any, **_options: Any) -> Generation:
    """No text: only the pairs are of interest."""
    number = len(prompt.embeds)
    return Generation([[] for _ in range(number)], [math.inf] * number)


class Labels:
    """What a data set tells about a pair of statements."""

    def __init__(self, data: DataSet, document: dict[str, str]) -> None:
        self.data, self.document = data, document
        self.values = defaultdict[str, list[str]](list)
        self.questions = defaultdict[str, list[Row]](list)
        for row in data.questions:
            self.values[row["doc_id"]] += row["answers"]
            self.questions[row["question"]].append(row)

    def natural(self, question: str, earlier: Statement, later: Statement) -> tuple[float, float]:
        """P(holds) and P(changed) for a question of the data set.

        The right document holds, unless the other text has the right answer, too.
        """
        ids = self.document[earlier.text], self.document[later.text]
        rows = self.questions[question]
        right = [row for row in rows if row["doc_id"] in ids]
        linked = ids in self.data.right
        if not right:
            return UNKNOWN, UNKNOWN if linked else 0.0
        later_is_right = right[-1]["doc_id"] == ids[1]
        other = earlier if later_is_right else later
        if len(rows) > 1 and linked:  # asked before and after the change
            later_is_right, other = True, earlier
        answers = [answer for row in right for answer in row["answers"]]
        if not linked and any(words_of(one) <= words_of(other.text) for one in answers):
            return UNKNOWN, 0.0
        return float(later_is_right), float(later_is_right and linked)

    def made(self, question: str, earlier: Statement, later: Statement) -> tuple[float, float]:
        """P(holds) and P(changed) for a question that the search for changes made."""
        ids = self.document[earlier.text], self.document[later.text]
        if ids not in self.data.right:
            return UNKNOWN, 0.0
        old = any(same_value(earlier.answer, value) for value in self.values[ids[0]])
        new = any(same_value(later.answer, value) for value in self.values[ids[1]])
        return (1.0, 1.0) if old or new else (UNKNOWN, UNKNOWN)


def unchanged(file: Path, number: int, rng: random.Random) -> DataSet:
    """Paragraphs of a file with random dates, and a question on each."""
    rows = valid_rows(file)
    seen, _ = hold_out(rows.documents, articles=HELD_OUT)
    titles = rng.sample(sorted({*seen["title"].to_pylist()}), k=60)
    texts = [row for row in seen.to_pylist() if row["title"] in titles]
    texts = rng.sample(texts, min(number, len(texts)))
    first = datetime(2019, 1, 1, tzinfo=UTC)
    dates = [first + timedelta(rng.randrange(2000)) for _ in texts]
    documents = rows_with(seen, "doc_id", {row["doc_id"] for row in texts})
    documents = replace_column(documents, "published_at", dates)
    for name in ("source", "supersedes"):
        documents = replace_column(documents, name, [None] * documents.num_rows)
    of_text = defaultdict[str, list[Row]](list)
    for row in rows.questions.to_pylist():
        of_text[row["doc_id"]].append(row)
    asked = [rng.choice(of_text[row["doc_id"]]) for row in texts if of_text[row["doc_id"]]]
    questions = [row | {"kind": "plain", "asked_at": "2026-01-01"} for row in asked]
    return DataSet(documents, questions, set(), set())


def told_pairs(plain: Path, rng: random.Random) -> Iterator[Pair]:
    """Pairs of sentences of told.yaml."""
    patterns = yaml.safe_load(Path(__file__).with_name("told.yaml").read_text(encoding="utf-8"))
    around = [row["text"].split(". ")[0].rstrip(".") + "." for row in lines(plain, rng, 8_000)]
    around = [text for text in around if 30 < len(text) < 220]
    scene = Scene(patterns["words"], patterns["relations"], around, rng)
    names = list(scene.relations)
    while True:
        name = rng.choices(names, [2 if name in MADE else 1 for name in names])[0]
        relation, subject = scene.relations[name], scene.subject(name)
        old, new, third = scene.values(name, subject)

        def tell(kind: str, about: str, value: str, other: str, of: str = name) -> str:
            pattern = rng.choice(scene.relations[of][kind])
            text = scene.fill(pattern, of, about, value, other, scene.values(of, about)[2])
            return scene.roughened(scene.between(text), None)[0]

        question = rng.choice(relation["questions"]).format(N=subject)
        if name in MADE and rng.random() < 0.5:
            question = RELATIONS[MADE[name]].format(subject)
        first = tell("told", subject, old, third)
        drawn = rng.random()
        holds = changed = 0.0
        if drawn < 0.42:
            texts, holds, changed = (first, tell("told", subject, new, old)), 1.0, 1.0
        elif drawn < 0.56:
            texts = first, tell("aside", subject, "", new)
        elif drawn < 0.68:
            texts = first, tell("told", scene.subject(name), new, old)
        elif drawn < 0.8:
            kin = [other for other in names if other != name and same_subjects(other, name)]
            other = rng.choice(kin or [name])
            about = subject if kin else scene.subject(name)
            values = scene.values(other, about)
            texts = first, tell("told", about, values[0], values[1], other)
        elif drawn < 0.88:
            texts, holds = (tell("aside", subject, "", old), tell("told", subject, new, old)), 1.0
        elif drawn < 0.95:
            about = scene.subject(name)
            texts, holds = (tell("told", about, old, new), tell("told", subject, new, old)), 1.0
        else:
            texts = first, rng.choice(around)
        yield Pair(question, *dated_texts(texts, rng), holds, changed)


def same_subjects(name: str, other: str) -> bool:
    """Whether both relations of told.yaml are about persons."""
    persons = ("team", "position", "employer", "home", "party", "partner")
    return name in persons and other in persons


def dated_texts(texts: Sequence[str], rng: random.Random) -> tuple[DatedText, DatedText]:
    """Both texts with random dates in their order."""
    first = date(2005, 1, 1) + timedelta(rng.randrange(8_000))
    second = first + timedelta(1 + int(rng.expovariate(1 / 300)))
    return DatedText(texts[0], first), DatedText(texts[1], second)


def dated_pairs(plain: Path, rng: random.Random) -> Iterator[Pair]:
    """Pairs of paragraphs in which an office has two holders, or a holder two offices, one after
    the other; and paragraphs that only mention the name.
    """
    # 1. who holds what, by date
    rows = sorted(lines(plain, rng, None), key=lambda row: row["published_at"])
    mentions = defaultdict[tuple[str, str], list[tuple[Row, str]]](list)
    texts_of = defaultdict[str, list[Row]](list)
    for row in rows:
        for word in set(re.findall(NAME_WORD, row["text"])):
            texts_of[word].append(row)
        for match in OFFICE.finditer(row["text"]):
            name, office = match["name"], match["office"]
            if match["former"]:
                texts_of[office].append(row)
            elif len(office.split()) > 1 and name.split()[-1] not in office:
                mentions["office", office].append((row, name))
                mentions["person", name].append((row, office))
    # 2. pairs of two values whose times do not overlap
    keys = [key for key, found in mentions.items() if len({value for _, value in found}) > 1]
    while True:
        kind, subject = rng.choice(keys)
        found = mentions[kind, subject]
        days = defaultdict[str, list[str]](list)
        for row, value in found:
            days[value].append(row["published_at"])
        (row, old), (other, new) = sorted(
            rng.sample(found, 2), key=lambda mention: mention[0]["published_at"]
        )
        question = (
            rng.choice(["Who is the {}?", "Who is {}?", "Who leads {}?"]).format(subject)
            if kind == "office"
            else rng.choice(
                [RELATIONS[1], "What office does {} hold?", "Which post does {} have?"]
            ).format(subject)
        )
        texts = DatedText(row["text"], day(row)), DatedText(other["text"], day(other))
        if rng.random() < 0.45:
            word = subject.split()[0 if kind == "office" else -1]
            third = rng.choice(texts_of[subject if rng.random() < 0.5 else word] or rows)
            states = [match for match in OFFICE.finditer(third["text"]) if not match["former"]]
            is_later = third["published_at"] > row["published_at"]
            if is_later and not any(subject in match[0] for match in states):
                yield Pair(question, texts[0], DatedText(third["text"], day(third)), 0.0, 0.0)
            continue
        apart = max(days[old]) < min(days[new])
        if old in new or new in old or not apart or row["text"] == other["text"]:
            continue
        yield Pair(question, *texts, 1.0, 1.0)


def story_pairs(number: int, rng: random.Random) -> list[Pair]:
    """Pairs of `data/stories`: two thirds of their own questions, and half of all in one story."""
    documents, questions, links = (
        read_lines(ROOT / "data/stories", name) for name in ("documents", "questions", "links")
    )
    letters = sorted({story["story"][0] for story in links} - set(UNSEEN))
    pairs = list[tuple[bool, Pair]]()
    for letter in rng.sample(letters, 30):
        writer = Writer(
            letter,
            {row["doc_id"]: row for row in documents if row["doc_id"][0] == letter},
            [question for question in questions if question["doc_id"][0] == letter],
            [story for story in links if story["story"][0] == letter],
        )
        for examples, share in ((writer.natural(), 1.0), (writer.made(), 0.5)):
            for question, one, other, when, labels, weight in examples:
                if when != published(other) or rng.random() > share:
                    continue
                left_out = ("source",) * (rng.random() < 0.6) + ("title",) * (rng.random() < 0.3)
                earlier, later = (report(row | dict.fromkeys(left_out)) for row in (one, other))
                holds, changed = (UNKNOWN if label is None else float(label) for label in labels)
                pairs.append((weight == 1.0, Pair(question, earlier, later, holds, changed)))
    own = [pair for is_own, pair in pairs if is_own]
    others = [pair for is_own, pair in pairs if not is_own]
    return rng.sample(own, number * 6 // 10) + rng.sample(others, number * 4 // 10)


def lines(file: Path, rng: random.Random, number: int | None) -> list[Row]:
    """The rows of a packed file, or `number` of them."""
    with lzma.open(file, "rt") as packed:
        rows = [json.loads(line) for line in packed]
    return rng.sample(rows, number) if number else rows


def day(row: Row) -> date:
    """The day of a row."""
    return date.fromisoformat(row["published_at"][:10])


# 2. training


def train(
    lm: FrozenLM, pairs: Sequence[Pair], output: Path, seconds: float, kept: float, rate: float
) -> None:
    """Train for `seconds` of the processor in all, from the weights in use on, and write them."""
    # 1. the model, with the weights in use
    decoder = layers_with_lora(lm, 0, LAYERS, RANK)
    head = nn.Linear(lm.hidden_size, len(Odds._fields))
    # its gradient is faster than that of the fused attention
    decoder.config._attn_implementation = "eager"  # type: ignore[union-attr]  # noqa: SLF001
    named = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    named |= {f"head.{name}": p for name, p in head.named_parameters()}
    start = load_file(ROOT / "data/compressor" / FILE)
    for name, weight in named.items():
        weight.data = start[name].float()
        if layer := re.search(r"layers\.(\d+)\.", name):
            weight.requires_grad_(int(layer[1]) >= FROZEN)
    trained, layers = Trained(named, output / "state.pt", rate), adapted_layers(decoder)

    def loss_of(batch: Sequence[Item], _number: int) -> Tensor:
        merge(layers)
        ids, mask = pad([tokens for tokens, _ in batch], left=False, device=lm.device)  # (B, T)
        with torch.autocast("cpu", torch.bfloat16):
            states = decoder(
                inputs_embeds=lm.embed(ids), attention_mask=mask, use_cache=False
            ).last_hidden_state  # (B, T, D)
        found = head(states[torch.arange(len(ids)), mask.sum(1) - 1].float())  # (B, 2)
        return known_loss(found, torch.tensor([label for _, label in batch]))

    # 2. the training
    batches = costwise([item_of(lm, pair) for pair in pairs], random.Random(2))
    trained.run(batches, loss_of, seconds)
    # 3. the weights
    tensors = {
        name: weight.detach().to(start[name].dtype).contiguous()
        for name, weight in trained.averaged(kept).items()
    }
    write_bytes(output / FILE, save(tensors, {"lm_digest": lm.digest}))


Item = tuple[list[int], tuple[float, float]]


def item_of(lm: FrozenLM, pair: Pair) -> Item:
    """The tokens and the labels of a pair."""
    tokens = reading(lm, pair.question, pair.earlier, pair.later, pair.later.published)
    return tokens, (pair.holds, pair.changed)


def costwise(items: Sequence[Item], rng: random.Random) -> list[list[Item]]:
    """Batches of items of similar length and at most TOKENS tokens, in random order."""
    batches: list[list[Item]] = [[]]
    for item in sorted(items, key=lambda item: (len(item[0]), rng.random())):
        if (len(batches[-1]) + 1) * len(item[0]) > TOKENS:
            batches.append([])
        batches[-1].append(item)
    return rng.sample(batches, len(batches))


def known_loss(found: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of the log-odds `found` (B, 2) over the labels (B, 2) that are no NaN."""
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(found, labels.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


if __name__ == "__main__":
    run_script(main)
