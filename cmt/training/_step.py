"""The forward pass of one training step: paragraphs and questions on them → the total loss.

Every question trains the selection (self-matching) and ψ (span loss). The frozen LM answers the
fraction `train.answer_fraction` of the questions. A step holds up to four paragraphs of an article,
as hard negatives.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cmt.config import Params
from cmt.lm.prompt import Prompt
from cmt.modeling.compressor import Encoding
from cmt.modeling.model import MemoryModel
from cmt.modeling.span_decoding import (
    TokenSpan,
    choose_windows,
    neighbours_at,
    token_log_probabilities,
)
from cmt.training.dataset import TrainingQuestion
from cmt.training.losses import in_batch_contrastive_loss, memory_aware_loss, span_loss

HARD_NEGATIVES = 1  # the most similar other memories, which ψ sees in addition to the gold one
NO_NEGATIVES_RATE = 0.5  # of the questions: ψ sees only the gold memory
NO_ANSWER_RATE = 0.1  # of the questions: ψ sees only the negatives, and learns "nowhere"


@dataclass(frozen=True)
class Pairs:
    """Q questions of a step on its N documents, after Θ."""

    memories: Encoding  # of the documents: key (N, p), vectors (N, k, D)
    documents: list[list[int]]  # token ids
    encoding: Encoding  # of the questions: key (Q, p)
    questions: list[TrainingQuestion]
    count: int  # A: the LM answers so many of the first questions
    candidates: Tensor  # (Q, S) documents that ψ sees; −1 for none
    nowhere: Tensor  # (Q,) whether ψ sees no document with the answer

    @property
    def answered(self) -> list[TrainingQuestion]:
        """The questions that the LM answers."""
        return self.questions[: self.count]

    @property
    def answered_encoding(self) -> Encoding:
        """Θ's encoding of the questions that the LM answers."""
        return Encoding(*(part[: self.count] for part in vars(self.encoding).values()))


