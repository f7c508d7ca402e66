"""Greedy generation with the frozen LM, optionally contrastive and with a copy mechanism.

Results do not depend on the batch: rows are grouped by width, and `complete` generates rows with a near-tie again,
alone.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cmt.common.progress import OnProgress
from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix, Prompt

OnToken = Callable[[int, int], None]
"""Called with the row of a prompt and the next token of its continuation, as soon as it is chosen."""


class Generation(NamedTuple):
    """Continuations of a batch of prompts."""

    tokens: list[list[int]]
    margins: list[float]
    """Smallest lead of a row's tokens over the runner-up, in logits (in log-probability with a contrast or copies)."""


class Generate(Protocol):
    """Signature of `generate`."""

    def __call__(
        self,
        lm: FrozenLM,
        prompt: Prompt,
        *,
        max_new_tokens: int,
        against: Prompt | None = None,
        alpha: float = 0.0,
        copies: Sequence[CopyHypothesis] | None = None,
        on_token: OnToken | None = None,
    ) -> Generation: ...


class Complete(Protocol):
    """Answers text prompts: `complete` with its LM bound, or a cache in front of it."""

    def __call__(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        shared: str = "",
        on_progress: OnProgress | None = None,
    ) -> list[str]: ...


@torch.no_grad()
def generate(
    lm: FrozenLM,
    prompt: Prompt,
    *,
    max_new_tokens: int,
    against: Prompt | None = None,
    alpha: float = 0.0,
    copies: Sequence[CopyHypothesis] | None = None,
    on_token: OnToken | None = None,
) -> Generation:
    """Continue each prompt greedily up to end-of-sequence or the end of the line.

    Prompts are padded on the left. With `against`, the distributions are contrasted as in training, with
    log p = (1 + α) · log p(prompt) − α · log p(against) (docs/method.md#objective). With `copies`, every step is mixed
    with the copy hypothesis of its row. `on_token` is called for every token as it is generated.
    """
    prompts = [prompt, against] if against else [prompt]
    # 1. group rows by their width: the result of a row must not depend on the others
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, widths in enumerate(zip(*(part.row_widths() for part in prompts), strict=True)):
        groups.setdefault(widths, []).append(row)
    # 2. generate each group, and put its rows back in place
    result = Generation([[] for _ in prompt.embeds], [float("inf")] * len(prompt.embeds))
    for widths, rows in groups.items():
        group_prompts = [part.take_rows(rows, width) for part, width in zip(prompts, widths, strict=True)]
        group_copies = [copies[row] for row in rows] if copies else None
        group = _generate_equal_width(lm, group_prompts, max_new_tokens, alpha, group_copies, rows, on_token)
        for row, ids, margin in zip(rows, *group, strict=True):
            result.tokens[row], result.margins[row] = ids, margin
    return result


def complete(
    lm: FrozenLM,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    shared: str = "",
    on_progress: OnProgress | None = None,
    generate: Generate = generate,
) -> list[str]:
    """Answer each text prompt greedily, up to the end of the line.

    `shared` is read once and stands before every prompt. Answers do not depend on `batch_size`: rows with a near-tie
    are generated again alone. `on_progress` gets the number of prompts that are done. `generate` may be replaced, for
    example to count tokens.
    """
    # 1. read the shared text
    head = _shared_prefix(lm, shared) if shared else None
    tokens = [([] if shared else [lm.bos]) + lm.tokenize(text) for text in prompts]

    def generate_rows(batch: Sequence[int]) -> Generation:
        shape = -1, len(batch), -1, -1, -1
        prefix = (head[0].expand(shape), head[1].expand(shape)) if head else None
        prompt = lm.prompt([tokens[row] for row in batch], prefix=prefix, left=True)
        return generate(lm, prompt, max_new_tokens=max_new_tokens)

    # 2. generate in batches of similar length, the longest first
    by_length = sorted(range(len(prompts)), key=lambda row: -len(tokens[row]))
    answers = [""] * len(prompts)
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        for row, ids, margin in zip(batch, *generate_rows(batch), strict=True):
            near_tie = len(batch) > 1 and margin < lm.tolerance
            answers[row] = lm.decode(generate_rows([row]).tokens[0] if near_tie else ids)
        if on_progress:
            on_progress(len(batch))
    return answers


