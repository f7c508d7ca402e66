"""Documents to chunks: pieces of text that become one memory each, batched by length."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmt.lm.model import FrozenLM

SENTENCE_ENDS = frozenset(".!?\n。！？؟")


@dataclass(frozen=True)
class Chunk:
    """A piece of a document that becomes one memory."""

    memory_id: str
    text: str
    tokens: list[int]
    document: Mapping[str, Any]

    @property
    def first(self) -> bool:
        """Whether its document begins with it."""
        return self.memory_id.endswith("#0")


def split_into_chunks(document: Mapping[str, Any], *, lm: FrozenLM, longest: int) -> list[Chunk]:
    """Pieces of at most `longest` tokens (and the title, which stands before each), cut at the ends of sentences."""
    title = f"{document['title']}\n" if document["title"] else ""
    texts = [title + piece for piece in _pieces(document["text"], lm, longest)]
    name = document["doc_id"]
    return [Chunk(f"{name}#{number}", text, lm.tokenize(text), document) for number, text in enumerate(texts)]


def batch_by_length(chunks: Sequence[Chunk], batch_tokens: int) -> Iterable[list[Chunk]]:
    """Chunks of like length together, at most `batch_tokens` with padding (a single longer chunk stands alone)."""
    batch: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (len(chunk.tokens), chunk.memory_id)):
        if batch and len(chunk.tokens) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(chunk)
    if batch:
        yield batch


def _pieces(text: str, lm: FrozenLM, longest: int) -> list[str]:
    offsets = lm.offsets(text)
    pieces, start, begin = [], 0, 0
    while start < len(offsets):
        end = min(start + longest, len(offsets))
        if end < len(offsets):
            # the last sentence that ends in the second half; without one the cut is where it is
            ends = (i for i in range(end, start + longest // 2, -1) if text[offsets[i - 1][1] - 1] in SENTENCE_ENDS)
            end = next(ends, end)
        # from where the last piece ended: the tokens of one emoji all have the place of the whole
        pieces.append(text[begin : offsets[end - 1][1]].strip())
        start, begin = end, offsets[end - 1][1]
    return [piece for piece in pieces if piece]
