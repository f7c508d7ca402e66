"""A stand-in for WordKnowledge."""

from collections.abc import Iterable

from cmt.questions.word_knowledge import WordKnowledge


class UnknownWords(WordKnowledge):
    """Knows no word and no name."""

    def __init__(self) -> None:
        self.similar = lambda word: ()  # type: ignore[assignment]

    def kinds(self, names: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(names, "")

    def infinitive(self, past: str) -> str:
        return past