@torch.no_grad()
def _shared_prefix(lm: FrozenLM, text: str) -> Prefix:
    """Keys and values of `text`, (layers, 1, kv heads, P, head size) each, without its padding."""
    ids = [lm.bos, *lm.tokenize(text)]
    cache = lm.cache(None)
    lm.read(lm.prompt([ids]), cache)
    keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
    return torch.stack(keys)[..., : len(ids), :], torch.stack(values)[..., : len(ids), :]


def _generate_equal_width(
    lm: FrozenLM,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    alpha: float,
    copies: Sequence[CopyHypothesis] | None,
    rows: Sequence[int],
    on_token: OnToken | None,
) -> Generation:
    """`generate` for prompts of equal width; the second of `prompts`, if any, is the one to contrast with.

    `rows` are the rows in the caller's batch, for `on_token`.
    """
    decoders = [_BatchDecoder(lm, prompt) for prompt in prompts]
    tokens: list[list[int]] = [[] for _ in prompts[0].embeds]
    margins = [float("inf")] * len(tokens)
    active = list(range(len(tokens)))  # rows that the decoders hold, B of them
    ended: set[int] = set()
    for step in range(max_new_tokens):
        # 1. scores of the next token
        scores = decoders[0].scores  # (B, V)
        if len(decoders) > 1:
            scores = (1 + alpha) * scores.log_softmax(-1) - alpha * decoders[1].scores.log_softmax(-1)
        if copies:
            hypotheses, lm_probability = [copies[row] for row in active], scores.softmax(-1)
            scores = mix_with_copies(lm_probability, hypotheses).log()
        # 2. the best token of each row
        (best, runner_up), (token, _) = (part.unbind(1) for part in scores.topk(2))  # (B,) each
        if copies:
            update_hypotheses(hypotheses, token, lm_probability)
        for row, symbol, lead in zip(active, token.tolist(), (best - runner_up).tolist(), strict=True):
            if row in ended:
                continue
            margins[row] = min(margins[row], lead)
            if _ends_answer(lm, symbol):
                ended.add(row)
                continue
            tokens[row].append(symbol)
            if on_token:
                on_token(rows[row], symbol)
        if len(ended) == len(tokens) or step + 1 == max_new_tokens:
            break
        # 3. drop ended rows once they are half of the batch: from there on it pays to copy the cache
        open_places = [place for place, row in enumerate(active) if row not in ended]
        if 2 * len(open_places) <= len(active):
            places = torch.tensor(open_places, device=lm.device)
            active, token = [active[place] for place in open_places], token[places]
            for decoder in decoders:
                decoder.keep_rows(places)
        # 4. append the tokens
        for decoder in decoders:
            decoder.append(token)
    return Generation(tokens, margins)


def _ends_answer(lm: FrozenLM, symbol: int) -> bool:
    # vocabularies have dozens of tokens that contain a line break
    return symbol == lm.eos or "\n" in lm.tokenizer.decode([symbol])


class _BatchDecoder:
    """A batch of texts with the LM's cache of them, and the logits `scores` (B, V) of each row's next token.

    A single row is computed twice: matrix products of one row are rounded differently from those of several.
    """

    def __init__(self, lm: FrozenLM, prompt: Prompt) -> None:
        self.lm, self.cache, self.mask = lm, lm.cache(prompt.prefix), prompt.whole_mask
        hidden = lm.read(prompt, self.cache)  # (B, T, D)
        self.scores = lm.exact_logits(hidden[:, -1])  # (B, V)
        if len(self.mask) == 1:
            self.keep_rows(torch.zeros(1, dtype=torch.long, device=lm.device))

    def keep_rows(self, places: Tensor) -> None:
        """Continue with the rows at `places` (B',) only."""
        places = places.expand(2) if len(places) == 1 else places
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]  # (B', P + T)

    def append(self, token: Tensor) -> None:
        """Append one token (B,) to each row and score the next one."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(self.mask.shape[0], 1)], 1)  # (B, P + T + 1)
        hidden = self.lm.backbone(
            inputs_embeds=self.lm.embed(token.expand(len(self.mask))[:, None]),  # (B, 1, D)
            attention_mask=self.mask,
            position_ids=self.mask.sum(1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.scores = self.lm.exact_logits(hidden[: len(token), -1])  # (B, V)
