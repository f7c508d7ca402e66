"""Decoding of ψ's token scores: the windows that the LM reads and the span that its prompt
quotes.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmt.text.numbers import CURRENCY, MEASURED, NUMBER
from cmt.text.sentences import sentence_starts
from cmt.text.words import ARTICLES, PREPOSITIONS, WORD, words

MAX_SPAN_TOKENS = 16
# best spans that are searched for the best one with other tokens, for the margin
SPAN_CANDIDATES = 32
_PAIRED = re.compile(r"[\n()\[\]{}“”«»\"]")
_ADDRESS = re.compile(r"\bhttps?://[^\s<>\"]*[^\s<>\".,;:!?)\]]")
_COUNTED = re.compile(r"\bhow many ([a-z]+)", re.IGNORECASE)
_MONEY = re.compile(rf"[$£€] ?{NUMBER}|{NUMBER}(?: (?:thousand|[mb]illion))? {CURRENCY}s?\b")
_SMALL_WORDS = ARTICLES | PREPOSITIONS | {"and"}


@dataclass(frozen=True)
class TokenSpan:
    """A span of one memory's tokens, `last` included."""

    memory: int
    first: int
    last: int

    def tokens_of(self, texts: Sequence[Sequence[int]]) -> list[int]:
        """Token ids of the span; `texts`: token ids of each memory."""
        return list(texts[self.memory][self.first : self.last + 1])


@dataclass(frozen=True)
class AnswerSpan:
    """The span that is the likeliest answer."""

    span: TokenSpan
    tokens: Sequence[int]
    # share of all spans with these tokens in the sum over all spans and "nowhere"
    probability: float
    # expected token F1 with a span drawn from the distribution over spans; "nowhere" counts 0
    agreement: float
    # lead in log-probability over the best span with other tokens, which is another quote; inf:
    # none
    margin: float


class QuoteLimits(NamedTuple):
    """Limits on the spans of a memory of n tokens that may be a quote.

    A quote is in one sentence and neither begins nor ends inside a word. The first line of a
    document is its heading (`cmt.retrieval._chunking`), and a sentence is on one line. A quote has
    both of a pair of brackets or quotation marks, or neither. It does not end between a number and
    its unit, unless the question names the unit. It has a word that the question lacks, unless the
    question has an "or": without "or", 0.4 % of 87,599 answers in SQuAD train consist of words of
    their question. It begins with no sum of money if the question asks how many other things there
    are. A quote that ends inside a web address goes on to its end.
    """

    begins: list[bool]  # (n,) whether a quote may begin with a token
    ends: list[bool]  # (n,) whether a quote may end with a token
    sentences: list[int]  # (n,) number of the sentence that a token is in
    open_before: list[
        int
    ]  # (n,) code of the brackets and quotation marks that are open before a token
    open_after: list[int]  # (n,) code of those open after it
    new: list[
        bool
    ]  # (n,) whether a token belongs to a word that the question lacks; a quote has at least one
    whole: list[int]  # (n,) last token of the address that a token is in, or else the token itself

    @classmethod
    def of(cls, token_texts: Sequence[str], question: str) -> "QuoteLimits":
        """The limits in a text, given the texts of its tokens, for a quote that answers
        `question`.
        """
        text = "".join(token_texts)
        question_words = set(words(question.lower()))
        # letters without case are of scripts that may have no blanks between words
        found_words = [
            word
            for word in WORD.finditer(text)
            if word[0].upper() != word[0].lower() or word[0][0].isdigit()
        ]
        # 1. character indices inside a word, and between a number and its unit
        in_word = _inner_characters(found_words)
        quantities = [
            found
            for found in MEASURED.finditer(text)
            if not {found["unit"], f"{found['unit']}s"} & question_words
        ]
        no_end = in_word | _inner_characters(quantities)
        money = _sums_of_money(text, question)
        # 2. characters without new content, starts of sentences, and open brackets
        old = _known_characters(text, found_words, question_words)
        new_sentence, opened = sentence_starts(text), _opened(text)
        # 3. the limits of each token, from its characters start, …, end − 1
        limits, end, sentence, now_open = cls([], [], [], [], [], [], []), 0, 0, 0
        for token_text in token_texts:
            start, end = end, end + len(token_text)
            characters, blank = range(start, end), not token_text.strip()
            first = end - len(token_text.lstrip())
            limits.begins.append(start not in in_word and first not in money and not blank)
            limits.ends.append(end not in no_end and not blank)
            limits.new.append(not old.issuperset(characters))
            limits.sentences.append(
                sentence := sentence + (not new_sentence.isdisjoint(characters))
            )
            limits.open_before.append(now_open)
            for index in characters:
                now_open = opened.get(index, now_open)
            limits.open_after.append(now_open)
        # 4. the tokens of each address
        limits.whole.extend(_address_ends(text, token_texts))
        return limits


