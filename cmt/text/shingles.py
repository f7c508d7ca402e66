"""Runs of words that recognise nearly equal texts, and sketches of them that keep no text.

A sketch is the set of the smallest hashes of the text's word shingles (Broder, 1997), without
punctuation and case.
"""

import hashlib
import re
import unicodedata

SHINGLE_WORDS = 5
"""A changed word changes five shingles: texts of 100 words that differ in two words share four
fifths of them.
"""
NEARLY_EQUAL = 0.8
"""Share of common shingles (Jaccard) from which two texts are nearly equal. Another full stop
leaves 1, two changed words of 100 leave 0.8; reports from one template with different names and
numbers have less."""
SKETCH_HASHES = 128
"""Largest number of hashes in a sketch. The standard error is below 0.05, and 0 for texts of up to
132 words.
"""

Sketch = frozenset[int]


def words(text: str) -> list[str]:
    """The words of `text` in lower case."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def shingles(words: list[str], size: int = SHINGLE_WORDS) -> set[str]:
    """All runs of `size` words; a shorter text is one run. Empty without words."""
    size = min(size, len(words))
    return (
        {" ".join(words[start : start + size]) for start in range(len(words) - size + 1)}
        if size
        else set()
    )


def sketch(text: str, *, salt: bytes) -> Sketch:
    """The sketch of `text`, comparable with sketches of the same `salt`. Empty without words."""
    hashes = (
        hashlib.blake2b(one.encode(), digest_size=8, key=salt) for one in shingles(words(text))
    )
    return frozenset(sorted(int.from_bytes(one.digest(), "big") for one in hashes)[:SKETCH_HASHES])


def overlap(first: Sketch, second: Sketch) -> float:
    """Estimated share of common shingles of two texts (Jaccard), 0–1."""
    union = sorted(first | second)[:SKETCH_HASHES]
    return len(first & second & set(union)) / len(union) if union else 0.0
