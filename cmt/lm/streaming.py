"""Text of an answer while its tokens are generated."""

from collections.abc import Callable

from cmt.lm.model import FrozenLM

_REPLACEMENT = "\ufffd"  # the decoded text of an incomplete UTF-8 character


class StreamingDetokenizer:
    """Turns a stream of tokens into pieces of text that add up to `FrozenLM.decode` of all tokens.

    A piece holds whole characters only. A trailing space is held back, since the text does not end
    with one.
    """

    def __init__(self, lm: FrozenLM, on_text: Callable[[str], None]) -> None:
        self._lm, self._on_text = lm, on_text
        self._tokens: list[int] = []
        self._text = ""

    def put(self, row: int, token: int) -> None:
        """Add the next token and emit the text that it completes; an `OnToken` callback, so `row`
        is ignored.
        """
        self._tokens.append(token)
        self._emit(self._lm.decode(self._tokens).rstrip(_REPLACEMENT).rstrip())

    def end(self) -> None:
        """Emit the rest of the text."""
        self._emit(self._lm.decode(self._tokens))

    def _emit(self, text: str) -> None:
        if piece := text[len(self._text) :]:
            self._text = text
            self._on_text(piece)
