"""Training steps: paragraphs with questions; each step is a pure function of data, params and
seed.
"""

import random
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from torch.utils.data import Dataset

from cmt.config import Params
from cmt.errors import StreamError
from cmt.lm.model import FrozenLM
from cmt.training.sources import source_name

PARAGRAPHS_PER_ARTICLE = 4  # of one article in a step, as hard negatives of each other
TEACHER_FORCING_START = 1.0  # probability that the gold span is the quote, at the first step
TEACHER_FORCING_END = 0.2  # … and at the last step; linear in between
# … at the first step of a training that starts from a trained compressor
TEACHER_FORCING_RESUMED = 0.5
TITLE_DROPOUT = 0.5
MAX_ANSWER_TOKENS = 16

GoldSpans = list[
    tuple[int, int]
]  # first and last token of each occurrence of an answer in its document


class ParagraphQuestion(NamedTuple):
    """A question on a paragraph, as token ids."""

    question: list[int]
    answer: list[int]  # with end-of-sequence
    gold_spans: GoldSpans  # occurrences of the answer in the paragraph's text


@dataclass(frozen=True)
class Paragraph:
    """A document to train on, as token ids without BOS."""

    title: list[int]
    text: list[int]
    questions: list[ParagraphQuestion]
    unanswerable: list[list[int]]  # questions that `text` seems to answer but does not
    article: str
    # the `source` of the document; with several sources, the `source_name` of the source it counts
    # for
    source: str


@dataclass(frozen=True)
class TrainingQuestion:
    """A question of one step, as token ids."""

    question: list[int]
    answer: list[int]  # with end-of-sequence; empty for an unanswerable question
    document: int  # index of its document in the step
    # occurrences of the answer in that document; none for an unanswerable question
    gold_spans: GoldSpans


def paragraphs(
    documents: pa.Table, questions: pa.Table, *, lm: FrozenLM, longest: int
) -> list[Paragraph]:
    """Documents with at least one usable question: unanswerable, or with an answer in the first
    `longest` tokens.

    An answer has to be verbatim there and shorter than MAX_ANSWER_TOKENS; other questions are left
    out.
    """
    pairs_by_document = defaultdict(list)
    for row in questions.select(["doc_id", "question", "answers"]).to_pylist():
        pairs_by_document[row["doc_id"]].append(
            (row["question"], row["answers"][0] if row["answers"] else None)
        )
    result = []
    for row in documents.select(["doc_id", "title", "text", "source"]).to_pylist():
        if row["doc_id"] not in pairs_by_document:
            continue
        # 1. the text, cut to `longest` tokens
        encoding = lm.tokenizer(
            row["text"], add_special_tokens=False, truncation=True, max_length=longest
        )
        # 2. its questions
        usable, unanswerable = [], []
        for question, answer in pairs_by_document[row["doc_id"]]:
            if answer is None:
                unanswerable.append(lm.tokenize(" " + question))
                continue
            answer_ids = lm.tokenize(" " + answer)
            gold_spans = occurrences(answer, row["text"], encoding)
            if gold_spans and len(answer_ids) < MAX_ANSWER_TOKENS:
                usable.append(
                    ParagraphQuestion(
                        lm.tokenize(" " + question), [*answer_ids, lm.eos], gold_spans
                    )
                )
        # 3. its title, which names the article
        title = row["title"] or ""
        title_ids = lm.tokenize(title + "\n") if title else []
        if usable or unanswerable:
            article, source = title or row["doc_id"], row["source"] or ""
            result.append(
                Paragraph(title_ids, encoding.input_ids, usable, unanswerable, article, source)
            )
    return result


def occurrences(answer: str, text: str, encoding: Any) -> GoldSpans:
    """Token spans of `answer` in the encoded `text`: as whole words, or as part of a word if it is
    never one.
    """
    whole_words = [
        match.start() for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    ]
    starts = whole_words or [match.start() for match in re.finditer(re.escape(answer), text)]
    spans = [
        (encoding.char_to_token(start), encoding.char_to_token(start + len(answer) - 1))
        for start in starts
    ]
    # None: beyond the tokens that are read
    return [(first, last) for first, last in spans if first is not None and last is not None]


