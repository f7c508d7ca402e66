"""Whether a later document's statement replaces an earlier one's (docs/method.md#changes).

A cross-encoder reads the two documents that answer a question. For an LM that has none, a logistic
regression compares the answers: its features are the scores of ψ, the words that both documents
share, how the later document tells its value (as a fact, a plan, a rumour, a memory, a condition or
a quotation), and the word n-grams around both answers. `benchmarks/changes.py` fits its weights to
stories whose facts change.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cmt.answering.attribution import Offsets
from cmt.common.storage import write_bytes
from cmt.errors import ModelError
from cmt.modeling.cross_encoder import CrossEncoder, Odds, Report
from cmt.modeling.model import ReadSpan
from cmt.modeling.span_decoding import sentence_starts
from cmt.text.display import without_publisher
from cmt.text.english import WAYS_OF_TELLING
from cmt.text.overlap import coverage, names_covered

WEIGHTS = Path(__file__).with_name(
    "comparison.safetensors"
)  # file of the weights; they fit every compressor
LARGEST_SCORE = 12.0  # nats; larger scores of ψ count as this one
EXCERPT = 450  # characters of a text that the cross-encoder reads
POSSIBLE = 0.05  # probability from which a change is possible
LARGEST_ODDS = (
    12.0  # nats; log-odds are at most these, so that neither statement loses all its mass
)
LONGEST = 3  # words in an n-gram
CALIBRATION = (0.0, 0.9, 0.2)  # constant, weights of the cross-encoder's log-odds and of the `gain`
_PAST_QUESTION = re.compile(
    r"\b(?:was|were|did|had|before|former\w*|first|previous\w*|used to|ago|in (?:1\d|20)\d\d)\b",
    re.I,
)

_UNSETTLED_QUESTION = re.compile(
    r"\b(?:this (?:week|month|weekend)|temporar\w*|acting|propos\w*|rumou?r\w*|plan\w*|forecast\w*|petition|"
    r"claim\w*)\b",
    re.I,
)
_WORD = re.compile(r"_new_|_old_|\d[\d.,:]*|[^\W\d_]+")


@dataclass(frozen=True)
class Statement:
    """What one document says about a question."""

    text: str  # the text of the memory
    first: int
    last: int  # the characters `first` … `last` of the text, the last one excluded, are the answer
    score: float  # ψ's log-score of the answer against "nowhere", in nats
    published_at: datetime
    prior: float = 0.0  # what the selection adds to the score, in nats
    publisher_length: int = 0  # characters at the start of the text that name the publisher

    @classmethod
    def of(
        cls, memory: Mapping[str, Any], text: str, span: ReadSpan, offsets: Offsets
    ) -> "Statement":
        """The statement that ψ reads in `text`, that of the bank row `memory`, the span without
        blanks around it.
        """
        published_at = memory["published_at"]
        skipped = len(text) - len(without_publisher({**memory, "text": text}))
        token_offsets = offsets(text) if math.isfinite(span.score) else ()
        if not token_offsets:
            return cls(text, 0, 0, span.score, published_at, span.prior, skipped)
        first = token_offsets[span.first][0]
        last = token_offsets[min(span.last, len(token_offsets) - 1)][1]
        words = text[first:last]
        first += len(words) - len(words.lstrip())
        return cls(
            text, first, first + len(words.strip()), span.score, published_at, span.prior, skipped
        )

    @property
    def without_publisher(self) -> "Statement":
        """The statement in the text alone; an answer in the publisher's name is cut off."""
        first, last = (max(0, end - self.publisher_length) for end in (self.first, self.last))
        return replace(
            self,
            text=self.text[self.publisher_length :],
            first=first,
            last=last,
            publisher_length=0,
        )

    @property
    def answer(self) -> str:
        """The answer, a part of the text."""
        return self.text[self.first : self.last]


class Features(NamedTuple):
    """Features of a pair of statements. Truth values are 0 or 1, counts are at most 3, shares are
    0–1.
    """

    gain: float  # ψ's score of the later answer minus the one of the earlier answer, in nats
    earlier_score: float
    # share of the question's words in the later text minus their share in the earlier one
    coverage_gain: float
    overlap: float  # share of the earlier text's words in the later one
    context: float  # share of the words in the earlier answer's sentence in the later text
    names: float  # share of the question's names and numbers in the later text
    context_names: (
        float  # share of the names and numbers in the earlier answer's sentence in the later text
    )
    mentions_earlier: float  # whether the sentence of the later answer has the earlier one
    mentions_later: float  # whether the earlier text has the later answer
    quoted: float  # whether the later answer is inside quotation marks
    conditions: float  # how often the later text tells a condition
    plans: float  # how often the later text tells of the future
    memories: float  # how often the later text looks back
    hearsay: float  # whether the sentence of the later answer tells hearsay
    past_before: float  # whether the sentence before it tells of the past
    denial_after: float  # whether the text after it tells a denial
    title_denial: float
    title_change: float  # whether the first line of the later text tells a denial, or a change
    past_question: float
    unsettled_question: (
        float  # whether the question asks for the past, or for a plan, a rumour or an exception
    )


