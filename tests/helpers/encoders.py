"""Cross-encoders without weights."""

from collections.abc import Callable

from cmt.modeling.cross_encoder import CrossEncoder, DatedText, Odds


class FixedEncoder(CrossEncoder):
    """Gives every pair the same odds, or those of a function of the later text."""

    def __init__(
        self, *, holds: float, changed: float, of_text: Callable[[str], Odds] | None = None
    ) -> None:
        self.of_text = of_text or (lambda _text: Odds(holds, changed))
        self.read = list[DatedText]()  # earlier and later texts, in turn

    def odds(self, question: str, earlier: DatedText, later: DatedText) -> Odds:
        self.read += [earlier, later]
        return self.of_text(later.text)
