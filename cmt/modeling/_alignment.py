"""π: turns the output of ψ into input of the frozen LM (docs/method.md#alignment).

`PromptBuilder` writes windows of text, then the question. `TextAlignment` highlights the embeddings
of the chosen windows and prepends a short key/value prefix, which teaches the form of an answer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prefix, Prompt, pad
from cmt.modeling.compressor import Encoding
from cmt.modeling.span_decoding import TokenSpan

PREFIX_STD = 0.004  # keys and values near zero: training starts at the closed-book answer


class KeyValueMap(nn.Module):
    """RMSNorm and one linear map to the keys and values of all layers."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        self.shape = (lm.layers, 2, lm.kv_heads, lm.head_size)
        self.norm = nn.RMSNorm(lm.hidden_size)
        self.out = nn.Linear(lm.hidden_size, 2 * lm.layers * lm.kv_heads * lm.head_size, bias=False)
        nn.init.normal_(self.out.weight, std=PREFIX_STD)

    def forward(self, slots: Tensor) -> Prefix:
        """`slots` (B, P, D) → keys and values (layers, B, kv heads, P, head size)."""
        both = self.out(self.norm(slots)).unflatten(
            -1, self.shape
        )  # (B, P, layers, 2, kv heads, head size)
        keys, values = both.permute(3, 2, 0, 4, 1, 5).unbind()
        return keys, values


class TextAlignment(nn.Module):
    """A prefix from learned slots and the pooled question, and embeddings highlighted by a
    probability.
    """

    def __init__(self, lm: FrozenLM, slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(slots, lm.hidden_size))
        self.question = nn.Linear(lm.hidden_size, lm.hidden_size, bias=False)
        nn.init.eye_(self.question.weight)
        self.to_prefix = KeyValueMap(lm)
        self.highlight = nn.Parameter(
            torch.zeros(2, lm.hidden_size)
        )  # of the tokens that begin and end the answer

    def prefix(self, question: Encoding) -> Prefix:
        """Key/value prefix of P = `slots` positions for each question."""
        slots = self.slots + self.question(question.pooled).unsqueeze(1)  # (B, P, D)
        return self.to_prefix(slots)


class PromptBuilder:  # no module, so that it adds nothing to the names of the trained tensors
    """Builds the prompts that the frozen LM answers from; answering and training share one
    layout.
    """

    def __init__(self, lm: FrozenLM, alignment: TextAlignment) -> None:
        self.lm, self.alignment = lm, alignment
        self._text_label, self._line_break = lm.tokenize("Text:"), lm.tokenize("\n")
        self._question_label = lm.tokenize("Question:")
        self._answer_label = lm.tokenize("\nAnswer:")
        self._quote_label = lm.tokenize("\nQuote:")

    def question_tokens(self, ids: Sequence[int], quote: Sequence[int] = ()) -> list[int]:
        """Tokens of `Question: <ids> Answer:`, with `Quote: <quote>` in between if there is one."""
        quoted = [*self._quote_label, *quote] if quote else []
        return [*self._question_label, *ids, *quoted, *self._answer_label]

    def text_prompt(
        self,
        question: Encoding,
        spans: Sequence[Sequence[TokenSpan]],
        texts: Sequence[Sequence[Sequence[int]]],
        probability: Tensor | None,
        tails: Sequence[Sequence[int]],
        *,
        left: bool,
    ) -> Prompt:
        """`[prefix][BOS]Text: <spans> <tail>` for each question.

        `texts` are the token ids of each question's memories, `spans` the parts of them to read.
        Their embeddings are highlighted by `probability` (B, S, n, 2) of beginning and end, unless
        it is None. `left` pads on the left, for generation.
        """
        # 1. token ids of each row, and the index of each in the flattened probabilities; 0: outside
        #    the memories
        tokens_per_memory = 0 if probability is None else probability.shape[2]
        rows, indices = [], []
        for row_spans, row_texts, tail in zip(spans, texts, tails, strict=True):
            row = [self.lm.bos, *self._text_label]
            row_indices = [0] * len(row)
            for span in row_spans:
                tokens = span.tokens_of(row_texts)
                row += [*tokens, *self._line_break]
                first = 1 + span.memory * tokens_per_memory + span.first
                row_indices += [*range(first, first + len(tokens)), *[0] * len(self._line_break)]
            rows.append([*row, *tail])
            indices.append([*row_indices, *[0] * len(tail)])
        ids, mask = pad(rows, left=left, device=self.lm.device)  # (B, T)
        embeds = self.lm.embed(ids)  # (B, T, D)
        # 2. highlight the tokens that probably begin or end the answer
        if probability is not None:
            padded_indices, _ = pad(indices, left=left, device=self.lm.device)  # (B, T)
            flat = F.pad(probability.flatten(1, 2), (0, 0, 1, 0))  # (B, 1 + S·n, 2)
            of_tokens = flat.gather(1, padded_indices[..., None].expand(-1, -1, 2))  # (B, T, 2)
            embeds = embeds.float() + of_tokens @ self.alignment.highlight
        # 3. the learned prefix comes first
        return Prompt(embeds, mask, self.alignment.prefix(question))