def features(question: str, earlier: Statement, later: Statement) -> Features:
    """The features of two statements that answer `question`, without their publishers."""
    earlier, later = earlier.without_publisher, later.without_publisher
    before, sentence, after = _sentences_around(later)
    _, earlier_sentence, _ = _sentences_around(earlier)
    title = _title(later)
    tells = WAYS_OF_TELLING

    def count(way: str) -> int:
        return min(3, len(tells[way].findall(later.text)))

    values = (
        _gain(earlier, later),
        _bounded(earlier.score),
        coverage(question, later.text) - coverage(question, earlier.text),
        coverage(earlier.text, later.text),
        coverage(earlier_sentence, later.text),
        names_covered(question, later.text),
        names_covered(earlier_sentence, later.text),
        bool(earlier.answer) and earlier.answer.lower() in sentence.lower(),
        bool(later.answer) and later.answer.lower() in earlier.text.lower(),
        later.text[: later.first].count('"') % 2,
        count("condition"),
        count("future"),
        count("memory"),
        tells["hearsay"].search(sentence),
        tells["past"].search(before),
        tells["denial"].search(after),
        tells["denial"].search(title),
        tells["change"].search(title),
        _PAST_QUESTION.search(question),
        _UNSETTLED_QUESTION.search(question),
    )
    return Features(
        *(value if isinstance(value, int | float) else value is not None for value in values)
    )


def _gain(earlier: Statement, later: Statement) -> float:
    return _bounded(later.score - earlier.score)


def _bounded(score: float) -> float:
    return max(-LARGEST_SCORE, min(LARGEST_SCORE, score))


def _sentences_around(statement: Statement) -> tuple[str, str, str]:
    """The sentence of the answer, between the one before it and the one after it."""
    text = statement.text
    ends = sorted({0, len(text), *sentence_starts(text)})
    sentences = [*pairwise(ends)] or [(0, 0)]
    number = max(
        (n for n, (start, _) in enumerate(sentences) if start <= statement.first), default=0
    )
    padded = [(0, 0), *sentences, (0, 0)]
    before, sentence, after = (text[slice(*padded[number + shift])] for shift in range(3))
    return before, sentence, after


def ngrams(question: str, earlier: Statement, later: Statement) -> NDArray[np.uint32]:
    """Hashes of the word n-grams of two statements, sorted, each once.

    An n-gram counts in its place: the question, the sentence of the earlier answer, the later title
    and text, the sentence of the later answer, and the ones before and after it. The answers are
    placeholders, all numbers one word. Publishers do not count.
    """
    earlier, later = earlier.without_publisher, later.without_publisher
    before, sentence, after = _sentences_around(later)
    _, earlier_sentence, _ = _sentences_around(earlier)
    places = {
        "question": question,
        "earlier": earlier_sentence,
        "title": _title(later),
        "text": later.text,
        "before": before,
        "sentence": sentence,
        "after": after,
    }
    hashes = {
        crc32(f"{place}:{ngram}".encode())
        for place, text in places.items()
        for ngram in _word_ngrams(_words(text, earlier.answer, later.answer))
    }
    return np.array(sorted(hashes), np.uint32)


def _words(text: str, earlier_answer: str, later_answer: str) -> list[str]:
    """The words of `text` in lower case, its numbers as 0, and the answers as _new_ and _old_."""
    for answer, placeholder in ((later_answer, "_new_"), (earlier_answer, "_old_")):
        if answer:
            text = re.sub(
                rf"(?<!\w){re.escape(answer)}(?!\w)", f" {placeholder} ", text, flags=re.IGNORECASE
            )
    return ["0" if word[0].isdigit() else word for word in _WORD.findall(text.lower())]


def _word_ngrams(words: list[str]) -> Iterator[str]:
    for length in range(1, LONGEST + 1):
        yield from (
            " ".join(words[start : start + length]) for start in range(len(words) - length + 1)
        )


