"""The decision on a challenger, by its figures and the figures of the compressor in use."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from cmt.common.difference import Difference
from cmt.config import PromotionParams

_MEASURED = {
    "F1 on the slice": ("f1", ".1f"),
    "F1 on held-out base articles": ("base_f1", ".1f"),
    "first token, s": ("first_token_seconds", ".3f"),
    "bytes a document": ("bytes_per_document", ",.0f"),
}
"""Row of the table → the value of a compressor, and its format."""


@dataclass(frozen=True)
class Measured:
    """The figures of one compressor."""

    f1: float  # 0–100, on the slice that decides
    base_f1: float  # 0–100, on the held-out articles of the base data
    first_token_seconds: float  # median time from a question to the first token of its answer
    bytes_per_document: float  # of its memories, without the text


@dataclass(frozen=True)
class Figures:
    """A challenger and the compressor in use on the same questions."""

    slice_id: str  # the slice that decides; neither was trained on it
    questions: int
    base_questions: int
    challenger: Measured
    champion: Measured
    gain: Difference  # F1 of the challenger minus F1 of the compressor in use, on the slice
    base_gain: Difference  # the same on the held-out articles

    def to_json(self) -> dict[str, Any]:
        """All figures, nested."""
        return asdict(self) | {"gain": list(self.gain), "base_gain": list(self.base_gain)}

    def rows(self) -> list[list[str]]:
        """A table: what was measured, of the challenger, of the compressor in use."""
        return [
            [
                name,
                *(
                    format(getattr(measured, key), form)
                    for measured in (self.challenger, self.champion)
                ),
            ]
            for name, (key, form) in _MEASURED.items()
        ]

    def to_tags(self) -> dict[str, str]:
        """The figures as tags of a version in the registry."""
        tags = {
            f"cmt.challenger.{name}": f"{value:.4g}"
            for name, value in asdict(self.challenger).items()
        }
        tags |= {
            f"cmt.champion.{name}": f"{value:.4g}" for name, value in asdict(self.champion).items()
        }
        decided_on = f"{self.slice_id}, {self.questions} questions"
        return tags | {
            "cmt.decided_on": decided_on,
            "cmt.gain": str(self.gain),
            "cmt.base_gain": str(self.base_gain),
        }


class Decision(NamedTuple):
    """Whether the challenger is promoted, and why or why not."""

    promoted: bool
    reason: str


def decide(figures: Figures, params: PromotionParams) -> Decision:
    """Promote a challenger without a loss on the base data that is better on the stream, or equal
    and cheaper.

    Without a loss: the interval on the base data excludes a loss above `max_loss`. Better: the
    interval of the gain lies above 0. Equal: the interval on the stream excludes a loss above
    `max_loss`. Cheaper: smaller or faster by at least `min_saving`.
    """
    new, old = figures.challenger, figures.champion
    said = f"F1 {figures.gain} on {figures.slice_id}, {figures.base_gain} on held-out base articles"
    if figures.base_gain.low < -params.max_loss:
        return Decision(
            False, f"{said}: a loss above {params.max_loss:g} on the base data is not excluded"
        )
    if figures.gain.low > 0:
        return Decision(True, f"{said}: better on the stream")
    if figures.gain.low < -params.max_loss:
        return Decision(False, f"{said}: neither a gain nor equality on the stream is shown")
    savings = {
        "smaller": 1 - new.bytes_per_document / old.bytes_per_document,
        "faster": 1 - new.first_token_seconds / old.first_token_seconds,
    }
    best = max(savings, key=lambda name: savings[name])
    if savings[best] >= params.min_saving:
        return Decision(True, f"{said}: as good, and {savings[best]:.0%} {best}")
    return Decision(False, f"{said}: as good, but not {params.min_saving:.0%} smaller or faster")
