"""Question → answer with its sources, in three steps:

1. score: select memories; ψ scores their tokens.
2. compare: if memories state different values, decide which one holds.
3. decode: choose windows and a quote; the LM writes the answer.

Results do not depend on the batch: a question with a near-tie is computed again by itself.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from cmt.answering import prompting
from cmt.answering._attribution import attribute_sources
from cmt.answering._compare import Compared, Reading, compare
from cmt.answering._grounding import HeldText, grounded
from cmt.answering._related import ChangesOf, MayChange, add_related, anyone, no_changes
from cmt.answering.answer import MAX_QUESTION_TOKENS, NOT_IN_MEMORY, Answer, Verdict, identified
from cmt.answering.confidence import (
    NO_CALIBRATION,
    Calibration,
    confidence_of,
    evidence,
    threshold_margin,
    verdict_of,
)
from cmt.answering.judge import Judge, Statement
from cmt.bank.bank import Bank
from cmt.common.progress import OnProgress
from cmt.config import Params
from cmt.lm.copy_mechanism import CopyHypothesis
from cmt.lm.decoding import Generate, generate
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import padded_length
from cmt.lm.streaming import StreamingDetokenizer
from cmt.modeling.compressor import Encoding
from cmt.modeling.model import MemoryModel, ReaderOutput
from cmt.modeling.span_decoding import TokenSpan
from cmt.modeling.token_scores import ReadSpan, RetrievedMemory
from cmt.retrieval.indexer import retrieved_memory
from cmt.retrieval.selector import Key, Selection, select_memories
from cmt.text.question_names import NO_NAMES, NamesFound, find_names

Select = Callable[[int, Key], Selection]  # index of a question and its key (p,) → its memories

NOT_READ = ReadSpan(0, 0, -math.inf, 0.0)  # of a ψ that scores no tokens
MOST_READ = 100  # memories that a history reads at once
TIE_MARGIN = 0.02  # nats; rounding depends on the shape of the batch and may reverse a smaller lead


class Query(NamedTuple):
    """A question on its way to an answer."""

    position: int  # among the caller's questions
    text: str
    tokens: list[int]
    as_of: datetime


class Margins(NamedTuple):
    """Smallest leads of the decisions that an answer depends on."""

    selection: float  # nats
    reading: float  # nats
    tokens: float  # logits, of the generated tokens


@dataclass(kw_only=True, eq=False)
class Answerer:
    """Answers questions through one bank with one compressor; `dataclasses.replace` makes a copy
    with another part.
    """

    model: MemoryModel
    lm: FrozenLM
    bank: Bank
    params: Params
    generate: Generate = generate
    calibration: Calibration = NO_CALIBRATION
    changes_of: ChangesOf = no_changes
    may_change: MayChange = anyone

    @property
    def confidence_is_probability(self) -> bool:
        """Whether the confidence of an answer is a probability; for a ψ that scores no tokens it is
        a cosine.
        """
        return self.model.config.aggregator.kind == "windows"

    def answer(
        self,
        questions: Sequence[str],
        *,
        as_of: Sequence[datetime | None],
        selections: Sequence[Selection] | None = None,
        closed_book: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Answer]:
        """Answer `questions`, each as of its own date (None: now). Results are in the order of the
        questions.

        `selections`: the results of `select`. With `closed_book` every answer also has the LM's
        answer without memory.
        """
        bank_version = self.bank.version
        search: Select = (
            partial(self._select, questions, as_of)
            if selections is None
            else lambda index, _key: selections[index]
        )
        answers = self._answer_all(self._queries(questions, as_of), search, on_progress)
        answers = [
            identified(answer, as_of=date, compressor=self.model.digest, bank_version=bank_version)
            for answer, date in zip(answers, as_of, strict=True)
        ]
        if not closed_book:
            return answers
        predictions = prompting.closed_book(self.lm, questions, answering=self.params.answering)
        return [
            replace(answer, closed_book=given.text)
            for answer, given in zip(answers, predictions, strict=True)
        ]

    def stream(
        self, question: str, *, as_of: datetime | None, on_text: Callable[[str], None]
    ) -> Answer:
        """Answer one question; `on_text` is called with each piece of the text as it is generated.

        The verdict is decided before the first piece, so no piece is revoked.
        """
        bank_version = self.bank.version
        ((answer, _),) = self._answer_batch(
            self._queries([question], [as_of]), partial(self._select, [question], [as_of]), on_text
        )
        return identified(
            answer, as_of=as_of, compressor=self.model.digest, bank_version=bank_version
        )

    def answer_from(
        self, questions: Sequence[str], memories: Sequence[Sequence[dict[str, Any]]]
    ) -> list[Answer]:
        """Answer each question from the given rows of the bank, without selection: an upper
        bound.
        """

        def select_given(index: int, key: Key) -> Selection:
            rows = [
                {"similarity": float(np.dot(row["key"], key)), "prior": 0.0} | row
                for row in memories[index]
            ]
            return Selection(rows)

        return self._answer_all(self._queries(questions), select_given)

    @torch.no_grad()
    def statements(
        self, questions: Sequence[str], rows: Sequence[Mapping[str, Any]], *, expand: bool = True
    ) -> list[Statement]:
        """What each row of the bank, read by itself, says about its question; the LM generates
        nothing.

        `expand`: read with a vector for each token, which takes several times as long. Scores are
        −inf for a ψ that scores no tokens.
        """
        memories = [retrieved_memory(self.model, row, self.bank.schema) for row in rows]
        statements: dict[int, Statement] = {}
        for batch in self._batches(self._queries(questions)):
            tokens = [query.tokens for query in batch]
            with self.model.autocast():
                encoding = self.model.encode(tokens, group=len(batch))
                read_memories = [[memories[query.position]] for query in batch]
                scored = self.model.score(encoding, tokens, read_memories, expanded=int(expand))
                spans = [next(iter(scored.spans(row)), NOT_READ) for row in range(len(batch))]
            for query, span in zip(batch, spans, strict=True):
                row = rows[query.position]
                text = row["text"] or self.lm.decode(memories[query.position].tokens)
                statements[query.position] = Statement.of(row, text, span, self.lm.offsets)
        return [statements[index] for index in range(len(questions))]

    @torch.no_grad()
    def read(
        self, question: str, select: Callable[[Key], Selection], *, as_of: datetime | None
    ) -> Reading:
        """What ψ reads in the memories that `select` returns for the key of one question, each read
        with a vector for each token.
        """

        def search(_index: int, key: Key) -> Selection:
            return select(key)

        selection = {"expanded_memories": MOST_READ}
        answerer = replace(self, params=self.params.with_values(selection=selection))
        with self.model.autocast():
            return answerer._score(self._queries([question], [as_of]), search)[0]

    @torch.no_grad()
    def select(
        self, questions: Sequence[str], *, as_of: Sequence[datetime | None]
    ) -> list[Selection]:
        """The memories that each of `questions` is answered from as of its date; ψ and the LM read
        nothing.
        """
        search = partial(self._select, questions, as_of)
        selections: dict[int, Selection] = {}
        for batch in self._batches(self._queries(questions)):
            with self.model.autocast():
                _, found = self._encode_and_select(batch, search)
                for query, selection in zip(batch, found, strict=True):
                    # a near-tie is decided by the question itself, as in an answer
                    if selection.margin < TIE_MARGIN:
                        _, [selection] = self._encode_and_select([query], search)
                    selections[query.position] = selection
        return [selections[index] for index in range(len(questions))]

    @torch.no_grad()
    def keys(self, questions: Sequence[str]) -> Key:
        """Search keys (n, p) of `questions`, for dense retrieval without ψ and π."""
        with self.model.autocast():
            encoding = self.model.encode(
                [query.tokens for query in self._queries(questions)], group=32
            )
        keys: Key = encoding.key.float().cpu().numpy()
        return keys

    def _queries(
        self, questions: Sequence[str], as_of: Sequence[datetime | None] = ()
    ) -> list[Query]:
        now, queries = self.params.stream.now(), []
        for index, question in enumerate(questions):
            tokens = self.lm.tokenize(" " + question.strip())[:MAX_QUESTION_TOKENS]
            date = as_of[index] if as_of else None
            queries.append(Query(index, question, tokens, date or now))
        return queries

    def _select(
        self, questions: Sequence[str], as_of: Sequence[datetime | None], index: int, key: Key
    ) -> Selection:
        """The memories of the bank for the question `index` as of its date."""
        wanted: dict[str, Any] = {"question": questions[index], "key": key, "as_of": as_of[index]}
        selection = select_memories(self.bank, self.model, self.params.selection, **wanted)
        return add_related(
            selection, self.bank, self.changes_of, may_change=self.may_change, **wanted
        )

    def _answer_all(
        self, queries: Sequence[Query], select: Select, on_progress: OnProgress | None = None
    ) -> list[Answer]:
        """Answers in the order of `queries`. A question with a near-tie is computed again by
        itself.
        """
        answers: dict[int, Answer] = {}
        for batch in self._batches(queries):
            for query, (answer, stable) in zip(
                batch, self._answer_batch(batch, select), strict=True
            ):
                if not stable and len(batch) > 1:
                    ((answer, _),) = self._answer_batch([query], select)
                answers[query.position] = answer
            if on_progress:
                on_progress(len(batch))
        return [answers[query.position] for query in queries]

    def _batches(self, queries: Sequence[Query]) -> Iterator[list[Query]]:
        """Batches by length. Questions share a batch only if it pads them as a batch of one would.

        A question without padding does not share a batch with a padded one, because a mask changes
        the rounding.
        """

        size = self.params.answering.batch_size
        groups = defaultdict[tuple[int, bool], list[Query]](list)
        for query in sorted(queries, key=lambda query: (len(query.tokens), query.text)):
            length = 1 + len(query.tokens)  # with BOS
            width = padded_length(length)
            groups[width, width == length].append(query)
        for members in groups.values():
            yield from (members[start : start + size] for start in range(0, len(members), size))

    @torch.no_grad()
    def _answer_batch(
        self, queries: Sequence[Query], select: Select, on_text: Callable[[str], None] | None = None
    ) -> list[tuple[Answer, bool]]:
        """Answers to B questions, each with whether it is stable: no decision on the way was a
        near-tie.

        `on_text` receives the text of the first answer as it is generated.
        """
        with self.model.autocast():
            readings = self._score(queries, select)
            compared = self._compare(readings)
            output = self.model.decode(readings[0].scores, self.params.selection)
        return self._decode(compared, output, on_text)

    def _score(self, queries: Sequence[Query], select: Select) -> list[Reading]:
        """Select the memories of each question, S at most, and score their tokens with ψ."""
        # 1. encode the questions and select rows of the bank
        encoding, selections = self._encode_and_select(queries, select)
        # 2. decode the rows, each with the document that it supersedes, if the bank still has it
        superseded = self._superseded_tokens(
            [row for selection in selections for row in selection.rows]
        )
        memories: list[list[RetrievedMemory]] = []
        for selection in selections:
            of_question = []
            for row in selection.rows:
                before = superseded.get(row["supersedes"], ())
                of_question.append(
                    retrieved_memory(
                        self.model, row, self.bank.schema, prior=row["prior"], before=before
                    )
                )
            memories.append(of_question)
        # 3. score their tokens
        scores = self.model.score(
            encoding,
            [query.tokens for query in queries],
            memories,
            expanded=self.params.selection.expanded_memories,
        )  # (B, S, n, 2)
        readings = []
        for number, (query, selection) in enumerate(zip(queries, selections, strict=True)):
            texts = []
            for row, memory in zip(selection.rows, memories[number], strict=True):
                # without a text, decoded from the vectors
                texts.append(row["text"] or self.lm.decode(memory.tokens))
            of_memories = scores, number, self.lm.offsets
            reading = Reading(query.text, selection, texts, *of_memories, query.as_of)
            readings.append(replace(reading, may_change=self.may_change))
        return readings

    def _compare(self, readings: Sequence[Reading]) -> list[Compared]:
        """Decide which memories hold, and move the scores towards them."""
        judge = Judge(self.model.cross_encoder)
        outcomes = []
        for reading in readings:
            outcome = compare(reading, judge)
            if outcome.shifts:
                second = [(pair.later, pair.earlier) for pair in outcome.pairs if pair.second]
                reading.scores.adjust(reading.row, outcome.shifts, second)
            outcomes.append(outcome)
        return outcomes

    def _decode(
        self,
        compared: Sequence[Compared],
        output: ReaderOutput,
        on_text: Callable[[str], None] | None,
    ) -> list[tuple[Answer, bool]]:
        """Confidence, verdict and sources of each answer, and its text by the LM."""
        drafts = [self._draft(outcome, output, row) for row, outcome in enumerate(compared)]
        held = HeldText(on_text) if on_text else None
        if on_text and not drafts[0].known:
            on_text(NOT_IN_MEMORY)
            texts, token_margins = [""], [math.inf]
        else:
            texts, token_margins = self._generate(output, held)
        read_margins = output.margins or [math.inf] * len(drafts)
        answers = []
        for row, draft in enumerate(drafts):
            margins = Margins(
                compared[row].reading.selection.margin,
                min(read_margins[row], compared[row].margin),
                token_margins[row],
            )
            passed, read = held.passed if held else "", compared[row].reading.texts
            answer, stable = self._assemble(draft, texts[row], margins)
            if answer.known:
                answer = grounded(answer, answer.text, read, passed=passed)
            if held and draft.known:
                held.end(answer.text)
            answers.append((answer, stable))
        return answers

    def _encode_and_select(
        self, queries: Sequence[Query], select: Select
    ) -> tuple[Encoding, list[Selection]]:
        encoding = self.model.encode([query.tokens for query in queries], group=len(queries))
        keys = encoding.key.float().cpu().numpy()  # (B, p)
        return encoding, [
            select(query.position, key) for query, key in zip(queries, keys, strict=True)
        ]

    def _superseded_tokens(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
        """Tokens of each document that one of the `rows` supersedes and that the bank still has, by
        document.
        """
        doc_ids = {row["supersedes"] for row in rows} - {None}
        tokens: dict[str, list[int]] = {}
        for row in self.bank.documents(doc_ids).to_pylist() if doc_ids else ():
            tokens.setdefault(row["doc_id"], []).extend(
                retrieved_memory(self.model, row, self.bank.schema).tokens
            )
        return tokens

    def _draft(self, compared: Compared, output: ReaderOutput, row: int) -> Answer:
        """The answer of a row of the batch without its text: confidence, verdict, and sources."""
        reading, names = compared.reading, NO_NAMES
        question, selection = reading.question, reading.selection
        begin_probability = None  # (S, n)
        if output.begins is not None:
            begin_probability = output.begins[row, : len(selection.rows)].float().cpu()
        quote = output.answer_spans[row] if output.answer_spans else None
        # 1. confidence; a ψ that scores no tokens has a cosine
        if begin_probability is None or quote is None:
            confidence = max((row["similarity"] for row in selection.rows), default=0.0)
        else:
            signs = evidence(question, reading.texts, begin_probability, quote)
            names = self.find_names(compared, quote.span.memory)
            confidence = confidence_of(signs, names)
        calibrated = self.calibration.apply(confidence)
        # 2. verdict, and the other value
        verdict: Verdict = "not_in_memory"
        if selection.rows:
            verdict = verdict_of(confidence, calibrated, self.params.selection, names)
        other_value = holds_from = None
        if quote and verdict != "not_in_memory":
            holds_from = self._announced(reading, quote.span)
            verdict = "unsure" if holds_from else verdict
            other_value = compared.other_value(quote.span.memory)
            verdict = "unsure" if compared.contested(quote.span.memory) else verdict
        # 3. sources; the calibration is fitted on given answers only
        spans = output.spans[row] if output.spans else ()
        unknown = verdict == "not_in_memory"
        return Answer(
            question,
            NOT_IN_MEMORY if unknown else "",
            verdict,
            confidence if unknown else calibrated,
            attribute_sources(selection.rows, begin_probability, spans, quote, self.lm.offsets),
            uncalibrated=confidence,
            other_value=other_value,
            holds_from=holds_from,
            missing=names.missing,
        )

    def _announced(self, reading: Reading, span: TokenSpan) -> date | None:
        """The day from which the quoted `span` holds, if it does not hold yet."""
        row, text = reading.selection.rows[span.memory], reading.texts[span.memory]
        read = ReadSpan(span.first, span.last, 0.0, 0.0)
        return reading.starts_at(Statement.of(row, text, read, self.lm.offsets))

    def find_names(self, compared: Compared, memory: int) -> NamesFound:
        """The names of the question in the document of the selected `memory`.

        If its text lacks one, the names may be in another chunk, in the document that it
        supersedes, or in an earlier one whose value it changes.
        """
        question, texts = compared.reading.question, compared.reading.texts
        quoted = compared.reading.selection.rows[memory]
        document = [quoted["source"] or "", quoted["title"] or "", texts[memory]]
        day = quoted["published_at"].date()
        names = find_names(question, "\n".join(document), day=day, others=texts)
        if not names.missing and not names.doubtful:
            return names
        for pair in compared.pairs:
            if pair.later == memory and pair.holds > 0.5:
                document.append(texts[pair.earlier])
        doc_ids = {quoted["doc_id"], quoted["supersedes"]} - {None}
        for row in self.bank.documents(doc_ids).to_pylist():
            if row["published_at"] <= quoted["published_at"]:
                tokens = retrieved_memory(self.model, row, self.bank.schema).tokens
                document.append(row["text"] or self.lm.decode(tokens))
        return find_names(question, "\n".join(document), day=day, others=texts)

    def _generate(
        self, output: ReaderOutput, on_text: Callable[[str], None] | None
    ) -> tuple[list[str], list[float]]:
        """Texts of the B answers, and the smallest lead of a token of each, in logits."""
        # 1. the quotes as copy hypotheses
        copies = None
        if output.answer_spans is not None:
            quotes = (
                (quote.tokens, quote.probability) if quote else ((), 0.0)
                for quote in output.answer_spans
            )
            copies = [
                CopyHypothesis([*tokens, self.lm.eos], probability)
                for tokens, probability in quotes
            ]
        # 2. decode greedily
        detokenizer = StreamingDetokenizer(self.lm, on_text) if on_text else None
        generation = self.generate(
            self.lm,
            output.prompt,
            max_new_tokens=self.params.answering.max_new_tokens,
            copies=copies,
            on_token=detokenizer.put if detokenizer else None,
        )
        if detokenizer:
            detokenizer.end()
        return [self.lm.decode(ids) for ids in generation.tokens], generation.margins

    def _assemble(self, draft: Answer, text: str, margins: Margins) -> tuple[Answer, bool]:
        """The finished answer, and whether every decision that it depends on has a sufficient
        margin.

        If the answer is not known its text is not shown, so near-ties of generation do not matter,
        and of reading only if the document of the quote lacks a name.
        """
        verdict_margin = math.inf
        if draft.sources:
            temperature = None if self.confidence_is_probability else float(self.model.temperature)
            verdict_margin = min(
                threshold_margin(confidence, threshold, temperature=temperature)
                for confidence, threshold in (
                    (draft.uncalibrated, self.params.selection.abstain_below),
                    (draft.confidence, self.params.selection.likely_from),
                )
            )
        stable = min(margins.selection, verdict_margin) >= TIE_MARGIN
        if draft.known or draft.missing:
            stable = stable and margins.reading >= TIE_MARGIN
        if not draft.known:
            return draft, stable
        stable = stable and margins.tokens >= self.lm.tolerance
        return replace(draft, text=text), stable
