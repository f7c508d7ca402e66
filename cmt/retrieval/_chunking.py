"""Documents to chunks: pieces of text that become one memory each, batched by length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmt.lm.model import FrozenLM
from cmt.text.display import heading
from cmt.text.sentences import CHUNK_ENDS


@dataclass(frozen=True)
class Chunk:
    """A piece of a document that becomes one memory."""

    memory_id: str  # `<doc_id>#<number>`, counted from 0
    text: str
    tokens: list[int]
    document: Mapping[str, Any]  # the row of DOCUMENT_SCHEMA


def split_into_chunks(document: Mapping[str, Any], *, lm: FrozenLM, longest: int) -> list[Chunk]:
    """Cut a document at sentence ends into chunks of at most `longest` tokens, each with the
    heading in front.

    A piece without a sentence end in its second half is cut after `longest` tokens. The heading
    does not count.
    """
    line = heading(document["title"], document["source"])
    front = f"{line}\n" if line else ""
    text, offsets = document["text"], lm.offsets(document["text"])
    chunks: list[Chunk] = []
    token, begin = 0, 0  # first token and first character of the next piece
    while token < len(offsets):
        # 1. The end of the piece.
        end = min(token + longest, len(offsets))
        if end < len(offsets):
            candidates = range(end, token + longest // 2, -1)
            end = next((i for i in candidates if text[offsets[i - 1][1] - 1] in CHUNK_ENDS), end)
        # 2. Its text. It begins where the previous piece ends, not at the offset of its first
        #    token: all tokens of an emoji have the offsets of the whole character.
        piece = text[begin : offsets[end - 1][1]].strip()
        if piece:
            memory_id = f"{document['doc_id']}#{len(chunks)}"
            chunks.append(Chunk(memory_id, front + piece, lm.tokenize(front + piece), document))
        token, begin = end, offsets[end - 1][1]
    return chunks


def batch_by_length(chunks: Sequence[Chunk], batch_tokens: int) -> Iterator[list[Chunk]]:
    """Batches of chunks of similar length with at most `batch_tokens` tokens, padding included.

    A chunk that is longer forms its own batch.
    """
    batch: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (len(chunk.tokens), chunk.memory_id)):
        if batch and len(chunk.tokens) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(chunk)
    if batch:
        yield batch
