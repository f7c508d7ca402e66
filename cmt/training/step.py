"""What one training step is: a handful of paragraphs and questions on them, and the loss they give.

Four paragraphs at a time are from one article, so that a step's negatives are hard. Every question trains the selection
(self-matching, tokens); a share of them goes on through the frozen LM.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cmt.config import Params
from cmt.lm.prompt import Prompt
from cmt.modeling.aggregator import CrossAttention, SpanReader
from cmt.modeling.alignment import PrefixAlignment
from cmt.modeling.compressor import Encoding
from cmt.modeling.model import MemoryModel
from cmt.modeling.span_decoding import (
    TokenSpan,
    best_answer_span,
    choose_windows,
    token_log_probabilities,
    whole_memory_spans,
)
from cmt.training.dataset import TrainingQuestion, seeded_random
from cmt.training.losses import in_batch_contrastive_loss, memory_aware_loss, span_loss

HARD_NEGATIVES, NO_NEGATIVES_RATE = 1, 0.5  # other memories ψ sees beside the right one, and how often it sees none
NO_ANSWER_RATE = 0.1  # share of the questions for which ψ sees other memories only, so that it learns to find nothing


class TrainingStep(nn.Module):
    """One training step: the total loss of method §2 and what is worth plotting of it."""

    def __init__(self, model: MemoryModel, params: Params) -> None:
        super().__init__()
        self.model, self.params = model, params

    def forward(
        self, documents: list[list[int]], asked: list[TrainingQuestion], forced: float, draw: float
    ) -> dict[str, Any]:
        """The total loss of one step of `Steps`; `logs` holds its parts."""
        model, objective = self.model, self.params.objective
        memories = model.encode(documents)
        question = model.encode([ids for ids, *_ in asked], group=32)
        gold = torch.tensor([row for _, _, row, _ in asked], device=model.lm.device)
        similarity = question.key @ memories.key.T
        matching = in_batch_contrastive_loss(question.key, memories.key, gold, model.temperature, objective.spread)
        logs = {"matching": matching, "recall_at_1": (similarity.argmax(1) == gold).float().mean()}
        loss = objective.beta * matching

        count = max(1, round(self.params.train.answered * len(asked)))
        first_absent = max(count, len(gold) - round(NO_ANSWER_RATE * len(gold)))  # what is answered is there
        absent = torch.arange(len(gold), device=gold.device) >= first_absent
        chosen = self._candidates(similarity.detach(), gold, draw, absent)
        answered = _first(question, count), asked[:count]
        if isinstance(model.alignment, PrefixAlignment):
            prompt = self._prefix(*answered, memories)
        elif isinstance(model.aggregator, SpanReader):
            scores = self._scores(question, memories, documents, chosen)
            finding, found = self._find(scores, asked, absent)
            logs |= {"span": finding, "begin_found": found}
            loss = loss + objective.gamma * finding
            prompt = self._windows(*answered, documents, chosen, scores[:count], forced)
        else:
            prompt = self._whole(*answered, documents, chosen)
        logs["answer"] = self._answer(prompt, asked[:count])
        return {"loss": loss + logs["answer"], "logs": {name: value.detach() for name, value in logs.items()}}

    def _scores(self, question: Encoding, memories: Encoding, documents: list[list[int]], chosen: Tensor) -> Tensor:
        """ψ over each question's `chosen` memories: (Q, S, n, 2)."""
        assert isinstance(self.model.aggregator, SpanReader)  # noqa: S101 - narrows the type
        places, seen = chosen.clamp(min=0), (chosen >= 0).unsqueeze(-1)
        ids = torch.full((len(documents), memories.vectors.shape[1] * self.model.window), -1, device=chosen.device)
        for row, tokens in enumerate(documents):
            ids[row, : len(tokens)] = torch.tensor(tokens, device=chosen.device)
        mask, ids = memories.vector_mask[places] * seen, ids[places].masked_fill(~seen, -1)
        scores: Tensor = self.model.aggregator(question, memories.vectors[places], mask, ids)
        return scores

    def _find(self, scores: Tensor, asked: list[TrainingQuestion], absent: Tensor) -> tuple[Tensor, Tensor]:
        """Span loss, and the share of questions whose first token is the best; the right memory stands first."""
        most, nowhere = max(len(places) for *_, places in asked), scores[0, ..., 0].numel()
        gold = torch.full((len(asked), most, 2), -1, device=scores.device)
        for row, (*_, places) in enumerate(asked):
            gold[row, : len(places)] = torch.tensor(places)
        gold[absent] = -1
        gold[absent, 0] = nowhere
        found = (scores[..., 0].flatten(1).argmax(1, keepdim=True) == gold[..., 0]).any(1)
        return span_loss(scores, gold), found[~absent].float().mean()

    def _candidates(self, similarity: Tensor, gold: Tensor, draw: float, absent: Tensor) -> Tensor:
        """(Q, 1 + negatives): each question's document, then the most similar other; −1 where ψ is to see none."""
        others = similarity.scatter(1, gold[:, None], -2.0)
        hard = others.topk(min(HARD_NEGATIVES, similarity.shape[1] - 1), dim=1).indices
        lone = torch.rand(len(gold), generator=torch.Generator().manual_seed(int(draw * 2**31))) < NO_NEGATIVES_RATE
        lone = lone.to(gold.device) & ~absent
        return torch.cat([gold.masked_fill(absent, -1)[:, None], hard.masked_fill(lone[:, None], -1)], 1)

    def _prefix(self, question: Encoding, asked: list[TrainingQuestion], memories: Encoding) -> Prompt:
        """The published ψ and π over all memories of the step."""
        rows = len(asked), *memories.vectors.shape
        every, mask = memories.vectors.expand(rows), memories.vector_mask.expand(rows[:-1])
        assert isinstance(self.model.aggregator, CrossAttention)  # noqa: S101 - narrows the type
        aggregated = self.model.aggregator(question, every, mask)
        return self.model.prompts.prefix_prompt(question, aggregated, self._tails(asked), left=False)

    def _windows(
        self,
        question: Encoding,
        asked: list[TrainingQuestion],
        documents: list[list[int]],
        chosen: Tensor,
        scores: Tensor,
        forced: float,
    ) -> Prompt:
        """The best windows; the right quote is made the best with probability `forced`."""
        how, source = self.params.selection, seeded_random(forced)
        probability = token_log_probabilities(scores)
        believed = probability.detach().cpu().clone()
        texts = [[documents[max(place, 0)] for place in row] for row in chosen[: len(asked)].tolist()]
        quotes = [best_answer_span(row, text).span for row, text in zip(believed, texts, strict=True)]
        for row, (*_, places) in enumerate(asked):
            if source.random() < forced:
                quotes[row] = TokenSpan(0, *max(places, key=lambda place: float(believed[row, 0, place, [0, 1]].sum())))
                believed[row, 0, quotes[row].first, 0] = 1e4
        runs = [choose_windows(row, self.model.window, how.windows, how.neighbours) for row in believed]
        quoted = [span.tokens_of(row) for span, row in zip(quotes, texts, strict=True)]
        tails = self._tails(asked, quoted)
        return self.model.prompts.text_prompt(question, runs, texts, probability.exp(), tails, left=False)

    def _whole(
        self, question: Encoding, asked: list[TrainingQuestion], documents: list[list[int]], chosen: Tensor
    ) -> Prompt:
        """Whole memories, the right one at any place."""
        source = seeded_random(str(chosen.tolist()))
        present = [[documents[place] for place in row if place >= 0] for row in chosen[: len(asked)].tolist()]
        texts = [source.sample(row, len(row)) for row in present]
        runs = [whole_memory_spans([len(text) for text in row]) for row in texts]
        return self.model.prompts.text_prompt(question, runs, texts, None, self._tails(asked), left=False)

    def _tails(self, asked: list[TrainingQuestion], quotes: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
        pairs = zip(asked, quotes or [()] * len(asked), strict=True)
        return [[*self.model.prompts.question_tokens(ids, quote), *answer] for (ids, answer, *_), quote in pairs]

    def _answer(self, prompt: Prompt, asked: list[TrainingQuestion]) -> Tensor:
        """Memory-aware NLL of the answers, which stand last in the prompt."""
        lm, answers = self.model.lm, [answer for _, answer, *_ in asked]
        target = torch.tensor([token for answer in answers for token in answer], device=lm.device)
        alpha = self.params.objective.alpha
        with_memory = lm.logits(prompt, _before(answers, prompt.mask.sum(1).tolist(), lm.device))
        without = torch.zeros_like(with_memory)
        if alpha:
            with torch.no_grad():
                rows = [[lm.bos, *self.model.prompts.question_tokens(ids), *answer] for ids, answer, *_ in asked]
                without = lm.logits(lm.prompt(rows), _before(answers, [len(row) for row in rows], lm.device))
        return memory_aware_loss(with_memory, without, target, alpha)


def _before(answers: Sequence[Sequence[int]], ends: Sequence[int], device: torch.device) -> Tensor:
    """(N, 2) row and column of the positions that predict the answers' tokens."""
    places = [
        (row, column - 1)
        for row, (answer, end) in enumerate(zip(answers, ends, strict=True))
        for column in range(end - len(answer), end)
    ]
    return torch.tensor(places, device=device)


def _first(code: Encoding, count: int) -> Encoding:
    return Encoding(*(getattr(code, name)[:count] for name in Encoding.__dataclass_fields__))
