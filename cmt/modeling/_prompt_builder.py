"""Prompts of the frozen LM: windows of text or a key/value prefix, then the question
(docs/method.md#alignment).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt, pad
from cmt.modeling._alignment import TextAlignment
from cmt.modeling.compressor import Encoding
from cmt.modeling.span_decoding import TokenSpan


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
