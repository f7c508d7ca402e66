"""Answers of the frozen LM that are known already: a baseline's prompt that comes back is generated once."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.evaluation.sealed import BATCHES_A_WRITE, SealedAnswers

if TYPE_CHECKING:
    from cmt.memory.lm import FrozenLM


class PromptCache:
    """One file of answers, keyed by sha256 of (LM digest, prompt, longest answer)."""

    def __init__(self, path: Path) -> None:
        self.path, self._answers = path, SealedAnswers(path)

    def complete(
        self,
        lm: "FrozenLM",
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        shared: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> list[str]:
        """As `lm.complete`; what an LM of the same digest answered before is looked up."""
        keys = [_key(lm.digest, shared + prompt, max_new_tokens) for prompt in prompts]
        known = self._answers.read(set(keys))
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if progress:
            progress(len(prompts) - len(missing))
        order = sorted(missing, key=lambda key: (len(missing[key]), key))
        step = batch_size * BATCHES_A_WRITE
        for block in (order[start : start + step] for start in range(0, len(order), step)):
            answers = lm.complete(
                [missing[key] for key in block],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                shared=shared,
                progress=progress,
            )
            fresh = dict(zip(block, answers, strict=True))
            self._answers.write(fresh)
            known |= fresh
        return [known[key] for key in keys]


def _key(digest: str, prompt: str, max_new_tokens: int) -> str:
    return hashlib.sha256(f"{digest}\0{max_new_tokens}\0{prompt}".encode()).hexdigest()
