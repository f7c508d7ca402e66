"""The cost of a system: time, memory, storage, and the tokens that the LM reads."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from cmt.lm import decoding
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt


@dataclass(frozen=True)
class Cost:
    """The cost of one system."""

    adapt_seconds: float | None  # wall-clock seconds to process all documents, from the rounds; None if unknown
    seconds_per_question: float  # wall-clock, in batches of `answering.batch_size`
    peak_bytes: int | None  # resident memory of the process, with libraries, LM and bank; None except on Linux
    stored_bytes: int  # bytes stored for the system beside the frozen LM, without search indexes
    tokens_per_question: float  # positions that the LM reads before its answer: examples, texts, soft tokens and prefix

    def to_json(self) -> dict[str, Any]:
        """Seconds with four decimals, tokens with one; None is null."""
        digits = {"adapt_seconds": 4, "seconds_per_question": 4, "tokens_per_question": 1}
        return {
            name: round(value, digits[name]) if name in digits and value is not None else value
            for name, value in asdict(self).items()
        }


class TokenMeter:
    """Versions of `generate` and `complete` that count the prompt positions that the LM reads in `tokens_read`."""

    def __init__(self) -> None:
        self.tokens_read = 0

    def generate(self, lm: FrozenLM, prompt: Prompt, **options: Any) -> decoding.Generation:
        """`decoding.generate`, metered; a shared head counts for every question."""
        self.tokens_read += int(prompt.whole_mask.sum())
        return decoding.generate(lm, prompt, **options)

    def complete(self, lm: FrozenLM) -> decoding.Complete:
        """`decoding.complete` of `lm`, metered."""
        return partial(decoding.complete, lm, generate=self.generate)
