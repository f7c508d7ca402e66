"""Training data as steps: paragraphs with their questions, drawn so that every step is a pure function of the seed."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch.utils.data import Dataset

from cmt.config import Params
from cmt.errors import StreamError
from cmt.lm.model import FrozenLM

PARAGRAPHS_PER_ARTICLE = 4  # paragraphs of one article in a step: each other's hard negatives
TEACHER_FORCING_START, TEACHER_FORCING_END = (
    1.0,
    0.2,
)  # probability that the right tokens are the quote, from start to end
TEACHER_FORCING_RESUMED = 0.5  # at the start of a training that goes on from a trained compressor
TITLE_DROPOUT = 0.5
MAX_ANSWER_TOKENS = 16


AnswerPlaces = list[tuple[int, int]]
"""First and last token of each occurrence of an answer in its document."""
TrainingQuestion = tuple[list[int], list[int], int, AnswerPlaces]
"""Question ids, answer ids with end-of-sequence, row of the document, where the answer stands in it."""


@dataclass(frozen=True)
class Paragraph:
    """A document ready to train on; token ids without BOS."""

    title: list[int]
    text: list[int]
    questions: list[tuple[list[int], list[int], AnswerPlaces]]
    """(question ids, answer ids with end-of-sequence, where the answer stands in `text`)."""
    article: str


def paragraphs(documents: pa.Table, questions: pa.Table, *, lm: FrozenLM, longest: int) -> list[Paragraph]:
    """Documents that have questions whose answer stands verbatim in their first `longest` tokens."""
    asked = defaultdict(list)
    for row in questions.select(["doc_id", "question", "answers"]).to_pylist():
        asked[row["doc_id"]].append((row["question"], row["answers"][0]))
    rows = [row for row in documents.select(["doc_id", "title", "text"]).to_pylist() if row["doc_id"] in asked]
    made = [_paragraph(row, asked[row["doc_id"]], lm, longest) for row in rows]
    return [paragraph for paragraph in made if paragraph.questions]


def seeded_random(seed: int | float | str) -> random.Random:
    return random.Random(seed)


def _paragraph(row: dict[str, Any], asked: Sequence[tuple[str, str]], lm: FrozenLM, longest: int) -> Paragraph:
    coded = lm.tokenizer(row["text"], add_special_tokens=False, truncation=True, max_length=longest)
    found = []
    for question, answer in asked:
        ids = lm.tokenize(" " + answer)
        places = _occurrences(answer, row["text"], coded)
        if places and len(ids) < MAX_ANSWER_TOKENS:
            found.append((lm.tokenize(" " + question), [*ids, lm.eos], places))
    title = row["title"] or ""
    return Paragraph(lm.tokenize(title + "\n") if title else [], coded.input_ids, found, title or row["doc_id"])


def _occurrences(answer: str, text: str, coded: Any) -> AnswerPlaces:
    """As whole words, or, where it is none anywhere, as part of some; only those inside the tokens that are read."""
    whole = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)]
    starts = whole or [match.start() for match in re.finditer(re.escape(answer), text)]
    ends = [(coded.char_to_token(start), coded.char_to_token(start + len(answer) - 1)) for start in starts]
    return [(first, last) for first, last in ends if first is not None and last is not None]


class StepDataset(Dataset[dict[str, Any]]):
    """All steps of a run, a pure function of data, params and seed: resuming at step n sees what it would have seen."""

    def __init__(self, pool: Sequence[Paragraph], params: Params) -> None:
        self.pool, self.params = pool, params
        if not pool:
            raise StreamError("no question has its answer verbatim in its document: nothing to train on")
        source = seeded_random(params.seed)
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
            groups += [members[i : i + PARAGRAPHS_PER_ARTICLE] for i in range(0, len(members), PARAGRAPHS_PER_ARTICLE)]
        source.shuffle(groups)
        flat = [index for group in groups for index in group]
        size = self.params.train.paragraphs
        return [flat[i : i + size] for i in range(0, len(flat), size)]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source = seeded_random(f"{self.params.seed}/{index}")
        documents, asked = [], []
        for row, member in enumerate(self.steps[index]):
            paragraph = self.pool[member]
            title = [] if source.random() < TITLE_DROPOUT else paragraph.title
            documents.append(title + paragraph.text)
            count = min(self.params.train.questions_per_paragraph, len(paragraph.questions))
            for question, answer, places in source.sample(paragraph.questions, count):
                moved = [(len(title) + first, len(title) + last) for first, last in places]
                asked.append((question, answer, row, moved))
        source.shuffle(asked)
        done = index / max(1, len(self.steps))
        first = TEACHER_FORCING_RESUMED if self.params.train.start else TEACHER_FORCING_START
        forced = first + (TEACHER_FORCING_END - first) * done
        return {"documents": documents, "asked": asked, "forced": forced, "draw": source.random()}