class StepDataset(Dataset[dict[str, Any]]):
    """All steps of a training run. Step n is equal in a resumed run and, except for teacher
    forcing, in a longer one.

    An item holds the arguments of `TrainingStep.forward`. Paragraphs without an answered question
    are drawn only with several sources and `train.unanswerable_per_paragraph`. Raises StreamError
    if there is no answered question, none in some step, or no paragraph of some source.
    """

    def __init__(self, pool: Sequence[Paragraph], params: Params) -> None:
        with_unanswerable = params.train.shares and params.train.unanswerable_per_paragraph
        self.pool = [paragraph for paragraph in pool if paragraph.questions or with_unanswerable]
        self.params = params
        if not any(paragraph.questions for paragraph in pool):
            raise StreamError(
                "no question has its answer verbatim in its document: nothing to train on, name "
                "another train.source"
            )
        rng = random.Random(params.seed)
        self.steps: list[list[int]] = []  # indices into `pool`
        questions, endless = 0, self._mixed(rng) if params.train.shares else self._epochs(rng)
        while questions < params.train.questions:
            step = next(endless)
            answered = sum(
                min(params.train.questions_per_paragraph, len(self.pool[i].questions)) for i in step
            )
            if not answered:
                raise StreamError(
                    f"no question of step {len(self.steps) + 1} has an answer: give the sources "
                    "with answers a larger share in train.mix, or a step more "
                    "research.train.paragraphs"
                )
            self.steps.append(step)
            questions += answered

    def _epochs(self, rng: random.Random) -> Iterator[list[int]]:
        """Endless steps, with every paragraph once an epoch."""
        size = self.params.train.paragraphs
        while True:
            order = [index for group in self._groups(range(len(self.pool)), rng) for index in group]
            yield from (order[i : i + size] for i in range(0, len(order), size))

    def _mixed(self, rng: random.Random) -> Iterator[list[int]]:
        """Endless steps that mix several sources by their shares. Raises StreamError if one has no
        paragraph.
        """
        shares = {source_name(source): share for source, share in self.params.train.shares.items()}
        members = {
            name: [i for i, paragraph in enumerate(self.pool) if paragraph.source == name]
            for name in shares
        }
        if missing := [name for name in shares if not members[name]]:
            raise StreamError(
                f"train.mix: no paragraph to train on counts for {', '.join(missing)}. A document "
                "in several sources counts for the last one: name a source after any source that "
                "contains it. Unanswerable questions need "
                "research.train.unanswerable_per_paragraph"
            )
        groups: dict[str, deque[list[int]]] = {name: deque() for name in shares}
        drawn, order = dict.fromkeys(shares, 0), list[int]()
        while True:
            while len(order) < self.params.train.paragraphs:
                behind = min(shares, key=lambda name: drawn[name] / shares[name])
                if not groups[behind]:
                    groups[behind].extend(self._groups(members[behind], rng))
                group = groups[behind].popleft()
                drawn[behind] += len(group)
                order += group
            yield order[: self.params.train.paragraphs]
            order = order[self.params.train.paragraphs :]

    def _groups(self, indices: Iterable[int], rng: random.Random) -> list[list[int]]:
        """Each of these paragraphs once, in shuffled groups of at most PARAGRAPHS_PER_ARTICLE from
        one article.
        """
        articles = defaultdict(list)
        for index in indices:
            articles[self.pool[index].article].append(index)
        groups = []
        for members in articles.values():
            rng.shuffle(members)
            groups += [
                members[i : i + PARAGRAPHS_PER_ARTICLE]
                for i in range(0, len(members), PARAGRAPHS_PER_ARTICLE)
            ]
        rng.shuffle(groups)
        return groups

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(f"{self.params.seed}/{index}")
        # 1. documents, some without their title, and questions on each
        documents, questions, unanswerable = [], list[TrainingQuestion](), list[TrainingQuestion]()
        for row, member in enumerate(self.steps[index]):
            paragraph = self.pool[member]
            title = [] if rng.random() < TITLE_DROPOUT else paragraph.title
            documents.append(title + paragraph.text)
            count = min(self.params.train.questions_per_paragraph, len(paragraph.questions))
            for question, answer, gold_spans in rng.sample(paragraph.questions, count):
                shifted = [(len(title) + first, len(title) + last) for first, last in gold_spans]
                questions.append(TrainingQuestion(question, answer, row, shifted))
            count = min(self.params.train.unanswerable_per_paragraph, len(paragraph.unanswerable))
            sample = rng.sample(paragraph.unanswerable, count)
            unanswerable += [TrainingQuestion(question, [], row, []) for question in sample]
        rng.shuffle(questions)
        # 2. teacher forcing, decreasing linearly over the run, and the window
        progress = index / max(1, len(self.steps))
        start = TEACHER_FORCING_RESUMED if self.params.train.start else TEACHER_FORCING_START
        windows = self.params.train.window_frequencies or {self.params.compressor.window: 1.0}
        return {
            "documents": documents,
            "questions": questions + unanswerable,
            "teacher_forcing": start + (TEACHER_FORCING_END - start) * progress,
            "negatives_draw": rng.random(),
            "window": rng.choices(list(windows), list(windows.values()))[0],
        }