def _address_ends(text: str, token_texts: Sequence[str]) -> list[int]:
    """For each token the last token of the web address that it is in, or else itself."""
    ends = list(range(len(token_texts)))
    starts = np.cumsum([0, *map(len, token_texts)])
    for address in _ADDRESS.finditer(text):
        first, last = np.searchsorted(starts, [address.start(), address.end()], side="right") - 1
        if starts[last] == address.end():  # the token behind it
            last -= 1
        ends[first : last + 1] = [int(last)] * int(last + 1 - first)
    return ends


def _sums_of_money(text: str, question: str) -> set[int]:
    """Indices of the characters of sums of money if `question` asks how many of other things there
    are.
    """
    counted = _COUNTED.search(question)
    if not counted or re.fullmatch(rf"{CURRENCY}s?", counted[1], re.IGNORECASE):
        return set()
    return {index for sum_ in _MONEY.finditer(text) for index in range(*sum_.span())}


def _inner_characters(matches: Sequence[re.Match[str]]) -> set[int]:
    """Indices of the characters of the matches except each first one; a quote must not begin or end
    there.
    """
    return {index for match in matches for index in range(match.start() + 1, match.end())}


def _known_characters(
    text: str, found_words: Sequence[re.Match[str]], question_words: set[str]
) -> set[int]:
    """Indices of the characters of `question_words`, small words, blanks and punctuation."""
    if "or" in question_words:  # the answer may consist of words of the question
        return set()
    known = question_words | _SMALL_WORDS
    of_words = {
        index for word in found_words if word[0].lower() in known for index in range(*word.span())
    }
    return of_words | {
        index for index, character in enumerate(text) if unicodedata.category(character)[0] in "ZPC"
    }


def _opened(text: str) -> dict[int, int]:
    """Index of a bracket or quotation mark → a number for the marks that are open after it."""
    opened, depth, quoted = dict[int, int](), 0, False
    for mark in _PAIRED.finditer(text):
        if mark[0] == "\n":
            depth, quoted = 0, False
        elif mark[0] == '"':  # behind a digit it is the mark of inches
            quoted = not quoted and not text[max(0, mark.start() - 1) : mark.start()].isdigit()
        elif mark[0] in "([{“«":
            depth += 1
        else:
            depth = max(0, depth - 1)  # a closing mark without an opening one does not count
        opened[mark.start()] = 2 * depth + quoted
    return opened


def token_log_probabilities(scores: Tensor) -> Tensor:
    """Log-softmax of ψ's scores (B, S, n, 2) over all tokens of a question's memories and
    "nowhere", of score 0.
    """
    flat = F.pad(scores.flatten(1, 2), (0, 0, 0, 1))  # (B, S·n + 1, 2)
    return flat.log_softmax(1)[:, :-1].view_as(scores)


def neighbours_at(neighbours: int, window: int, other: int) -> int:
    """Neighbours of a window of `other` tokens that show about as much text as `neighbours` of one
    of `window`.
    """
    return max(0, math.ceil(((2 * neighbours + 1) * window / other - 1) / 2 - 0.5))


def likeliest_memories(log_probability: Tensor, count: int) -> tuple[list[int], float]:
    """The `count` most probable memories, and their lead in log-probability over the others; inf
    without others.

    `log_probability` (S, n, 2) is −inf on padding.
    """
    mass = log_probability.flatten(1).logsumexp(1)  # (S,)
    values, memories = mass.topk(min(count + 1, int(torch.isfinite(mass).sum())))
    lead = float(values[count - 1] - values[count]) if len(values) > count else float("inf")
    return memories[:count].tolist(), lead


def whole_memory_spans(lengths: Sequence[int]) -> list[TokenSpan]:
    """One span over each memory of `lengths` tokens."""
    return [TokenSpan(memory, 0, length - 1) for memory, length in enumerate(lengths)]


def best_answer_span(
    log_probability: Tensor, texts: Sequence[Sequence[int]], limits: Sequence[QuoteLimits]
) -> AnswerSpan:
    """The span of at most MAX_SPAN_TOKENS tokens of one memory with the highest log P_begin + log
    P_end.

    `log_probability` (S, n, 2) belongs to one question. `texts`: token ids of its S memories.
    `limits`: their limits.
    """
    # 1. the best spans within the limits; `equal` marks spans with the tokens of the first one
    scores = quote_log_probabilities(log_probability, limits)  # (m, S, n)
    values, indices = scores.flatten().topk(min(SPAN_CANDIDATES, int(torch.isfinite(scores).sum())))
    spans = [
        TokenSpan(int(memory), int(first), int(first + longer))
        for longer, memory, first in zip(
            *np.unravel_index(indices.cpu().numpy(), scores.shape), strict=True
        )
    ]
    spans = [
        replace(span, last=limits[span.memory].whole[span.last])
        if span.last < len(limits[span.memory].whole)
        else span
        for span in spans
    ]
    tokens = [tuple(span.tokens_of(texts)) for span in spans]
    equal = torch.tensor([candidate == tokens[0] for candidate in tokens], device=values.device)
    # 2. probability: beginnings and ends are scored apart, so the pairs that form a span are
    #    normalised again
    nowhere = (1 - log_probability.exp().sum((0, 1))).clamp(min=0).prod()
    total = scores.exp().sum() + nowhere
    probability = values.exp()[equal].sum() / total
    # 3. agreement of the best spans with the first: the F1 of their tokens; its lead over those
    #    with other tokens
    common = [(Counter(tokens[0]) & Counter(candidate)).total() for candidate in tokens]
    overlap = [
        2 * count / (len(tokens[0]) + len(candidate))
        for count, candidate in zip(common, tokens, strict=True)
    ]
    agreement = (values.exp() * torch.tensor(overlap, device=values.device)).sum() / total
    rivals = values[~equal]
    margin = float(values[0] - rivals[0]) if len(rivals) else float("inf")
    return AnswerSpan(spans[0], tokens[0], float(probability), float(agreement), margin)