def _title(statement: Statement) -> str:
    """The first line of a text of several lines."""
    return statement.text.partition("\n")[0] if "\n" in statement.text else ""


@dataclass(frozen=True)
class Weights:
    """Weights of the logistic regression."""

    features: Features
    constant: float
    ngrams: NDArray[np.uint32]  # (n,) hashes of the n-grams that have a weight, sorted
    ngram_weights: NDArray[np.float16]  # (n,)

    def log_odds(self, values: Features, found_ngrams: NDArray[np.uint32]) -> float:
        """Log-odds that the answer of the later of two statements holds, from its date on, and not
        the earlier one.
        """
        places = np.searchsorted(self.ngrams, found_ngrams).clip(max=len(self.ngrams) - 1)
        found = places[self.ngrams[places] == found_ngrams]
        of_features = float(np.dot(self.features, values))
        return of_features + self.constant + float(self.ngram_weights[found].sum(dtype=np.float64))

    def save(self, path: Path) -> None:
        """Write the weights. Raises OSError."""
        linear = np.array([*self.features, self.constant], np.float32)
        write_bytes(
            path,
            save({"linear": linear, "ngrams": self.ngrams, "ngram_weights": self.ngram_weights}),
        )

    @classmethod
    def load(cls, path: Path) -> "Weights":
        """The weights in `path`. Raises ModelError if the file is missing or damaged."""
        try:
            tensors = load_file(path)
            linear = tensors["linear"].tolist()
            hashes = tensors["ngrams"]
            of_ngrams = tensors["ngram_weights"]
            if len(linear) != len(Features._fields) + 1 or hashes.shape != of_ngrams.shape:
                raise ValueError(
                    f"{len(linear)} weights, {len(hashes)} n-grams with {len(of_ngrams)} weights"
                )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{path} is missing or damaged ({reason}): install cmt-memory again"
            ) from None
        return cls(Features(*linear[:-1]), linear[-1], hashes, of_ngrams)


@cache
def shipped_weights() -> Weights:
    """The weights in the package, read on first use. Raises ModelError."""
    return Weights.load(WEIGHTS)


class Probabilities(NamedTuple):
    """What becomes of two statements that answer a question."""

    # the answer is the one of the later statement, from its date on, and not that of the earlier
    # one
    holds: float
    changed: float  # both answer the question, and the later one changes the answer


def probabilities(
    question: str, earlier: Statement, later: Statement, cross_encoder: CrossEncoder | None = None
) -> Probabilities:
    """Compare two statements, by a `cross_encoder` that reads both texts, or else by their features
    and n-grams.
    """
    if cross_encoder:
        odds = read_both(cross_encoder, question, earlier, later)
        holds = float(np.dot(CALIBRATION, (1.0, odds.holds, _gain(earlier, later))))
        return Probabilities(_probability(holds), _probability(odds.changed))
    log_odds = shipped_weights().log_odds(
        features(question, earlier, later), ngrams(question, earlier, later)
    )
    return Probabilities(_probability(log_odds), _probability(log_odds))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-LARGEST_ODDS, min(LARGEST_ODDS, log_odds))))


def read_both(
    cross_encoder: CrossEncoder, question: str, earlier: Statement, later: Statement
) -> Odds:
    """What the cross-encoder says about two statements, each read with the sentences around it."""
    reports = (
        Report(excerpt(statement), statement.published_at.date()) for statement in (earlier, later)
    )
    return cross_encoder.odds(question, *reports)


def excerpt(statement: Statement) -> str:
    """The heading and the whole sentences around the answer, at most EXCERPT characters; a shorter
    text as it is.
    """
    title, text = _title(statement), statement.text
    if len(text) <= EXCERPT:
        return text
    ends = sorted({len(title), len(text), *sentence_starts(text)})
    sentences = [*pairwise(end for end in ends if end >= len(title))]
    number = max(
        (n for n, (start, _) in enumerate(sentences) if start <= statement.first), default=0
    )
    first = last = number
    by_distance = sorted(
        range(len(sentences)), key=lambda n: abs(n - number)
    )  # the answer's, the one before, …
    for n in by_distance:
        if sentences[max(last, n)][1] - sentences[min(first, n)][0] > EXCERPT - len(title):
            break
        first, last = min(first, n), max(last, n)
    excerpt = text[sentences[first][0] : sentences[last][1]].strip()
    return f"{title}\n{excerpt}" if title else excerpt