class TrainingStep(nn.Module):
    """The total loss L = L_answer + β · L_match + γ · L_span (docs/method.md#objective)."""

    def __init__(self, model: MemoryModel, params: Params) -> None:
        super().__init__()
        self.model, self.params = model, params

    def forward(
        self,
        documents: list[list[int]],
        questions: list[TrainingQuestion],
        teacher_forcing: float,
        negatives_draw: float,
        window: int,
    ) -> dict[str, Any]:
        """The `loss` of one item of `StepDataset`: N documents and Q questions on them, A of which
        have an answer.

        `documents`: token ids, with or without title. `questions`: in random order, the
        unanswerable ones last. `teacher_forcing`: probability that the gold span is the quote.
        `negatives_draw`: uniform draw in [0, 1) that selects the questions without negatives.
        `window`: tokens in a window. `logs` has its parts, and the shares of questions with the
        right best key and with the right first token.
        """
        model, objective = self.model, self.params.objective
        # 1. encode documents and questions with Θ
        memories = model.encode(documents, window=window)  # key (N, p), vectors (N, k, D)
        encoding = model.encode(
            [question.question for question in questions], group=32
        )  # key (Q, p)
        gold = torch.tensor(
            [question.document for question in questions], device=model.lm.device
        )  # (Q,)
        # 2. self-matching
        similarity = encoding.key @ memories.key.T  # (Q, N)
        answerable = sum(bool(question.gold_spans) for question in questions)  # A; they come first
        matching = in_batch_contrastive_loss(
            encoding.key[:answerable],
            memories.key,
            gold[:answerable],
            model.temperature,
            objective.uniformity_weight,
        )
        logs = {
            "matching": matching,
            "recall_at_1": (similarity.argmax(1) == gold)[:answerable].float().mean(),
        }
        loss = objective.beta * matching
        # 3. the LM answers the first questions; ψ does not see the document of the last answerable
        #    ones
        count = max(1, round(self.params.train.answer_fraction * answerable))
        first_without_gold = max(count, answerable - round(NO_ANSWER_RATE * answerable))
        order = torch.arange(len(gold), device=gold.device)  # (Q,)
        nowhere = order >= first_without_gold
        without_gold = nowhere & (order < answerable)
        candidates = self._candidates(
            similarity.detach(), gold, negatives_draw, without_gold
        )  # (Q, S)
        # 4. ψ and π: the span loss, and the prompts of the answered questions
        pairs = Pairs(memories, documents, encoding, questions, count, candidates, nowhere)
        prompt, span_logs = self._read(pairs, window, teacher_forcing)
        if "span" in span_logs:
            loss = loss + objective.gamma * span_logs["span"]
        logs |= span_logs
        # 5. answer likelihood
        logs["answer"] = self._answer_loss(prompt, questions[:count])
        return {
            "loss": loss + logs["answer"],
            "logs": {name: value.detach() for name, value in logs.items()},
        }

    def _read(
        self, pairs: Pairs, window: int, teacher_forcing: float
    ) -> tuple[Prompt, dict[str, Tensor]]:
        """The prompts of the answered questions, and the span loss and its shares for the log."""
        scores = self._token_scores(pairs, window)  # (Q, S, n, 2)
        span, begin_found, refused = self._span_loss(scores, pairs.questions, pairs.nowhere)
        logs = {"span": span, "begin_found": begin_found}
        if pairs.nowhere.any():
            logs["refused"] = refused
        return self._window_prompt(pairs, scores[: pairs.count], window, teacher_forcing), logs

    def _candidates(
        self, similarity: Tensor, gold: Tensor, negatives_draw: float, without_gold: Tensor
    ) -> Tensor:
        """(Q, S) documents that ψ sees: the gold one and the HARD_NEGATIVES most similar others; −1
        for none.
        """
        # 1. the most similar other documents
        others = similarity.scatter(1, gold[:, None], -2.0)  # below every cosine
        negatives = others.topk(min(HARD_NEGATIVES, similarity.shape[1] - 1), dim=1).indices
        # 2. some questions have no negatives
        generator = torch.Generator().manual_seed(int(negatives_draw * 2**31))
        without_negatives = torch.rand(len(gold), generator=generator) < NO_NEGATIVES_RATE
        without_negatives = without_negatives.to(gold.device) & ~without_gold
        visible_gold = gold.masked_fill(without_gold, -1)[:, None]  # (Q, 1)
        return torch.cat([visible_gold, negatives.masked_fill(without_negatives[:, None], -1)], 1)

    def _token_scores(self, pairs: Pairs, window: int) -> Tensor:
        """ψ's scores (Q, S, n, 2) of the tokens of each question's candidates."""
        candidates, documents = pairs.candidates, pairs.documents
        rows = candidates.clamp(min=0)  # (Q, S)
        is_present = (candidates >= 0).unsqueeze(-1)  # (Q, S, 1)
        width = pairs.memories.vectors.shape[1] * window
        ids = torch.full((len(documents), width), -1, device=candidates.device)  # (N, n)
        for row, tokens in enumerate(documents):
            ids[row, : len(tokens)] = torch.tensor(tokens, device=candidates.device)
        mask = pairs.memories.vector_mask[rows] * is_present  # (Q, S, k)
        candidate_ids = ids[rows].masked_fill(~is_present, -1)  # (Q, S, n)
        return self.model.aggregator(
            pairs.encoding, pairs.memories.vectors[rows], mask, candidate_ids
        )

    def _span_loss(
        self, scores: Tensor, questions: list[TrainingQuestion], nowhere: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Span loss, the share of found beginnings, and the share of right refusals.

        A beginning is found if the best first token begins an occurrence of a visible answer. A
        question in `nowhere` (Q,) is refused if no token scores above 0, the score of "nowhere".
        """
        # 1. gold tokens (Q, G, 2): the occurrences in the first candidate, or the class "nowhere"
        most = max(len(question.gold_spans) for question in questions)
        nowhere_class = scores[0, ..., 0].numel()
        gold = torch.full((len(questions), most, 2), -1, device=scores.device)
        for row, question in enumerate(questions):
            if question.gold_spans:
                gold[row, : len(question.gold_spans)] = torch.tensor(question.gold_spans)
        gold[nowhere] = -1
        gold[nowhere, 0] = nowhere_class
        # 2. loss and shares
        best, best_begin = scores[..., 0].flatten(1).max(1, keepdim=True)  # (Q, 1)
        begin_found = (best_begin == gold[..., 0]).any(1)
        return (
            span_loss(scores, gold),
            begin_found[~nowhere].float().mean(),
            (best[nowhere] < 0).float().mean(),
        )

    def _window_prompt(
        self, pairs: Pairs, scores: Tensor, window: int, teacher_forcing: float
    ) -> Prompt:
        """The best windows and the quote, which is the gold span with probability
        `teacher_forcing`.

        `scores` (A, S, n, 2) are those of the answered questions.
        """
        selection, rng = self.params.selection, random.Random(teacher_forcing)
        log_probability = token_log_probabilities(scores)  # (Q, S, n, 2)
        decoding = log_probability.detach().cpu().clone()
        texts = []
        for rows in pairs.candidates[: pairs.count].tolist():
            texts.append([pairs.documents[max(row, 0)] for row in rows])
        # 1. the quote: ψ's likeliest span, or the likeliest occurrence of the answer, whose window
        #    then ranks first
        quotes = []
        for part, text, question in zip(decoding, texts, pairs.answered, strict=True):
            quote = self.model.quote(part, text, question.question).span
            if rng.random() < teacher_forcing:
                gold_span = max(
                    question.gold_spans, key=lambda span: float(part[0, span, [0, 1]].sum())
                )  # noqa: B023
                quote = TokenSpan(0, *gold_span)
                part[0, gold_span[0], 0] = 1e4
            quotes.append(quote.tokens_of(text))
        # 2. the windows, with the same amount of text at every window size
        neighbours = neighbours_at(selection.neighbour_windows, self.model.window, window)
        windows = [
            choose_windows(part, window, selection.best_windows, neighbours) for part in decoding
        ]
        # 3. the prompt
        ends = self._prompt_ends(pairs.answered, quotes)
        return self.model.prompts.text_prompt(
            pairs.answered_encoding, windows, texts, log_probability.exp(), ends, left=False
        )

    def _prompt_ends(
        self, questions: list[TrainingQuestion], quotes: Sequence[Sequence[int]] | None = None
    ) -> list[list[int]]:
        """The end of each prompt: question, quote if there is one, and answer."""
        return [
            [*self.model.prompts.question_tokens(question.question, quote), *question.answer]
            for question, quote in zip(questions, quotes or [()] * len(questions), strict=True)
        ]

    def _answer_loss(self, prompt: Prompt, questions: list[TrainingQuestion]) -> Tensor:
        """Memory-aware NLL of the answers at the ends of the prompts."""
        lm, answers = self.model.lm, [question.answer for question in questions]
        target = torch.tensor(
            [token for answer in answers for token in answer], device=lm.device
        )  # (A,)
        alpha = self.params.objective.alpha
        # 1. logits with memory
        with_memory = lm.logits(
            prompt, answer_positions(answers, prompt.mask.sum(1).tolist(), lm.device)
        )  # (A, V)
        # 2. logits without memory, from the frozen LM
        without_memory = torch.zeros_like(with_memory)
        if alpha:
            with torch.no_grad():
                rows = [[lm.bos, *end] for end in self._prompt_ends(questions)]
                positions = answer_positions(answers, [len(row) for row in rows], lm.device)
                without_memory = lm.logits(lm.prompt(rows), positions)
        return memory_aware_loss(with_memory, without_memory, target, alpha)


def answer_positions(
    answers: Sequence[Sequence[int]], lengths: Sequence[int], device: torch.device
) -> Tensor:
    """(A, 2) row and column of the positions that predict the tokens of `answers`, given the rows'
    `lengths`.
    """
    positions = [
        (row, column - 1)
        for row, (answer, length) in enumerate(zip(answers, lengths, strict=True))
        for column in range(length - len(answer), length)
    ]
    return torch.tensor(positions, device=device)
