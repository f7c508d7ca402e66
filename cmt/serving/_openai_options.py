"""Options of a request to `/v1/chat/completions`: what is refused, and where an answer ends.

Options of sampling (temperature, seed, …) and of billing have no effect and are accepted, because
clients always send them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

_NO_TOOLS = "the memory calls no tools: leave it out, or connect the assistant to /mcp"
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "a question has one answer: send 1"),
    "tools": (([],), _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "functions": (([],), _NO_TOOLS),
    "function_call": (("none", "auto"), _NO_TOOLS),
    "response_format": (({"type": "text"},), 'answers are plain text: send {"type": "text"}'),
    "logprobs": ((False,), "tokens have no probabilities: leave it out, and read `confidence`"),
    "top_logprobs": ((0,), "tokens have no probabilities: leave it out, and read `confidence`"),
    "logit_bias": (({},), "answers are quoted from documents: leave it out"),
    "modalities": ((["text"],), 'answers are text: send ["text"]'),
    "audio": ((), "answers are text: leave it out"),
    "web_search_options": ((), "answers come from the memory only: leave it out"),
}
"""Option → the values that ask for nothing, and what to do about another one."""
_Tokens = Annotated[int | None, Field(ge=1)]


class Options(BaseModel):
    """The options that matter; null is a missing one."""

    n: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    stop: str | list[str] | None = None

    @field_validator(*_REFUSED)
    @classmethod
    def _refuse(cls, value: Any, info: ValidationInfo) -> Any:
        accepted, remedy = _REFUSED[info.field_name or ""]
        if value is not None and value not in accepted:
            raise ValueError(remedy)
        return value

    @property
    def _limit(self) -> int | None:
        """The largest number of tokens of an answer; None without one."""
        given = (self.max_tokens, self.max_completion_tokens)
        return min((limit for limit in given if limit is not None), default=None)

    @property
    def _stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in stops if stop]

    def cut(self, answer: str, ends: Sequence[int]) -> tuple[str, Literal["stop", "length"]]:
        """The beginning of `answer` that a client gets, and why it ends there. `ends`: number of
        characters up to the end of each token.
        """
        places = [place for stop in self._stops if (place := answer.find(stop)) >= 0]
        whole = min(places, default=len(answer))
        if self._limit is not None and self._limit < len(ends):
            allowed = ends[self._limit - 1]
            if allowed < whole:
                return answer[:allowed], "length"
        return answer[:whole], "stop"

    def settled(self, text: str) -> int:
        """The number of characters of an unfinished answer `text` that `cut` will not take away."""
        length = len(text)
        if self._limit is not None:  # a token has one byte or more
            length = len(text.encode()[: self._limit].decode(errors="ignore"))
        for stop in self._stops:
            place = text.find(stop)
            length = min(length, place if place >= 0 else max(0, len(text) - len(stop) + 1))
        return length
