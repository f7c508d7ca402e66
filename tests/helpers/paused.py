"""A server whose LM pauses within an answer, so that a test can inspect the first part of a
response.
"""

from threading import Semaphore
from typing import Any

from cmt.lm.decoding import Generation
from cmt.serving._batching import DynamicBatcher


class PausedServer:
    """After the first token of a streamed answer, the LM waits until `resume` is called.

    Answers are generated without copies: the quote of an untrained ψ is one token long.
    """

    def __init__(self, url: str, batcher: DynamicBatcher) -> None:
        self.url, self.batcher = url, batcher
        self.tokens = 0  # number of tokens generated so far
        self._permits = Semaphore(0)
        answerer = batcher.project.answerer
        self._generate_tokens = answerer.generate
        answerer.generate = self._generate

    def resume(self) -> None:
        """Let the LM generate the next 100 tokens."""
        self._permits.release(100)

    def _generate(
        self, *prompt: Any, on_token: Any = None, copies: Any = None, **options: Any
    ) -> Generation:
        def wait_and_forward(row: int, token: int) -> None:
            if self.tokens:
                assert self._permits.acquire(timeout=30)
            self.tokens += 1
            on_token(row, token)

        return self._generate_tokens(*prompt, on_token=on_token and wait_and_forward, **options)
