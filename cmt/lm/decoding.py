"""Greedy generation with the frozen LM, optionally with a copy mechanism.

Results do not depend on the batch: rows are grouped by width, and `complete` generates a row with a
near-tie again by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cmt.common.progress import OnProgress
from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix, Prompt, pad

# most tokens of a quote that are read together with the prompt; few answers are longer
DRAFT_TOKENS = 8

OnToken = Callable[[int, int], None]
"""Called with the row of a prompt and the next token of its continuation, as soon as it is
chosen.
"""


class Generation(NamedTuple):
    """Continuations of a batch of prompts."""

    tokens: list[list[int]]
    margins: list[
        float
    ]  # smallest lead of a row's tokens over the runner-up, in logits (with copies in nats)


Generate = Callable[..., Generation]  # `generate`, or a function that takes the same arguments
Complete = Callable[..., list[str]]  # `complete` with its LM bound, or a cache in front of it


@torch.no_grad()
def generate(
    lm: FrozenLM,
    prompt: Prompt,
    *,
    max_new_tokens: int,
    copies: Sequence[CopyHypothesis] | None = None,
    on_token: OnToken | None = None,
) -> Generation:
    """Continue each prompt greedily up to end-of-sequence or the end of the line.

    Prompts are padded on the left. With `copies`, every step is mixed with the copy hypothesis of
    its row. `on_token` is called for every token as it is generated.
    """
    # 1. group rows by width, so that the result of a row does not depend on the others
    groups: dict[int, list[int]] = {}
    for row, width in enumerate(prompt.row_widths()):
        groups.setdefault(width, []).append(row)
    # 2. generate each group
    result = Generation([[] for _ in prompt.embeds], [float("inf")] * len(prompt.embeds))
    for width, rows in groups.items():
        group_copies = [copies[row] for row in rows] if copies else None
        # each prompt is read together with its quote, the likely answer
        drafts = [list(copy.tokens[:-1][:DRAFT_TOKENS]) for copy in group_copies or ()]
        decoder = _BatchDecoder(lm, prompt.take_rows(rows, width), drafts)
        texts = _Continuations(lm, rows, max_new_tokens, group_copies, on_token)
        _continue(texts, drafts, decoder)
        for row, ids, margin in zip(rows, texts.tokens, texts.margins, strict=True):
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

    `shared` is read once and precedes every prompt. Answers do not depend on `batch_size`: a row
    with a near-tie is generated again by itself. `on_progress` gets the number of finished prompts.
    A caller may replace `generate`, for example to count tokens.
    """
    # 1. read the shared text
    head = shared_prefix(lm, shared) if shared else None
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
def shared_prefix(lm: FrozenLM, text: str) -> Prefix:
    """Keys and values of `text`, (layers, 1, kv heads, P, head size) each, without its padding."""
    ids = [lm.bos, *lm.tokenize(text)]
    cache = lm.cache(None)
    lm.read(lm.prompt([ids]), cache)
    keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
    return torch.stack(keys)[..., : len(ids), :], torch.stack(values)[..., : len(ids), :]


def _continue(
    texts: "_Continuations", drafts: Sequence[Sequence[int]], decoder: "_BatchDecoder"
) -> None:
    """Extend each row until it has ended.

    1. Accept the tokens of the drafts that would be generated (arXiv 2211.17192); without drafts
       each row gets its first token.
    2. Generate the rest, token by token.
    """
    rows = list(range(len(texts.tokens)))
    _accept_drafts(texts, drafts, decoder, rows)
    active = [row for row in rows if row not in texts.ended]  # B rows in the decoder
    if active:
        decoder.keep_rows(active, [len(tokens) - 1 for tokens in texts.tokens])
    while active:
        decoder.append([texts.tokens[row][-1] for row in active])
        positions = [position for position, row in enumerate(active) if row not in texts.ended]
        texts.extend([active[position] for position in positions], decoder.scores(positions))
        # drop ended rows once they are half of the batch: from there on it pays to copy the cache
        positions = [position for position in positions if active[position] not in texts.ended]
        if 2 * len(positions) <= len(active):
            active = [active[position] for position in positions]
            if active:
                decoder.keep_rows(positions)


def _accept_drafts(
    texts: "_Continuations",
    drafts: Sequence[Sequence[int]],
    decoder: "_BatchDecoder",
    rows: Sequence[int],
) -> None:
    """Extend `rows` by their drafts, and by the first token that a draft does not have."""
    for length in range(DRAFT_TOKENS + 1):
        chosen = texts.extend(rows, decoder.scores(rows, length))
        following = []
        for row, token in zip(rows, chosen, strict=True):
            expected = drafts[row][length : length + 1] if drafts else []
            if expected == [token] and row not in texts.ended:
                following.append(row)
        if not following:
            return
        rows = following


