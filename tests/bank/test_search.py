"""Search in a bank: as-of dates, keys, words, ties and the indexes."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from lancedb.table import LanceTable

from cmt.bank._ranking import nearest_keys
from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.bank.schema import key_matrix
from cmt.errors import BankError, ConfigError
from tests.helpers.banks import (
    KEY_DIM,
    SCHEMA,
    bm25,
    day,
    document,
    key_of,
    lettered,
    names,
    problems,
    stored,
    superseded,
    table,
    visible,
)

HOSTILE = [
    "it's",
    'say "hi"',
    "100%",
    "x';--",
    "'); DROP TABLE memories;--",
    "a#b#1",
    "*",
    "אבג",
    "👍",
]


# As-of dates


@pytest.fixture
def story(bank: Bank) -> Bank:
    bank.upsert(
        table(document("a", at=1), document("b", at=5, supersedes="a"), document("other", at=3))
    )
    return bank


def test_a_search_as_of_a_date_returns_what_was_published_and_not_yet_superseded(
    story: Bank,
) -> None:
    before, after = {"a#0", "other#0"}, {"b#0", "other#0"}
    for as_of, expected in (
        (day(1) - timedelta(microseconds=1), set()),
        (day(1), {"a#0"}),
        (day(5) - timedelta(microseconds=1), before),
        (day(5), after),
        (day(5).astimezone(timezone(timedelta(hours=9))), after),
        ((day(5) - timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-9))), before),
        (datetime.max.replace(tzinfo=UTC), after),
        (None, after),
    ):
        assert visible(story, as_of) == expected, as_of
        assert set(names(story.full_text(text="plain", k=9, as_of=as_of))) == expected, as_of


def test_a_search_of_the_past_returns_superseded_rows_as_well(story: Bank) -> None:
    story.upsert(table(document("repeat", at=6, sha="same"), document("first", at=0, sha="same")))
    for as_of, expected in (
        (day(1), {"first#0", "a#0"}),
        (day(7), {"first#0", "a#0", "b#0", "other#0"}),  # a repeat is never visible itself
        (None, {"first#0", "a#0", "b#0", "other#0"}),
    ):
        found = story.search(key=key_of("a"), text="plain", k=9, as_of=as_of, past=True)
        assert set(names(found)) == expected
        by_id = story.memories({"a#0", "b#0"}, key=key_of("a"), as_of=as_of, past=True)
        assert set(names(by_id)) == expected & {"a#0", "b#0"}
    for since, expected in ((day(1), {"a#0", "b#0", "other#0"}), (day(4), {"b#0"})):
        found = story.search(
            key=key_of("a"), text="plain", k=9, as_of=day(7), past=True, since=since
        )
        assert set(names(found)) == expected
    hidden = story.excluding(["a"]).search(key=key_of("a"), text=None, k=9, as_of=None, past=True)
    assert set(names(hidden)) == {"first#0", "b#0", "other#0"}


def test_documents_are_connected_by_what_they_supersede(story: Bank) -> None:
    assert set(story.connected({"a"})["doc_id"].to_pylist()) == {"a", "b"}
    assert set(story.connected({"other"})["doc_id"].to_pylist()) == {"other"}


def test_a_date_without_a_time_zone_is_refused_with_advice(story: Bank) -> None:
    with pytest.raises(
        ConfigError, match="2031-02-15T06:00:00 has no time zone: write 2031-02-15T06:00:00Z"
    ):
        story.search(key=key_of("q"), text=None, k=1, as_of=datetime(2031, 2, 15, 6))


def test_documents_returns_superseded_rows_as_well(story: Bank) -> None:
    rows = story.documents({"b", "a", "nobody's ' OR true"})
    assert names(rows) == ["a#0", "b#0"]
    assert rows["supersedes"].to_pylist() == [None, "a"]
    assert "memory" in rows.column_names


# Keys and words


def test_search_returns_nearest_keys_and_best_texts_with_both_scores(bank: Bank) -> None:
    bank.upsert(
        table(
            *(document(f"d{n}", text="harbour news" if n == 7 else f"word{n}") for n in range(40))
        )
    )
    key = key_of("d3#0").astype(np.float64) * 5
    hits = bank.search(key=key, text="the harbour", k=2, as_of=None)
    assert hits.column_names == [
        *["memory_id", "doc_id", "title", "published_at", "source", "supersedes", "text", "memory"],
        *["n_vectors", "n_tokens", "similarity", "bm25"],
    ]
    keys = np.stack([key_of(name) for name in names(hits)]).astype(np.float64)
    cosine = keys @ key / np.linalg.norm(keys, axis=1) / np.linalg.norm(key)
    np.testing.assert_allclose(hits["similarity"].to_numpy(), cosine, atol=1e-9)
    assert names(hits)[0] == "d3#0" and "d7#0" in names(hits) and len(hits) == 3
    assert [score > 0 for score in hits["bm25"].to_pylist()] == [
        name == "d7#0" for name in names(hits)
    ]
    assert hits["memory"][0].as_py() == bytes(range(12))


def test_a_row_found_by_its_key_has_its_bm25_score_as_well(bank: Bank) -> None:
    bank.upsert(
        table(*(document(f"d{n}", text="harbour " * (20 - n) + f"word{n} " * n) for n in range(20)))
    )
    hits = bank.search(key=key_of("d15#0"), text="harbour", k=1, as_of=None)
    assert names(hits)[0] == "d15#0" and len(hits) == 2
    assert all(score > 0 for score in hits["bm25"].to_pylist())


@pytest.mark.parametrize(("exact_below", "moved"), [(1_000, False), (50, False), (50, True)])
def test_many_searches_at_once_find_the_same_rows_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_below: int, moved: bool
) -> None:
    bank = open_bank(BankLocation(str(tmp_path), exact_below), schema=SCHEMA)
    rows = table(
        *(
            document(
                f"d{number}",
                at=number // 3,
                text=" ".join(f"word{number % modulus}" for modulus in (2, 3, 5, 7)),
                supersedes=f"d{number - 20}" if number % 4 == 0 else None,
                key=key_of(f"{number % 50}"),
            )
            for number in range(72)
        )
    )
    bank.upsert(rows)
    bank.optimize()
    bank = bank.excluding({"d5", "d30"})
    if moved:  # while they are searched
        take = LanceTable.take_row_ids
        monkeypatch.setattr(
            LanceTable, "take_row_ids", lambda table, row_ids: take(table, row_ids[1:])
        )
    keys = key_matrix(rows["key"])
    texts = rows["text"].to_pylist()
    dates = rows["published_at"].to_pylist()
    together = bank.search_each(keys=keys, texts=texts, k=3, as_of=dates)
    for key, text, date, found in list(zip(keys, texts, dates, together, strict=True))[::3]:
        assert found.equals(bank.search(key=key, text=text, k=3, as_of=date).drop_columns("bm25"))
    assert bank.search_each(keys=keys[:0], texts=[], k=3, as_of=[]) == []


def test_a_sample_of_the_texts_is_spread_over_the_bank(bank: Bank) -> None:
    bank.upsert(table(*(document(f"d{number}", text=f"text {number}") for number in range(10))))

    def texts(n: int) -> list[str]:
        return [row["text"] for row in bank.sample(n)]

    assert sorted(texts(10)) == sorted(texts(99)) == [f"text {number}" for number in range(10)]
    few = texts(4)
    assert len(set(few)) == 4 and set(few) <= set(texts(10))
    bank.upsert(table(document("without a text", text=None)))
    assert len(bank.sample(99)) == 10


def test_search_in_an_empty_bank_returns_no_rows(bank: Bank) -> None:
    hits = bank.search(key=key_of("q"), text="anything", k=3, as_of=None)
    assert len(hits) == 0 and "similarity" in hits.column_names
    assert len(bank.full_text(text="anything", k=3, as_of=day(1))) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_ties_are_ordered_by_memory_id_in_any_order_of_upserts(bank: Bank, order: int) -> None:
    numbers = list(range(100, 160))[::order]
    for start in range(0, 60, 20):
        bank.upsert(
            table(*(document(f"d{n}", key=key_of("same")) for n in numbers[start : start + 20]))
        )
    hits = bank.search(key=key_of("same"), text="plain", k=3, as_of=None)
    assert names(hits) == ["d100#0", "d101#0", "d102#0"]
    assert names(bank.full_text(text="plain", k=3, as_of=None)) == names(hits)


def test_rows_without_text_are_found_by_key_alone(bank: Bank) -> None:
    bank.upsert(table(document("a", text=None), document("b", text=None)))
    hits = bank.search(key=key_of("a#0"), text="plain words", k=1, as_of=None)
    assert (names(hits), hits["bm25"].to_pylist()) == (["a#0"], [0.0])
    assert len(bank.full_text(text="plain words", k=3, as_of=None)) == 0


def test_any_text_can_be_searched_for(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    for text in (
        "",
        "   ",
        "the",
        "'",
        '"',
        "%",
        "';--",
        "a AND (",
        "x^2 *",
        "\0",
        "👍",
        "w" * 9000,
    ):
        assert names(bank.search(key=key_of("q"), text=text, k=1, as_of=None)) == ["a#0"]
        assert len(bank.full_text(text=text, k=1, as_of=None)) == 0


def test_ids_are_never_parsed_as_queries(bank: Bank) -> None:
    bank.upsert(
        table(document("kept"), *(document(doc_id, chunks=2, text=doc_id) for doc_id in HOSTILE))
    )
    bank.upsert(
        table(*(document(f"after {doc_id}", at=2, supersedes=doc_id) for doc_id in HOSTILE))
    )
    dates = superseded(bank)
    for doc_id in HOSTILE:
        assert dates[f"{doc_id}#1"] == day(2)
        assert (
            names(bank.search(key=key_of(f"{doc_id}#1"), text=doc_id, k=1, as_of=day(1)))[0]
            == f"{doc_id}#1"
        )
    assert problems(bank) == []
    for removed, doc_id in enumerate(HOSTILE, 1):
        assert bank.remove({doc_id}) == 2
        assert len(stored(bank)) == 1 + 3 * len(HOSTILE) - 2 * removed
    assert set(stored(bank)) == {"kept#0", *(f"after {doc_id}#0" for doc_id in HOSTILE)}


def test_an_invalid_search_key_is_refused(bank: Bank) -> None:
    for key in (
        np.ones(KEY_DIM + 1),
        np.zeros(KEY_DIM),
        np.full(KEY_DIM, np.nan),
        np.ones((1, KEY_DIM)),
    ):
        with pytest.raises(
            BankError, match="a search key of shape .* does not fit: it must have 16 finite numbers"
        ):
            bank.search(key=key, text=None, k=1, as_of=None)


# Indexes


def test_bm25_depends_on_the_rows_and_not_on_the_order_of_writes(tmp_path: Path) -> None:
    together = open_bank(BankLocation(str(tmp_path / "together")), schema=SCHEMA)
    together.upsert(table(*map(lettered, range(30))))
    apart = open_bank(BankLocation(str(tmp_path / "apart")), schema=SCHEMA)
    apart.upsert(table(*map(lettered, range(10)), document("gone", text="alpha alpha epsilon")))
    for n in range(10, 30, 5):
        apart.upsert(table(*map(lettered, range(n, n + 5))))
    apart.upsert(table(document("d4", sha="v0", text="zeta")))
    apart.upsert(table(lettered(4)))
    apart.remove({"gone"})
    assert bm25(apart) == bm25(together)
    apart.optimize()
    assert bm25(apart) == bm25(together)
    assert apart.digest() == together.digest()


def plan(bank: Bank, exact_below: int) -> str:
    """The plan of LanceDB for a search by key."""
    opened = open_bank(BankLocation(bank.location.uri, exact_below))
    query = nearest_keys(opened.latest(), key_of("q"), large=opened.is_large(opened.latest()))
    return str(query.limit(1).explain_plan())


def test_search_is_exact_below_the_bound_and_uses_the_index_from_it_on(tmp_path: Path) -> None:
    bank = open_bank(BankLocation(str(tmp_path), 300), schema=SCHEMA)
    rows = [document(f"d{n}", at=n % 30) for n in range(300)]
    bank.upsert(table(*rows[:299]))
    bank.optimize()
    assert bank.stats()["indexed"] == 0 and "ANN" not in plan(bank, 300)
    bank.upsert(table(rows[299]))
    bank.optimize()
    assert (
        bank.stats()["indexed"] == 300 and "ANN" in plan(bank, 300) and "ANN" not in plan(bank, 301)
    )
    # the share of the ten nearest visible rows that a search as of day 20 returns, mean of twenty
    # keys
    seen = [row for [row] in rows if row["published_at"] <= day(20)]
    keys = np.stack([row["key"] / np.linalg.norm(row["key"]) for row in seen])
    shares = []
    for number in range(20):
        key = key_of(f"query {number}")
        truth = {seen[place]["memory_id"] for place in np.argsort(-(keys @ key))[:10]}
        shares.append(
            len(truth & set(names(bank.search(key=key, text=None, k=10, as_of=day(20))))) / 10
        )
    assert np.mean(shares) >= 0.95


def test_rows_are_found_by_key_before_and_after_the_vector_index_has_them(tmp_path: Path) -> None:
    bank = open_bank(BankLocation(str(tmp_path), 300), schema=SCHEMA)
    bank.upsert(table(*(document(f"d{n}", at=0 if n < 5 else 9) for n in range(300))))
    bank.optimize()
    # it returns k rows, although nearer rows in the index are not visible
    hits = bank.search(key=key_of("d99#0"), text=None, k=5, as_of=day(1))
    assert set(names(hits)) == {f"d{n}#0" for n in range(5)}
    bank.upsert(table(document("new", at=12, supersedes="d7")))
    assert names(bank.search(key=key_of("new#0"), text=None, k=1, as_of=None)) == ["new#0"]
    assert names(bank.search(key=key_of("d7#0"), text=None, k=1, as_of=day(11))) == ["d7#0"]
    assert names(bank.search(key=key_of("d7#0"), text=None, k=1, as_of=day(12))) != ["d7#0"]
    # an update of many rows adds a part to the index, which maintenance joins
    bank.upsert(table(*(document(f"n{n}") for n in range(1001))))
    segments = []
    for _ in range(2):
        [parts] = [
            index.num_segments for index in bank.latest().list_indices() if index.columns == ["key"]
        ]
        segments.append(parts or 0)
        bank.optimize()
    assert segments[0] > segments[1] == 1
    assert bank.stats()["indexed"] == 1302


def test_a_large_bank_finds_the_same_texts_as_of_any_date(tmp_path: Path) -> None:
    bank = open_bank(BankLocation(str(tmp_path)), schema=SCHEMA)
    rows = [
        document(f"d{n}", at=n // 4, text=f"word{n % 7} harbour " * (1 + n % 5), supersedes=target)
        for n in range(120)
        for target in [f"d{n - 60}" if n >= 60 and n % 3 == 0 else None]
    ]
    for start in range(0, 120, 30):
        bank.upsert(table(*rows[start : start + 30]))
    large = open_bank(BankLocation(str(tmp_path), 50))
    for excluded in (frozenset(), frozenset({"d7", "d119"})):
        bank, large = bank.excluding(excluded), large.excluding(excluded)
        for as_of in (None, day(-1), day(0), day(2), day(15), day(40)):
            for text in ("harbour", "word3", "nowhere"):
                expected = bank.full_text(text=text, k=5, as_of=as_of)
                assert large.full_text(text=text, k=5, as_of=as_of).equals(expected)
