"""Pairs of memories that may state two values of one fact: a new one, and the earlier ones most
like it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cmt.answering.answerer import Answerer
from cmt.answering.judge import COMPARED, FEWEST_SHARED, LEAST_OF_BEST, NAMES_SHARED
from cmt.bank.schema import key_matrix
from cmt.text.display import without_publisher
from cmt.text.names import shared_names
from cmt.text.overlap import SAMPLE, WordWeights

# share of the bank's texts from which the name of their publisher says nothing about a text
FREQUENT = 0.1
RARE_NAME = 7.0  # inverse document frequency of the words of a name, in nats, from which it is rare
_OF = re.compile(r" (?:of|the|for) ")  # in names of bodies and offices, of which no question asks
OF_DOCUMENT = COMPARED + 1  # pairs of a new document at most, however many memories it has

Memory = dict[str, Any]
"""A row of the bank."""


class Pair(NamedTuple):
    """Two memories of different documents, of which a round compares the values."""

    earlier: Memory
    later: Memory
    subject: str = ""  # a rare name that both texts have, if they are compared for it

    @property
    def doc_ids(self) -> tuple[str, str]:
        """The earlier and the later document."""
        return self.earlier["doc_id"], self.later["doc_id"]


def similar_pairs(answerer: Answerer, rows: pa.Table) -> list[Pair]:
    """Each of the banked memories `rows` that has a text, with the earlier ones to compare it with.

    1. Search visible memories like each of `rows`, by key and by words, as of its date.
    2. Keep those of earlier documents that it does not supersede and that share names with it.
    3. Of these, keep the COMPARED whose words it has most of, and of which it has enough.
    4. Of all memories of a document, keep the OF_DOCUMENT pairs that share most words, and with its
       name the one that shares the rarest, unless a text has it only as a speaker.
    """
    rows = rows.filter(pc.greater(pc.utf8_length(rows["text"]), 0))
    sample = answerer.bank.sample(SAMPLE)
    texts_of = Counter(row["source"] for row in sample)

    def text_of(memory: Mapping[str, Any]) -> str:
        """The text, without a publisher that has many of the bank's texts."""
        frequent = texts_of[memory["source"]] > FREQUENT * len(sample)
        return without_publisher(memory) if frequent else str(memory["text"])

    # 1. Search.
    weights = WordWeights(map(text_of, sample))
    new = rows.to_pylist()
    texts = [text_of(row) for row in new]
    similar = answerer.bank.search_each(
        keys=key_matrix(rows["key"]),  # (n, p)
        texts=texts,
        k=4 * COMPARED,
        as_of=rows["published_at"].to_pylist(),
    )
    by_document = defaultdict[str, list[tuple[float, Pair]]](list)
    named = dict[str, tuple[float, Pair]]()
    for row, text, candidates in zip(new, texts, similar, strict=True):
        # 2. Leave out other versions, declared updates and other names.
        related = []
        for memory in candidates.to_pylist():
            same = memory["doc_id"] in (row["doc_id"], row["supersedes"])
            if same or memory["published_at"] >= row["published_at"]:
                continue
            earlier = text_of(memory)
            if weights.names_shared(earlier, text) < NAMES_SHARED:
                continue
            related.append((weights.coverage(earlier, text), Pair(memory, row)))
            for name in shared_names(earlier, text):
                if _OF.search(name) or only_speaks(name, earlier) or only_speaks(name, text):
                    continue
                rarity = weights.rarity(name)
                if rarity >= max(RARE_NAME, named.get(row["doc_id"], (0.0,))[0]):
                    named[row["doc_id"]] = rarity, Pair(memory, row, name)
        # 3. Keep the nearest.
        nearest = sorted(related, key=lambda pair: -pair[0])[:COMPARED]
        fewest = max([FEWEST_SHARED, *(LEAST_OF_BEST * share for share, _ in nearest)])
        by_document[row["doc_id"]] += [pair for pair in nearest if pair[0] >= fewest]
    # 4. Keep the nearest of each document, and the one with the rarest name.
    pairs = [pair for _, pair in named.values()]
    for found in by_document.values():
        pairs += [pair for _, pair in nlargest(OF_DOCUMENT, found, key=itemgetter(0))]
    return pairs


def only_speaks(name: str, text: str) -> bool:
    """Whether `text` has `name` only as a speaker, as a chat does: "Moss: on my way"."""
    mentions = re.findall(rf"(?<!\w){re.escape(name)}(?!\w)( ?:)?", text, re.IGNORECASE)
    return all(mentions)
