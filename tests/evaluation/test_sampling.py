"""Seeded samples: their draws are part of every published number, so they must not change."""

import hashlib
from random import Random

import pyarrow as pa
import pytest

from cmt.evaluation.sampling import draw, sample_by_hash, sample_by_position, sample_on_documents


def questions(count: int, *, first: int = 0) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {"question_id": [f"q{n}" for n in numbers], "doc_id": [f"d{n % 5}" for n in numbers]}
    )


def ids(table: pa.Table) -> list[str]:
    return list(table["question_id"].to_pylist())


def test_a_draw_is_that_of_the_standard_library_in_its_order() -> None:
    assert (
        draw(range(100), limit=5, seed=7) == Random(7).sample(range(100), 5) == [41, 19, 50, 83, 6]
    )
    assert draw("abc", limit=3, seed=7) == ["a", "b", "c"]


def test_a_sample_by_position_keeps_the_order_of_the_questions() -> None:
    assert ids(sample_by_position(questions(100), limit=5, seed=7)) == [
        "q6",
        "q19",
        "q41",
        "q50",
        "q83",
    ]
    assert sample_by_position(questions(4), limit=9, seed=7) == questions(4)
    assert sample_by_position(questions(0), limit=9, seed=7).num_rows == 0
    assert sample_by_position(questions(4), limit=0, seed=7).num_rows == 0


def test_a_sample_on_documents_draws_among_their_questions() -> None:
    documents = pa.table({"doc_id": ["d1", "d3", "elsewhere"]})
    sample = sample_on_documents(questions(50), documents, limit=6, seed=0)
    known = [f"q{n}" for n in range(50) if n % 5 in (1, 3)]
    assert ids(sample) == [known[place] for place in sorted(Random(0).sample(range(20), 6))]


def test_a_sample_by_hash_has_the_lowest_hashes_in_the_order_of_the_questions() -> None:
    sample = ids(sample_by_hash(questions(40), limit=6, seed=3))
    lowest = sorted(
        ids(questions(40)), key=lambda name: hashlib.sha256(f"3\0{name}".encode()).digest()
    )[:6]
    assert set(sample) == set(lowest)
    assert sample == [name for name in ids(questions(40)) if name in sample]
    backwards = questions(40).take(list(range(40))[::-1])
    assert ids(sample_by_hash(backwards, limit=6, seed=3)) == sample[::-1]


def test_most_of_a_sample_by_hash_stays_when_questions_are_added() -> None:
    before, after = (
        set(ids(sample_by_hash(questions(count), limit=20, seed=0))) for count in (100, 110)
    )
    assert len(before & after) >= 15
    assert after - before <= set(ids(questions(10, first=100)))


@pytest.mark.parametrize("columns", [("question_id",), ("question_id", "doc_id")])
def test_a_sample_by_hash_depends_on_seed_and_columns(columns: tuple[str, ...]) -> None:
    samples = [
        ids(sample_by_hash(questions(100), limit=10, seed=seed, columns=columns))
        for seed in (0, 0, 1)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0] != ids(
        sample_by_hash(questions(100), limit=10, seed=0, columns=("doc_id", "question_id"))
    )
