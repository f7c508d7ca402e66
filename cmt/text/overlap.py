"""How many words and names two texts share, as 0–1."""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cmt.text.names import name_words
from cmt.text.words import is_function_word, stem, stems, words

SAMPLE = 300  # texts of a bank in which WordWeights counts words


def coverage(question: str, text: str) -> float:
    """Share of the question's words that occur in `text`, weighted by word length; 0–1.

    Words are compared as stems, so inflections do not matter.
    """
    question_stems, text_stems = set(stems(question)), set(stems(text))
    return sum(map(len, question_stems & text_stems)) / (sum(map(len, question_stems)) or 1)


def names_covered(question: str, text: str) -> float:
    """Share of the question's names and numbers that occur in `text`, as stems; 1 for a question
    without any.

    A name is a capitalised word that begins no sentence.
    """
    numbers = [word for word in words(question) if word[0].isdigit()]
    asked = [stem(word) for word in name_words(question) + numbers]
    present = {stem(word) for word in words(text)}
    return sum(word in present for word in asked) / len(asked) if asked else 1.0


class WordWeights:
    """Inverse document frequencies of words in a sample of texts.

    A sample of fewer than SAMPLE texts counts as if further texts had none of the words. Otherwise
    the two texts of a small bank that share a word would make it a frequent one.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._with_word = Counter[str]()
        sampled = 0
        for text in texts:
            sampled += 1
            self._with_word.update(set(stems(text)))
        self._texts = max(sampled, SAMPLE)

    def coverage(self, text: str, other: str) -> float:
        """Weighted share of the words of `text` that occur in `other`, as stems; 0–1."""
        own, others = set(stems(text)), set(stems(other))
        # fsum: an exact sum does not depend on the order of a set
        return math.fsum(map(self._weight, own & others)) / (math.fsum(map(self._weight, own)) or 1)

    def names_shared(self, text: str, other: str) -> float:
        """Weighted share of the names in one text that occur in the other, as stems; the larger one
        of both texts.

        A name is a capitalised word inside a sentence. The share of a text without any is 1.
        """
        return max(self._names_shared(text, other), self._names_shared(other, text))

    def rarity(self, name: str) -> float:
        """Inverse document frequency of the words of a name together, in nats."""
        return math.fsum(self._weight(word) for word in set(stems(name)))

    def _names_shared(self, text: str, other: str) -> float:
        names = {stem(word) for word in name_words(text) if not is_function_word(word)}
        shared = math.fsum(map(self._weight, names & set(stems(other))))
        return shared / math.fsum(map(self._weight, names)) if names else 1.0

    def _weight(self, word: str) -> float:
        return float(inverse_frequency(self._with_word[word], self._texts))


def inverse_frequency(with_word: NDArray[np.int64] | int, texts: int) -> NDArray[np.float64]:
    """BM25's inverse document frequency of words that `with_word` of `texts` texts contain."""
    counts = np.asarray(with_word)
    return np.log1p((texts - counts + 0.5) / (counts + 0.5))