class _Continuations:
    """The tokens so far of `rows` of the caller's batch, and which of them have ended."""

    def __init__(
        self,
        lm: FrozenLM,
        rows: Sequence[int],
        max_new_tokens: int,
        copies: Sequence[CopyHypothesis] | None,
        on_token: OnToken | None,
    ) -> None:
        self._lm = lm
        self._rows = rows
        self._limit = max_new_tokens
        self._copies = copies
        self._on_token = on_token
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.margins = [float("inf")] * len(rows)
        self.ended: set[int] = set()

    def extend(self, rows: Sequence[int], scores: Tensor) -> list[int]:
        """Choose the best next token of each of the B `rows`, none of which has ended, by `scores`
        (B, V).
        """
        # 1. the copy hypotheses
        if self._copies:
            hypotheses = [self._copies[row] for row in rows]
            lm_probability = scores.softmax(-1)  # (B, V)
            scores = mix_with_copies(lm_probability, hypotheses).log()
        # 2. the best token of each row
        (best, runner_up), (token, _) = (part.unbind(1) for part in scores.topk(2))  # (B,) each
        if self._copies:
            update_hypotheses(hypotheses, token, lm_probability)
        # 3. put them behind the rows
        chosen: list[int] = token.tolist()
        for row, symbol, lead in zip(rows, chosen, (best - runner_up).tolist(), strict=True):
            self.margins[row] = min(self.margins[row], lead)
            # vocabularies have dozens of tokens that contain a line break
            if symbol == self._lm.eos or "\n" in self._lm.tokenizer.decode([symbol]):
                self.ended.add(row)
                continue
            self.tokens[row].append(symbol)
            if self._on_token:
                self._on_token(self._rows[row], symbol)
            if len(self.tokens[row]) == self._limit:
                self.ended.add(row)
        return chosen


class _BatchDecoder:
    """A batch of B texts with the LM's cache; a draft of its continuation may follow each
    prompt.
    """

    def __init__(self, lm: FrozenLM, prompt: Prompt, drafts: Sequence[Sequence[int]]) -> None:
        self.lm, self.cache = lm, lm.cache(prompt.prefix)
        end = prompt.embeds.shape[1]
        if drafts:
            # a row of DRAFT_TOKENS, which is dropped, sets the width: no row depends on the drafts
            # of the others
            ids, mask = (
                part[:-1]
                for part in pad([*drafts, [0] * DRAFT_TOKENS], left=False, device=lm.device)
            )
            embeds = torch.cat(
                [prompt.embeds, lm.embed(ids).to(prompt.embeds.dtype)], 1
            )  # (B, T + DRAFT_TOKENS, D)
            prompt = replace(prompt, embeds=embeds, mask=torch.cat([prompt.mask, mask], 1))
        self.mask = prompt.whole_mask  # (B, P + T)
        self._hidden = lm.read(prompt, self.cache)[:, end - 1 :]  # (B, 1 + drafted, D)

    def scores(self, positions: Sequence[int], accepted: int = 0) -> Tensor:
        """Logits (B', V) of the next token of the rows at `positions`, behind `accepted` tokens of
        their drafts.
        """
        return self.lm.exact_logits(self._hidden[list(positions), accepted])

    def keep_rows(self, positions: Sequence[int], accepted: Sequence[int] = ()) -> None:
        """Continue with the B' rows at `positions`, each draft hidden behind its first `accepted`
        (B) tokens.
        """
        if drafted := self._hidden.shape[1] - 1:
            counts = torch.tensor(accepted, device=self.lm.device)[:, None]  # (B, 1)
            self.mask[:, -drafted:] = torch.arange(drafted, device=self.lm.device) < counts
        if len(positions) == len(self.mask) > 1:
            return
        # a single row is computed twice: a matrix product of one row rounds differently from one of
        # several
        kept = torch.tensor(
            [*positions, *positions] if len(positions) == 1 else positions, device=self.lm.device
        )
        self.cache.batch_select_indices(kept)
        self.mask = self.mask[kept]  # (B', P + T)

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to each row."""
        self.mask = torch.cat(
            [self.mask, self.mask.new_ones(self.mask.shape[0], 1)], 1
        )  # (B, P + T + 1)
        ids = torch.tensor(tokens, device=self.lm.device).expand(len(self.mask))
        self._hidden = self.lm.backbone(
            inputs_embeds=self.lm.embed(ids[:, None]),  # (B, 1, D)
            attention_mask=self.mask,
            position_ids=self.mask.sum(1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
