"""Similar words and kinds of names, from the frozen language model.

They replace a lexicon and a tagger in the generation of questions (`cmt.questions.generation`).
"""

import re
from collections.abc import Iterable
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.lm.decoding import shared_prefix
from cmt.lm.model import FrozenLM
from cmt.questions._spans import FUNCTION_WORD
from cmt.text.verbs import IRREGULAR

PERSONS = frozenset(["person", "god"])
PLACES = frozenset([
    "city", "country", "state", "region", "island", "mountain", "river", "sea", "continent",
    "building", "museum", "church", "street",
])  # fmt: skip
ACTORS = frozenset(
    ["company", "party", "band", "team", "people", "army", "agency", "organization"]
)  # groups that act
UNNAMED = frozenset(["group", "word"])  # kinds without information
KINDS = [
    *sorted(PERSONS | PLACES | ACTORS | UNNAMED),
    "language", "university", "school", "newspaper", "magazine", "book", "film", "song", "album",
    "religion", "war", "battle", "treaty", "law", "movement", "kingdom", "empire", "dynasty",
    "award", "holiday", "sport", "game", "plant", "animal", "disease", "drug", "chemical", "metal",
    "planet", "star", "ship", "train", "airport", "program", "system", "theory", "period",
]  # fmt: skip
_EXAMPLES = (
    "Marie Curie is a person. The Danube is a river. Lagos is a city. Toyota is a company. "
    "Finland is a country. "
    "Danish is a language. Hamlet is a book. The Kinks is a band. The Whigs is a party."
)
_LEAST_PROBABILITY = 0.4  # smallest probability of the likeliest kind; below it a name has no kind
_BATCH = 256  # names
_NEIGHBOURS = 8  # most similar words of a word
_LEAST_SIMILARITY = 0.45
_WORD = re.compile(r" [a-z]{3,}")


class WordKnowledge:
    """Similar words by the LM's embeddings, and kinds of names by its predictions."""

    def __init__(self, lm: FrozenLM) -> None:
        self._lm = lm
        self.similar = cache(self._similar)

    def _similar(self, word: str) -> dict[str, float]:
        """Words similar to the lower-case `word` → cosine, most similar first; none for a word of
        several tokens.
        """
        if (own := self._index(word)) is None:
            return {}
        cosines, indices = (self._vectors @ self._vectors[own]).topk(_NEIGHBOURS + 1)
        return {
            self._words[index]: cosine
            for cosine, index in zip(cosines.tolist(), indices.tolist(), strict=True)
            if index != own
            and cosine >= _LEAST_SIMILARITY
            and not FUNCTION_WORD.fullmatch(self._words[index])
        }

    def infinitive(self, past: str) -> str:
        """The infinitive of a verb in the past; the verb itself if no candidate is a word."""
        if past in IRREGULAR:
            return IRREGULAR[past]
        stem, own = past.removesuffix("ed"), self._index(past)
        indices = {
            word: self._index(word) for word in (stem, stem[:-1], f"{stem}e", f"{stem[:-1]}y")
        }
        cosines = {
            word: float(self._vectors[index] @ self._vectors[own])
            for word, index in indices.items()
            if index is not None and own is not None
        }
        return max(cosines, key=cosines.__getitem__, default=past)

    def _index(self, word: str) -> int | None:
        """The index of `word` in `_words`; None for a word of several tokens."""
        tokens = self._lm.tokenize(f" {word}")
        return self._indices.get(tokens[0]) if len(tokens) == 1 else None

    @torch.inference_mode()
    def kinds(self, names: Iterable[str]) -> dict[str, str]:
        """The kind of each name, one of KINDS; "" where the LM is unsure."""
        distinct = sorted(set(names), key=lambda name: (len(name), name))
        examples = shared_prefix(self._lm, _EXAMPLES)
        first_tokens = [self._lm.tokenize(f" {kind}")[0] for kind in KINDS]
        kinds: dict[str, str] = {}
        for start in range(0, len(distinct), _BATCH):
            # 1. the names behind the examples
            batch = distinct[start : start + _BATCH]
            rows = [self._lm.tokenize(f" {name} is a") for name in batch]
            keys, values = (part.expand(-1, len(rows), -1, -1, -1) for part in examples)
            prompt = self._lm.prompt(rows, prefix=(keys, values))
            # 2. the likeliest kind of each
            last = torch.tensor(
                [(row, len(tokens) - 1) for row, tokens in enumerate(rows)], device=self._lm.device
            )
            scores = self._lm.logits(prompt, last)[:, first_tokens]  # (B, kinds)
            probability, best = scores.float().softmax(1).max(1)  # (B,)
            for name, certainty, kind in zip(
                batch, probability.tolist(), best.tolist(), strict=True
            ):
                kinds[name] = KINDS[kind] if certainty >= _LEAST_PROBABILITY else ""
        return kinds

    @cached_property
    def _tokens(self) -> list[int]:
        """Tokens that are a whole lower-case word."""
        texts = self._lm.token_texts(range(len(self._lm.tokenizer)))
        return [token for token, text in enumerate(texts) if _WORD.fullmatch(text)]

    @cached_property
    def _words(self) -> list[str]:
        return [text.strip() for text in self._lm.token_texts(self._tokens)]

    @cached_property
    def _indices(self) -> dict[int, int]:
        """Token → its index in `_tokens`."""
        return {token: index for index, token in enumerate(self._tokens)}

    @cached_property
    def _vectors(self) -> Tensor:
        """(W, D) centred embeddings of `_tokens`, of unit length."""
        table = self._lm.model.get_input_embeddings().weight.detach().float()
        return F.normalize(table[self._tokens] - table.mean(0), dim=1)
