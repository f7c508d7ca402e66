"""Text out of tokens that come one by one."""

from collections.abc import Callable

from cmt.lm.model import FrozenLM

_HALF = "\ufffd"  # what half a character decodes to, until the token with the other half is there


class StreamingDetokenizer:
    """Tells an answer while it is written: whole characters only, and no blank that its text may end with."""

    def __init__(self, lm: FrozenLM, say: Callable[[str], None]) -> None:
        self._lm, self._say = lm, say
        self._tokens: list[int] = []
        self._said = ""

    def put(self, _: int, token: int) -> None:
        """Say what the answer's next token makes certain; `FrozenLM.generate` tells its row as well."""
        self._tokens.append(token)
        self._go_on(self._lm.decode(self._tokens).rstrip(_HALF).rstrip())

    def end(self) -> None:
        """Say the rest: all that was said is now `decode` of the tokens."""
        self._go_on(self._lm.decode(self._tokens))

    def _go_on(self, text: str) -> None:
        if more := text[len(self._said) :]:
            self._said = text
            self._say(more)
