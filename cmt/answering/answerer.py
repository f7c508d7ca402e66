"""Question → answer with its sources: select memories in the bank, aggregate, align, and let the frozen LM speak."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmt.answering.answer import MAX_QUESTION_TOKENS, NOT_IN_MEMORY, Answer, Source, Span
from cmt.answering.attribution import source_of
from cmt.answering.confidence import confidence_of, log_odds
from cmt.bank.bank import Bank
from cmt.common.progress import OnProgress
from cmt.config import Params
from cmt.lm.copy_mechanism import CopyHypothesis
from cmt.lm.decoding import Generate, generate
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import padded_length
from cmt.lm.streaming import StreamingDetokenizer
from cmt.modeling.model import MemoryModel, ReaderOutput
from cmt.modeling.span_decoding import AnswerSpan, TokenSpan
from cmt.retrieval.indexer import retrieved_memory
from cmt.retrieval.selector import Selection, select_memories

Vector = NDArray[np.float32]
Select = Callable[[int, Vector], Selection]
"""Place of a question and its key → its memories."""
TIE_MARGIN = (
    0.02  # log-probability: a lead below it may turn over in another batch, where states still depend on the batch
)


class Answerer:
    """Answers through one bank with one compressor."""

    def __init__(
        self, *, model: MemoryModel, lm: FrozenLM, bank: Bank, params: Params, generate: Generate = generate
    ) -> None:
        self.model, self.lm, self.bank, self.params, self._generate = model, lm, bank, params, generate

    def answer(
        self,
        questions: Sequence[str],
        *,
        as_of: Sequence[datetime | None],
        closed_book: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Answer]:
        """Answer `questions`, each as of its own date (None: now); results in the order of the questions."""
        answers = self._in_batches(questions, self._selecting(questions, as_of), on_progress)
        return self._with_closed_book(answers) if closed_book else answers

    def stream(self, question: str, *, as_of: datetime | None, say: Callable[[str], None]) -> Answer:
        """Answer one question, by itself; `say` gets its text in pieces while the LM writes it.

        Whether it is known is decided before the first piece, so none is taken back.
        """
        select = self._selecting([question], [as_of])
        return self._batch([0], [question], [self._tokens(question)], select, say)[0][0]

    def answer_from(
        self,
        questions: Sequence[str],
        memories: Sequence[Sequence[dict[str, Any]]],
        *,
        on_progress: OnProgress | None = None,
    ) -> list[Answer]:
        """Answer each question from rows of the bank that are given, without any selection: an upper line."""

        def given(place: int, key: Vector) -> Selection:
            rows = [{"similarity": float(np.dot(row["key"], key)), "prior": 0.0} | row for row in memories[place]]
            return Selection(rows, self.params.selection.full_text_weight)  # as if no other had a word of the question

        return self._in_batches(questions, given, on_progress)

    @torch.no_grad()
    def keys(self, questions: Sequence[str]) -> Vector:
        """(n, p) search keys of `questions`: dense retrieval without anything else of the method."""
        with self.model.autocast():
            code = self.model.encode([self._tokens(question) for question in questions], group=32)
        keys: Vector = code.key.float().cpu().numpy()
        return keys

    def _tokens(self, question: str) -> list[int]:
        return self.lm.tokenize(" " + question.strip())[:MAX_QUESTION_TOKENS]

    def _selecting(self, questions: Sequence[str], as_of: Sequence[datetime | None]) -> Select:
        def select(place: int, key: Vector) -> Selection:
            return select_memories(
                self.bank,
                self.model,
                self.params.selection,
                question=questions[place],
                key=key,
                as_of=as_of[place],
            )

        return select

    def _in_batches(self, questions: Sequence[str], select: Select, on_progress: OnProgress | None) -> list[Answer]:
        """What a batch could turn over is answered again alone: every batch size gives the answers of 1."""
        tokens = [self._tokens(question) for question in questions]
        order = sorted(range(len(questions)), key=lambda i: (len(tokens[i]), questions[i]))
        answers: dict[int, Answer] = {}
        for batch in self._alike(order, tokens):
            for place, (answer, sure) in zip(batch, self._batch(batch, questions, tokens, select), strict=True):
                alone = sure or len(batch) == 1
                answers[place] = answer if alone else self._batch([place], questions, tokens, select)[0][0]
            if on_progress:
                on_progress(len(batch))
        return [answers[i] for i in range(len(questions))]

    def _alike(self, order: Sequence[int], tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Batches of questions that are padded as each would be alone, or not at all: a mask makes a difference."""
        size = self.params.answering.batch_size
        lengths = [1 + len(ids) for ids in tokens]
        for _, group in groupby(
            order, key=lambda i: (padded_length(lengths[i]), padded_length(lengths[i]) == lengths[i])
        ):
            alike = list(group)
            yield from (alike[start : start + size] for start in range(0, len(alike), size))

    @torch.no_grad()
    def _batch(
        self,
        places: Sequence[int],
        questions: Sequence[str],
        all_tokens: Sequence[Sequence[int]],
        select: Select,
        say: Callable[[str], None] | None = None,
    ) -> list[tuple[Answer, bool]]:
        """Answers to the questions at `places`, and whether all that was decided on the way was decided clearly."""
        model, tokens = self.model, [all_tokens[place] for place in places]
        with model.autocast():
            code = model.encode(tokens, group=len(tokens))
            keys = code.key.float().cpu().numpy()
            found = [select(*one) for one in zip(places, keys, strict=True)]
            schema = self.bank.schema
            before = self._superseded(found)
            memories = [
                [
                    retrieved_memory(model, row, schema, prior=row["prior"], before=before.get(row["supersedes"], ()))
                    for row in one.rows
                ]
                for one in found
            ]
            reading = model.read(code, tokens, memories, self.params.selection)
        read = [
            [row["text"] or self.lm.decode(memory.tokens) for row, memory in zip(one.rows, some, strict=True)]
            for one, some in zip(found, memories, strict=True)
        ]
        answers = [
            self._unwritten(questions[place], one, texts, reading, row)
            for row, (place, one, texts) in enumerate(zip(places, found, read, strict=True))
        ]
        clear = [
            min(one.margin, self._sureness(answer)) >= TIE_MARGIN for one, answer in zip(found, answers, strict=True)
        ]
        if say and not answers[0].known:
            say(NOT_IN_MEMORY)
            return list(zip(answers, clear, strict=True))
        chosen = reading.margins or [math.inf] * len(answers)
        made = []
        for answer, sure, choice, text, lead in zip(
            answers, clear, chosen, *self._written(tokens, reading, say), strict=True
        ):
            if answer.known:  # otherwise nobody sees what was written
                sure = sure and choice >= TIE_MARGIN and lead >= self.lm.tolerance
                answer = replace(answer, text=text)
            made.append((answer, sure))
        return made

    def _superseded(self, found: Sequence[Selection]) -> dict[str, list[int]]:
        """The tokens of each document that one of those found supersedes, if the bank still has it."""
        names = {row["supersedes"] for one in found for row in one.rows} - {None}
        tokens: dict[str, list[int]] = {}
        for row in self.bank.documents(names).to_pylist() if names else ():
            tokens.setdefault(row["doc_id"], []).extend(retrieved_memory(self.model, row, self.bank.schema).tokens)
        return tokens

    def _written(
        self, tokens: Sequence[Sequence[int]], reading: ReaderOutput, say: Callable[[str], None] | None
    ) -> tuple[list[str], list[float]]:
        """What the LM says to each question, and the least lead of a token; `say` hears the first."""
        model, how = self.model, self.params.answering
        voice = StreamingDetokenizer(self.lm, say) if say else None
        against, copies = None, None
        if how.contrast:
            against = self.lm.prompt([[self.lm.bos, *model.prompts.question_tokens(ids)] for ids in tokens], left=True)
        if reading.answer_spans is not None:
            copies = [
                CopyHypothesis([*quote.tokens, self.lm.eos], quote.probability)
                if quote
                else CopyHypothesis([self.lm.eos], 0.0)
                for quote in reading.answer_spans
            ]
        written = self._generate(
            self.lm,
            reading.prompt,
            max_new_tokens=how.max_new_tokens,
            against=against,
            alpha=model.config.objective.alpha,
            copies=copies,
            on_token=voice.put if voice else None,
        )
        if voice:
            voice.end()
        return [self.lm.decode(ids) for ids in written.tokens], written.margins

    def _sureness(self, answer: Answer) -> float:
        """How far the confidence is from the threshold, on the scale of the log-probabilities."""
        confidence, threshold = answer.confidence, self.params.selection.threshold
        if not answer.sources:
            return math.inf
        if self.model.config.aggregator.kind != "windows":
            return abs(confidence - threshold) * float(self.model.temperature)
        if not 0 < threshold < 1:
            return math.inf
        return abs(log_odds(confidence) - log_odds(threshold))

    def _unwritten(
        self, question: str, found: Selection, texts: Sequence[str], reading: ReaderOutput, place: int
    ) -> Answer:
        """All of an answer but what the LM is to say; `texts` are those found, kept or read from the memories."""
        rows = found.rows
        begins = None if reading.begins is None else reading.begins[place, : len(rows)].float().cpu()
        confidence = confidence_of(question, found, texts, begins)
        known = bool(rows) and confidence >= self.params.selection.threshold
        weights = [0.0] * len(rows) if begins is None else begins.sum(1).tolist()
        order = sorted(range(len(rows)), key=lambda i: (-weights[i], -rows[i]["prior"]))
        sources: dict[str, Source] = {}
        for i in order:  # several memories of one document: the best speaks for it
            text, spans, quote = rows[i]["text"], tuple[Span, ...](), None
            if begins is not None:
                spans = self._spans(text, i, reading.spans[place], begins[i])
                quote = self._quoted(text, i, reading.answer_spans[place] if reading.answer_spans else None, begins[i])
            sources.setdefault(rows[i]["doc_id"], source_of(rows[i], weights[i], spans, quote))
        return Answer(question, "" if known else NOT_IN_MEMORY, known, confidence, tuple(sources.values()))

    def _spans(self, text: str | None, memory: int, runs: Sequence[TokenSpan], begins: Tensor) -> tuple[Span, ...]:
        runs = sorted((run for run in runs if run.memory == memory), key=lambda run: run.first)
        if text is None or not runs:
            return ()
        places = self.lm.offsets(text)
        return tuple(
            Span(
                places[run.first][0],
                places[min(run.last, len(places) - 1)][1],
                round(float(begins[run.first : run.last + 1].sum()), 4),
            )
            for run in runs
        )

    def _quoted(self, text: str | None, memory: int, quote: AnswerSpan | None, begins: Tensor) -> Span | None:
        """Without the blanks around it; a token has the one before its word."""
        if text is None or quote is None or quote.span.memory != memory:
            return None
        (span,) = self._spans(text, memory, [quote.span], begins)
        inside = text[span.first : span.last]
        first = span.first + len(inside) - len(inside.lstrip())
        return replace(span, first=first, last=first + len(inside.strip())) if inside.strip() else None

    def _with_closed_book(self, answers: Sequence[Answer]) -> list[Answer]:
        from cmt.answering.prompting import closed_book

        how = self.params.answering
        questions = [answer.question for answer in answers]
        alone = closed_book(self.lm, questions, max_new_tokens=how.max_new_tokens, batch_size=how.batch_size)
        return [replace(answer, closed_book=said.text) for answer, said in zip(answers, alone, strict=True)]
