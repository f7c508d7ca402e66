"""Sketches: what counts as nearly the same text."""

import random

import pytest

from cmt.text.shingles import overlap, sketch

SALT = b"salt"
VOCABULARY = [f"word{number}" for number in range(5000)]


def text_of(n_words: int, seed: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=n_words)


def similarity(first: str, second: str) -> float:
    return overlap(sketch(first, salt=SALT), sketch(second, salt=SALT))


@pytest.mark.parametrize("n_words", [60, 1000, 20_000])
def test_the_estimate_is_near_the_share_of_common_shingles(n_words: int) -> None:
    original = text_of(n_words, seed=1)
    changed = original[: n_words * 9 // 10] + text_of(
        n_words // 10, seed=2
    )  # 0.9 / 1.1 of the shingles
    assert similarity(" ".join(original), " ".join(changed)) == pytest.approx(9 / 11, abs=0.1)
    assert similarity(" ".join(original), " ".join(text_of(n_words, seed=3))) < 0.05


def test_a_sketch_is_small_and_depends_on_the_salt() -> None:
    text = " ".join(text_of(20_000, seed=1))
    assert len(sketch(text, salt=SALT)) == 128
    assert sketch(text, salt=SALT).isdisjoint(sketch(text, salt=b"another"))