def quote_log_probabilities(log_probability: Tensor, limits: Sequence[QuoteLimits]) -> Tensor:
    """`span_log_probabilities`, −inf beyond the limits of a memory unless no span is within
    them.
    """
    spans = span_log_probabilities(log_probability)
    shape = spans.shape  # (m, S, n)
    fields = torch.zeros(len(QuoteLimits._fields) - 1, *shape[1:], dtype=torch.long)
    for memory, limit in enumerate(limits):
        count = min(len(limit.sentences), shape[2])
        fields[:, memory, :count] = torch.tensor(
            [field[:count] for field in limit[:-1]], dtype=torch.long
        )
    begins, ends, sentences, before, after, new = fields  # (S, n) each
    last = torch.arange(shape[2]) + torch.arange(shape[0])[:, None]  # (m, n)
    last = last.clamp(max=shape[2] - 1)
    up_to = new.cumsum(1)  # (S, n) new tokens up to this one
    says_more = up_to[:, last].movedim(1, 0) > up_to - new
    whole = (sentences == sentences[:, last].movedim(1, 0)) & (
        before == after[:, last].movedim(1, 0)
    )
    # a span beyond the last token is −inf already
    allowed = begins.bool() & says_more & whole & ends[:, last].movedim(1, 0).bool()
    quotes = spans.masked_fill(~allowed.to(spans.device), float("-inf"))
    return quotes if torch.isfinite(quotes).any() else spans


def span_log_probabilities(log_probability: Tensor) -> Tensor:
    """Log-probabilities (m, S, n) of spans of 1 … m tokens by their first token, from token scores
    (S, n, 2).
    """
    begins, ends = log_probability.unbind(-1)
    count = begins.shape[1]
    spans = [
        F.pad(begins[:, : count - longer] + ends[:, longer:], (0, longer), value=float("-inf"))
        for longer in range(min(MAX_SPAN_TOKENS, count))
    ]
    return torch.stack(spans)


def choose_windows(
    log_probability: Tensor, window: int, best: int, neighbours: int
) -> list[TokenSpan]:
    """The `best` likeliest windows to hold a beginning or an end, with `neighbours` windows on
    either side.

    `log_probability` (S, n, 2) is −inf on padding. Adjoining windows form one span. Spans of the
    memory with the best window come first; within a memory they are in the order of its text.
    """
    # −inf is on padding, and within a text on a value that is left out
    scored = torch.isfinite(log_probability[..., 0])  # (S, n)
    lengths = (scored * torch.arange(1, scored.shape[1] + 1)).amax(1)  # (S,) tokens
    windows_per_memory = log_probability.shape[1] // window
    top = _likeliest_windows(log_probability, window, best)[1].tolist()
    spans = []
    for memory in dict.fromkeys(index // windows_per_memory for index in top):
        # 1. the chosen windows and their neighbours, inside the text
        length = int(lengths[memory])
        chosen = [
            index % windows_per_memory for index in top if index // windows_per_memory == memory
        ]
        near = {
            index
            for middle in chosen
            for index in range(middle - neighbours, middle + neighbours + 1)
        }
        inside = {index for index in near if 0 <= index * window < length}
        # 2. adjoining windows as one span
        firsts = sorted(index for index in inside if index - 1 not in inside)
        lasts = sorted(index for index in inside if index + 1 not in inside)
        for first, last in zip(firsts, lasts, strict=True):
            spans.append(TokenSpan(memory, first * window, min((last + 1) * window, length) - 1))
    return spans


def window_margin(log_probability: Tensor, window: int, best: int) -> float:
    """Lead in log-probability of the outcome of `choose_windows` over any other; inf if there is no
    other.
    """
    values, indices = _likeliest_windows(log_probability, window, best + 1)
    memory = indices // (log_probability.shape[1] // window)
    leads = values[:-1] - values[1:]
    # the order of chosen windows matters between memories only
    matters = memory[:-1] != memory[1:]
    matters[best - 1 :] = True
    return float(leads[matters].min()) if matters.any() else float("inf")


def _likeliest_windows(log_probability: Tensor, window: int, best: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the `best` likeliest of the S·k windows, in descending order, and their
    indices.
    """
    scores = torch.unflatten(log_probability, 1, (-1, window)).logsumexp((-2, -1))  # (S, k)
    values, indices = scores.flatten().topk(min(best, int(torch.isfinite(scores).sum())))
    return values, indices
