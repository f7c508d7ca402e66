"""The bank on a real LanceDB in a temporary folder."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cmt.bank import search
from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema
from cmt.errors import BankError, ConfigError

P, DIM = 16, 4
COMPRESSOR = "c0ffee" * 10
SCHEMA = bank_schema(key_dim=P, codes="int8", dim=DIM, compressor=COMPRESSOR)
HOSTILE = ["it's", 'say "hi"', "100%", "x';--", "'); DROP TABLE memories;--", "a#b#1", "*", "אבג", "👍"]


def day(n: int) -> datetime:
    return datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=n)


def key_of(name: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(P).astype(np.float32)


def document(
    doc_id: str,
    *,
    at: int = 0,
    chunks: int = 1,
    supersedes: str | None = None,
    sha: str = "v1",
    text: str | None = "plain words",
    key: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    return [
        {
            "memory_id": f"{doc_id}#{chunk}",
            "doc_id": doc_id,
            "slice_id": "2031-01/0001",
            "published_at": day(at),
            "superseded_at": None,
            "supersedes": supersedes,
            "sha256": sha,
            "compressor": COMPRESSOR,
            "title": f"On {doc_id}",
            "key": key_of(f"{doc_id}#{chunk}") if key is None else key,
            "memory": bytes(range(2 * (2 + DIM))),
            "n_vectors": 2,
            "n_tokens": 7,
            "text": text,
        }
        for chunk in range(chunks)
    ]


def table(*documents: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([row for rows in documents for row in rows], schema=SCHEMA)


def stored(bank: Bank) -> dict[str, dict[str, Any]]:
    rows = bank.connection.open_table(bank.name).to_arrow().to_pylist()
    return {row["memory_id"]: row for row in rows}


def superseded(bank: Bank) -> dict[str, datetime | None]:
    return {name: row["superseded_at"] for name, row in stored(bank).items()}


def names(rows: pa.Table) -> list[str]:
    found: list[str] = rows["memory_id"].to_pylist()
    return found


def visible(bank: Bank, as_of: datetime | None) -> set[str]:
    return set(names(bank.search(key=key_of("q"), text=None, k=100, as_of=as_of)))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank.open(uri=str(tmp_path / "bank"), schema=SCHEMA)


# Opening


def test_an_absent_bank_says_what_to_run_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no bank at .*bank: run `cmt update` first"):
        Bank.open(uri=str(tmp_path / "bank"))
    assert not (tmp_path / "bank").exists()


def test_a_folder_without_a_bank_is_an_absent_bank(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no bank at"):
        Bank.open(uri=str(tmp_path))


def test_the_first_bank_opens_without_a_schema_and_keeps_its_own(bank: Bank, tmp_path: Path) -> None:
    again = Bank.open(uri=str(tmp_path / "bank"))
    assert again.name == bank.name == "memories_c0ffeec0ffee"
    assert again.schema.equals(SCHEMA) and again.schema.metadata == SCHEMA.metadata


def test_a_new_compressor_fills_its_own_table_and_takes_over_in_one_step(bank: Bank, tmp_path: Path) -> None:
    bank.upsert(table(document("a")))
    green_schema = bank_schema(key_dim=P, codes="int8", dim=DIM, compressor="beef" * 16)
    green = Bank.open(uri=str(tmp_path / "bank"), schema=green_schema)
    assert green.count_rows() == 0
    assert Bank.open(uri=str(tmp_path / "bank")).name == bank.name
    green.promote()
    assert Bank.open(uri=str(tmp_path / "bank")).name == green.name
    bank.promote()
    assert Bank.open(uri=str(tmp_path / "bank")).count_rows() == 1


def test_a_bank_without_texts_where_texts_are_wanted_names_the_parameter(tmp_path: Path) -> None:
    vectors = bank_schema(key_dim=P, codes="int8", dim=DIM, compressor="c0ffee" * 10, sketched=True)
    Bank.open(uri=str(tmp_path / "bank"), schema=vectors)
    wanted = bank_schema(key_dim=P, codes="int8", dim=DIM, compressor="c0ffee" * 10)
    with pytest.raises(BankError, match=r"keeps no texts: .*bank\.keep_text back"):
        Bank.open(uri=str(tmp_path / "bank"), schema=wanted)


def test_a_bank_of_an_older_schema_is_refused_with_a_way_out(bank: Bank, tmp_path: Path) -> None:
    old = SCHEMA.with_metadata({**SCHEMA.metadata, b"schema_version": b"0"})
    bank.connection.create_table(bank.name, schema=old, mode="overwrite")
    with pytest.raises(BankError, match="written with schema 0, this cmt reads 1: set bank.uri to a new folder"):
        Bank.open(uri=str(tmp_path / "bank"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"codes": "fp16"}, "has codes int8, not fp16"), ({"dim": 8}, "has dim 4, not 8"), ({"key_dim": 8}, "key length")],
)
def test_a_bank_of_other_codes_or_sizes_is_refused(
    bank: Bank, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    other = bank_schema(**{"key_dim": P, "codes": "int8", "dim": DIM, "compressor": COMPRESSOR, **change})
    with pytest.raises(BankError, match=message):
        Bank.open(uri=str(tmp_path / "bank"), schema=other)


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(ConfigError, match="codes 'int3' are unknown: choose one of fp16, int8, int4"):
        bank_schema(key_dim=P, codes="int3", dim=DIM, compressor=COMPRESSOR)


def test_a_damaged_bank_is_a_bank_error(bank: Bank, tmp_path: Path) -> None:
    for manifest in (tmp_path / "bank" / f"{bank.name}.lance" / "_versions").iterdir():
        manifest.write_bytes(b"cut")
    with pytest.raises(BankError, match="bank .* cannot be opened: "):
        Bank.open(uri=str(tmp_path / "bank"))


# Writing


def test_upsert_adds_new_rows_as_they_are(bank: Bank) -> None:
    rows = table(document("a", chunks=2), document("b"))
    written = bank.upsert(rows)
    assert (written.inserted, written.updated, written.version) == (3, 0, bank.version)
    assert bank.connection.open_table(bank.name).to_arrow().sort_by("memory_id").equals(rows)


def test_a_repeated_upsert_changes_no_row_no_digest_and_no_version(bank: Bank) -> None:
    rows = table(document("a", chunks=2), document("b", supersedes="a", at=3))
    first, digest = bank.upsert(rows), bank.digest()
    again = bank.upsert(rows)
    assert (again.inserted, again.updated, again.version) == (0, 0, first.version)
    assert bank.digest() == digest


def test_a_row_of_the_same_text_is_left_untouched(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    written = bank.upsert(table(document("a", at=5, key=key_of("other"))))
    assert (written.inserted, written.updated) == (0, 0)
    assert stored(bank)["a#0"]["published_at"] == day(0)


def test_a_changed_text_replaces_its_rows_and_loses_its_surplus_chunks(bank: Bank) -> None:
    bank.upsert(table(document("a", chunks=3, text="old"), document("b")))
    written = bank.upsert(table(document("a", chunks=1, sha="v2", text="new")))
    assert (written.inserted, written.updated) == (0, 1)
    assert {name: row["text"] for name, row in stored(bank).items()} == {"a#0": "new", "b#0": "plain words"}
    assert names(bank.full_text(text="old", k=5, as_of=None)) == []


def test_a_text_that_only_lost_chunks_is_cut_and_indexed_anew(bank: Bank) -> None:
    bank.upsert(table(document("a", chunks=3), document("b", text="plain")))
    bank.upsert(table(document("a")))
    fresh = Bank.open(uri=bank._uri + "2", schema=SCHEMA)
    fresh.upsert(table(document("a"), document("b", text="plain")))
    assert bank.digest() == fresh.digest()
    found = [each.full_text(text="plain words", k=5, as_of=None) for each in (bank, fresh)]
    assert found[0].equals(found[1])


def test_what_a_row_says_of_being_superseded_is_ignored(bank: Bank) -> None:
    rows = table(document("a"))
    dates = pa.array([day(1)], SCHEMA.field("superseded_at").type)
    bank.upsert(rows.set_column(SCHEMA.get_field_index("superseded_at"), "superseded_at", dates))
    assert superseded(bank) == {"a#0": None}


def test_an_empty_upsert_writes_nothing_but_the_text_index(bank: Bank) -> None:
    first = bank.upsert(table())
    assert (first.inserted, bank.upsert(table()).version) == (0, first.version)


def broken(**values: Any) -> pa.Table:
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    return pa.Table.from_pylist([*document("fine"), *({**row, **values} for row in document("bad"))], schema=loose)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (broken(key=np.full(P, np.nan, np.float32)), "memory 'bad#0' has a key with NaN"),
        (broken(key=np.zeros(P, np.float32)), "memory 'bad#0' has a key with NaN, infinity or only zeros"),
        (broken(compressor="f00d"), "memory 'bad#0' was made by another compressor than the bank's"),
        (broken(memory=b"short"), r"memory 'bad#0' has a memory that is not n_vectors × 6 bytes \(int8\)"),
        (broken(memory=b"", n_vectors=0), "memory 'bad#0' has a memory"),
        (broken(sha256=None), "memory 'bad#0' has no sha256"),
        (broken(memory_id="fine#0", doc_id="fine"), "memory 'fine#0' occurs 2 times"),
        (broken(memory_id="bad#1"), "document 'bad' has 'bad#1' instead of chunks numbered from #0"),
        (broken(memory_id="good#0"), "document 'bad' has 'good#0'"),
        (broken().drop_columns(["key", "title"]), "memories lack the columns title, key"),
        (broken().set_column(11, "n_vectors", pa.array(["a", "b"])), "do not fit the bank's schema"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name_and_nothing_is_written(
    bank: Bank, rows: pa.Table, message: str
) -> None:
    version = bank.version
    with pytest.raises(BankError, match=message):
        bank.upsert(rows)
    assert (bank.version, bank.count_rows()) == (version, 0)


def test_a_refusal_says_how_many_rows_are_meant(bank: Bank) -> None:
    rows = [{**row, "compressor": "f00d"} for row in document("a", chunks=4)]
    with pytest.raises(BankError, match=r"memory 'a#0' .* \(and 3 more like it\); nothing was written"):
        bank.upsert(table(rows))


# Supersession


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c"), ("abc",)])
def test_a_chain_is_dated_alike_in_every_order_of_arrival(bank: Bank, order: tuple[str, ...]) -> None:
    parts = {
        "a": document("a", at=1, chunks=2),
        "b": document("b", at=5, supersedes="a", chunks=3),
        "c": document("c", at=9, supersedes="b"),
    }
    for step in order:
        bank.upsert(table(*(parts[name] for name in step)))
    expected = {"a#0": day(5), "a#1": day(5), "b#0": day(9), "b#1": day(9), "b#2": day(9), "c#0": None}
    assert superseded(bank) == expected
    assert bank.verify() == []


def test_the_order_of_arrival_does_not_reach_the_digest(tmp_path: Path) -> None:
    old, new = document("a", at=1, chunks=2), document("b", at=5, supersedes="a")
    digests = set()
    for number, order in enumerate([(old, new), (new, old)]):
        bank = Bank.open(uri=str(tmp_path / str(number)), schema=SCHEMA)
        for rows in order:
            bank.upsert(table(rows))
        digests.add(bank.digest())
    assert len(digests) == 1


def test_of_two_successors_the_earlier_one_counts(bank: Bank) -> None:
    bank.upsert(table(document("late", at=9, supersedes="a"), document("a")))
    bank.upsert(table(document("early", at=4, supersedes="a")))
    assert superseded(bank)["a#0"] == day(4)
    bank.forget("early")
    assert superseded(bank)["a#0"] == day(9)


def test_superseding_an_unknown_document_or_oneself_is_fine(bank: Bank) -> None:
    bank.upsert(table(document("a", supersedes="nobody"), document("b", supersedes="b")))
    assert superseded(bank) == {"a#0": None, "b#0": None}


def test_a_new_text_that_supersedes_nothing_any_more_sets_its_predecessor_free(bank: Bank) -> None:
    bank.upsert(table(document("a"), document("b", at=3, supersedes="a")))
    bank.upsert(table(document("b", at=3, sha="v2")))
    assert superseded(bank) == {"a#0": None, "b#0": None}


def test_forgetting_a_successor_makes_its_predecessor_current_again(bank: Bank) -> None:
    bank.upsert(table(document("a", chunks=2)))
    before = bank.digest()
    bank.upsert(table(document("b", at=3, supersedes="a", chunks=2)))
    assert bank.forget("b") == 2
    assert bank.digest() == before
    assert visible(bank, None) == {"a#0", "a#1"}


def test_forgetting_an_unknown_document_names_it(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    with pytest.raises(BankError, match=r"document \"it's\" is not in bank .*: nothing was forgotten"):
        bank.forget("it's")


# Dates


@pytest.fixture
def story(bank: Bank) -> Bank:
    bank.upsert(table(document("a", at=1), document("b", at=5, supersedes="a"), document("other", at=3)))
    return bank


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (day(0), set()),
        (day(1) - timedelta(microseconds=1), set()),
        (day(1), {"a#0"}),
        (day(4), {"a#0", "other#0"}),
        (day(5) - timedelta(microseconds=1), {"a#0", "other#0"}),
        (day(5), {"b#0", "other#0"}),
        (day(5).astimezone(timezone(timedelta(hours=9))), {"b#0", "other#0"}),
        ((day(5) - timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-9))), {"a#0", "other#0"}),
        (datetime.max.replace(tzinfo=UTC), {"b#0", "other#0"}),
        (None, {"b#0", "other#0"}),
    ],
)
def test_a_date_shows_what_was_published_by_then_and_not_yet_superseded(
    story: Bank, as_of: datetime | None, expected: set[str]
) -> None:
    assert visible(story, as_of) == expected
    assert set(names(story.full_text(text="plain", k=9, as_of=as_of))) == expected


def test_a_date_without_a_zone_is_refused_with_how_to_write_it(story: Bank) -> None:
    with pytest.raises(ConfigError, match="2031-02-15T06:00:00 has no time zone: write 2031-02-15T06:00:00Z"):
        story.search(key=key_of("q"), text=None, k=1, as_of=datetime(2031, 2, 15, 6))


def test_documents_are_there_by_name_superseded_or_not(story: Bank) -> None:
    found = story.documents({"b", "a", "nobody's ' OR true"})
    assert names(found) == ["a#0", "b#0"]
    assert found["supersedes"].to_pylist() == [None, "a"]
    assert "memory" in found.column_names


# Search


def test_search_returns_the_nearest_and_the_best_by_words_with_both_scores(bank: Bank) -> None:
    bank.upsert(table(*(document(f"d{n}", text="harbour news" if n == 7 else f"word{n}") for n in range(40))))
    key = key_of("d3#0") * 5
    found = bank.search(key=key, text="the harbour", k=2, as_of=None)
    assert found.column_names == [
        *["memory_id", "doc_id", "title", "published_at", "supersedes", "text", "memory", "n_vectors", "n_tokens"],
        *["similarity", "bm25"],
    ]
    keys = np.stack([key_of(name) for name in names(found)]).astype(np.float64)
    cosine = keys @ key / np.linalg.norm(keys, axis=1) / np.linalg.norm(key)
    np.testing.assert_allclose(found["similarity"].to_numpy(), cosine, atol=1e-9)
    assert names(found)[0] == "d3#0" and "d7#0" in names(found) and len(found) == 3
    assert [score > 0 for score in found["bm25"].to_pylist()] == [name == "d7#0" for name in names(found)]
    assert found["memory"][0].as_py() == bytes(range(12))


def test_a_candidate_found_by_its_key_has_its_bm25_too(bank: Bank) -> None:
    bank.upsert(table(*(document(f"d{n}", text="harbour " * (20 - n) + f"word{n} " * n) for n in range(20))))
    found = bank.search(key=key_of("d15#0"), text="harbour", k=1, as_of=None)
    assert names(found)[0] == "d15#0" and len(found) == 2
    assert all(score > 0 for score in found["bm25"].to_pylist())


def test_an_empty_bank_finds_nothing(bank: Bank) -> None:
    found = bank.search(key=key_of("q"), text="anything", k=3, as_of=None)
    assert len(found) == 0 and "similarity" in found.column_names
    assert len(bank.full_text(text="anything", k=3, as_of=day(1))) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_equal_rows_come_in_the_order_of_their_ids_however_they_arrived(bank: Bank, order: int) -> None:
    numbers = list(range(100, 160))[::order]
    for start in range(0, 60, 20):
        bank.upsert(table(*(document(f"d{n}", key=key_of("same")) for n in numbers[start : start + 20])))
    found = bank.search(key=key_of("same"), text="plain", k=3, as_of=None)
    assert names(found) == ["d100#0", "d101#0", "d102#0"]
    assert names(bank.full_text(text="plain", k=3, as_of=None)) == names(found)


def test_a_bank_without_texts_searches_by_key_alone(bank: Bank) -> None:
    bank.upsert(table(document("a", text=None), document("b", text=None)))
    found = bank.search(key=key_of("a#0"), text="plain words", k=1, as_of=None)
    assert (names(found), found["bm25"].to_pylist()) == (["a#0"], [0.0])
    assert len(bank.full_text(text="plain words", k=3, as_of=None)) == 0


@pytest.mark.parametrize("text", ["", "   ", "the", "'", '"', "%", "';--", "a AND (", "x^2 *", "\0", "👍", "w" * 9000])
def test_any_question_can_be_searched_for(bank: Bank, text: str) -> None:
    bank.upsert(table(document("a")))
    assert names(bank.search(key=key_of("q"), text=text, k=1, as_of=None)) == ["a#0"]
    assert len(bank.full_text(text=text, k=1, as_of=None)) == 0


@pytest.mark.parametrize("doc_id", HOSTILE)
def test_an_id_is_only_ever_a_value(bank: Bank, doc_id: str) -> None:
    bank.upsert(table(document(doc_id, chunks=2, text=doc_id), document("kept")))
    bank.upsert(table(document("new", at=2, supersedes=doc_id)))
    assert superseded(bank)[f"{doc_id}#1"] == day(2)
    assert names(bank.search(key=key_of(f"{doc_id}#1"), text=doc_id, k=1, as_of=day(1)))[0] == f"{doc_id}#1"
    assert bank.verify() == []
    assert bank.forget(doc_id) == 2
    assert set(stored(bank)) == {"kept#0", "new#0"}


@pytest.mark.parametrize("key", [np.ones(P + 1), np.zeros(P), np.full(P, np.nan), np.ones((1, P))])
def test_a_search_key_that_does_not_fit_is_refused(bank: Bank, key: np.ndarray) -> None:
    with pytest.raises(BankError, match="a search key of shape .* does not fit: it has to be 16 finite numbers"):
        bank.search(key=key, text=None, k=1, as_of=None)


def test_asking_for_no_memory_is_refused(bank: Bank) -> None:
    with pytest.raises(ConfigError, match="k is 0"):
        bank.full_text(text="x", k=0, as_of=None)


# The indexes


def bm25(bank: Bank) -> list[tuple[str, float]]:
    found = bank.full_text(text="alpha beta gamma", k=50, as_of=day(99))
    return list(zip(names(found), found["bm25"].to_pylist(), strict=True))


def lettered(n: int) -> list[dict[str, Any]]:
    return document(f"d{n}", text="alpha " * (n % 5) + "beta " * (n % 3) + "gamma " * (n % 7) + "delta " * n)


def test_bm25_depends_on_the_rows_and_not_on_how_they_came(tmp_path: Path) -> None:
    together = Bank.open(uri=str(tmp_path / "together"), schema=SCHEMA)
    together.upsert(table(*map(lettered, range(30))))
    apart = Bank.open(uri=str(tmp_path / "apart"), schema=SCHEMA)
    apart.upsert(table(*map(lettered, range(10)), document("gone", text="alpha alpha epsilon")))
    for n in range(10, 30, 5):
        apart.upsert(table(*map(lettered, range(n, n + 5))))
    apart.upsert(table(document("d4", sha="v0", text="zeta")))
    apart.upsert(table(lettered(4)))
    apart.forget("gone")
    assert bm25(apart) == bm25(together)
    apart.optimize()
    assert bm25(apart) == bm25(together)
    assert apart.digest() == together.digest()


def test_a_new_row_is_found_by_its_words_at_once(bank: Bank) -> None:
    for word in ("harbour", "bridge", "mayor"):
        bank.upsert(table(document(word, text=f"the {word} opened")))
        assert names(bank.full_text(text=word, k=1, as_of=None)) == [f"{word}#0"]


def plan(bank: Bank, exact_below: int) -> str:
    """What Lance intends to do for a search by key."""
    opened = Bank.open(uri=bank._uri, exact_below=exact_below)
    query = search._key_query(
        opened._latest(), key_of("q"), search._visible(1, None), not opened._is_large(opened._latest())
    )
    return str(query.limit(1).explain_plan())


def test_search_is_exhaustive_below_the_bound_and_uses_an_index_from_it_on(tmp_path: Path) -> None:
    bank = Bank.open(uri=str(tmp_path), schema=SCHEMA, exact_below=300)
    rows = [document(f"d{n}", at=n % 30) for n in range(300)]
    bank.upsert(table(*rows[:299]))
    bank.optimize()
    assert bank.stats()["indexed"] == 0 and "ANN" not in plan(bank, 300)
    bank.upsert(table(rows[299]))
    bank.optimize()
    assert bank.stats()["indexed"] == 300 and "ANN" in plan(bank, 300) and "ANN" not in plan(bank, 301)
    assert recall(bank, rows) >= 0.95


def recall(bank: Bank, rows: list[list[dict[str, Any]]]) -> float:
    """Share of the true ten nearest that a search as of day 20 finds, over twenty keys."""
    seen = [row[0] for row in rows if row[0]["published_at"] <= day(20)]
    keys = np.stack([row["key"] / np.linalg.norm(row["key"]) for row in seen])
    shares = []
    for number in range(20):
        key = key_of(f"query {number}")
        truth = {seen[place]["memory_id"] for place in np.argsort(-(keys @ key))[:10]}
        shares.append(len(truth & set(names(bank.search(key=key, text=None, k=10, as_of=day(20))))) / 10)
    return float(np.mean(shares))


def test_rows_that_came_after_the_index_are_found(tmp_path: Path) -> None:
    bank = Bank.open(uri=str(tmp_path), schema=SCHEMA, exact_below=300)
    bank.upsert(table(*(document(f"d{n}") for n in range(300))))
    bank.optimize()
    bank.upsert(table(document("new", at=2, supersedes="d7")))
    assert names(bank.search(key=key_of("new#0"), text=None, k=1, as_of=None)) == ["new#0"]
    assert names(bank.search(key=key_of("d7#0"), text=None, k=1, as_of=day(1))) == ["d7#0"]
    assert names(bank.search(key=key_of("d7#0"), text=None, k=1, as_of=day(2))) != ["d7#0"]


def test_the_index_looks_for_rows_that_a_date_shows_and_not_among_all(tmp_path: Path) -> None:
    bank = Bank.open(uri=str(tmp_path), schema=SCHEMA, exact_below=300)
    bank.upsert(table(*(document(f"d{n}", at=0 if n < 5 else 9) for n in range(400))))
    bank.optimize()
    found = bank.search(key=key_of("d99#0"), text=None, k=5, as_of=day(1))
    assert set(names(found)) == {f"d{n}#0" for n in range(5)}


# Versions


def test_restore_brings_a_version_back_with_its_text_index(bank: Bank) -> None:
    bank.upsert(table(document("a", text="harbour"), document("b")))
    version, digest, scores = bank.version, bank.digest(), bm25(bank)
    bank.upsert(table(document("c", at=3, supersedes="a", text="harbour alpha")))
    bank.forget("b")
    bank.restore(version)
    assert bank.version > version
    assert (bank.digest(), bm25(bank), bank.verify()) == (digest, scores, [])
    assert names(bank.full_text(text="harbour", k=5, as_of=None)) == ["a#0"]


def test_restoring_the_present_version_makes_no_version(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    version = bank.version
    bank.restore(version)
    assert bank.version == version


def test_restoring_a_version_that_never_was_says_which_are_kept(bank: Bank) -> None:
    with pytest.raises(BankError, match="has no version 99: it keeps 1 to 1"):
        bank.restore(99)


def test_optimize_changes_no_row_and_keeps_every_version(bank: Bank) -> None:
    first = bank.upsert(table(document("a"))).version
    digests = [bank.digest()]
    for n in range(5):
        bank.upsert(table(document(f"d{n}")))
    digests.append(bank.digest())
    bank.optimize()
    assert bank.digest() == digests[1] and bank.verify() == []
    bank.restore(first)
    assert bank.digest() == digests[0]


def test_optimize_drops_versions_older_than_asked(bank: Bank) -> None:
    first = bank.upsert(table(document("a"))).version
    bank.upsert(table(document("b")))
    bank.optimize(keep=timedelta(milliseconds=1))
    with pytest.raises(BankError, match=f"has no version {first}"):
        bank.restore(first)
    assert visible(bank, None) == {"a#0", "b#0"}


def test_optimize_refuses_to_keep_nothing(bank: Bank) -> None:
    with pytest.raises(ConfigError, match="keep is 0:00:00"):
        bank.optimize(keep=timedelta(0))


def test_another_process_sees_a_write_without_opening_again(bank: Bank, tmp_path: Path) -> None:
    reader = Bank.open(uri=str(tmp_path / "bank"))
    bank.upsert(table(document("a")))
    assert reader.version == bank.version
    assert visible(reader, None) == {"a#0"}


# The digest


def test_the_digest_is_that_of_its_documented_bytes(bank: Bank) -> None:
    rows = [*document("b", at=2, supersedes="a", text=None), *document("a", text="käse")]
    bank.upsert(table(rows))
    state = b""
    for row in sorted(rows, key=lambda row: row["memory_id"]):
        row["superseded_at"] = day(2) if row["doc_id"] == "a" else None
        for field in SCHEMA:
            state += encoded(row[field.name])
    assert bank.digest() == hashlib.sha256(state).hexdigest()


def encoded(value: Any) -> bytes:
    if value is None:
        return b"\0"
    if isinstance(value, datetime):
        value = (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if isinstance(value, np.ndarray):
        value = value.astype("<f4").tobytes()
    if isinstance(value, int):
        value = struct.pack("<q", value)
    data = value.encode() if isinstance(value, str) else value
    return b"\1" + struct.pack("<q", len(data)) + data


def test_the_digest_knows_no_files_but_every_column(tmp_path: Path) -> None:
    digests = []
    for number, order in enumerate([range(1500), reversed(range(1500))]):
        bank = Bank.open(uri=str(tmp_path / str(number)), schema=SCHEMA)
        bank.upsert(table(*(document(f"d{n}") for n in order)))
        digests.append(bank.digest())
    assert digests[0] == digests[1]
    for field, value in {"title": "x", "n_tokens": 8, "text": None, "slice_id": "s", "supersedes": "d1"}.items():
        bank = Bank.open(uri=str(tmp_path / field), schema=SCHEMA)
        row = {**document("a")[0], field: value}
        bank.upsert(table([row]))
        digests.append(bank.digest())
    assert len(set(digests)) == 6


# Looking after it


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"memory": b"cut"}, "memory 'a#0' has a memory that is not n_vectors × 6 bytes"),
        ({"compressor": "f00d"}, "memory 'a#0' was made by another compressor"),
        ({"key": np.zeros(P, np.float32)}, "memory 'a#0' has a key with NaN, infinity or only zeros"),
        ({"superseded_at": day(3)}, "document 'a' has another superseded_at than its successors' dates say"),
        ({"memory_id": "a#5"}, "document 'a' has 'a#5' instead of chunks"),
    ],
)
def test_verify_names_what_is_wrong(bank: Bank, damage: dict[str, Any], message: str) -> None:
    bank.upsert(table(document("b")))
    assert bank.verify() == []
    bank.connection.open_table(bank.name).add(table([{**row, **damage} for row in document("a")]))
    problems = bank.verify()
    assert any(message in problem for problem in problems)
    assert any("full-text index misses rows" in problem for problem in problems)


def test_verify_finds_a_row_that_is_there_twice(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    bank.connection.open_table(bank.name).add(table(document("a")))
    assert "memory 'a#0' occurs 2 times" in bank.verify()


def test_stats_count_and_measure(bank: Bank) -> None:
    assert np.isnan(bank.stats()["mean_pairwise_cosine"])
    bank.upsert(table(document("a", chunks=3), document("b")))
    stats = bank.stats()
    assert (stats["rows"], stats["documents"], stats["version"], stats["indexed"]) == (4, 2, bank.version, 0)
    assert stats["bytes"] > 4 * 12 and stats["bytes_per_document"] == stats["bytes"] / 2
    keys = np.stack([key_of(name) for name in ("a#0", "a#1", "a#2", "b#0")]).astype(np.float64)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    pairs = (keys @ keys.T)[np.triu_indices(4, 1)]
    assert stats["mean_pairwise_cosine"] == pytest.approx(pairs.mean(), abs=1e-6)


# Disks


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)  # noqa: S607
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)  # noqa: S607
    return done.returncode == 0


@contextmanager
def full_disk(folder: Path, kind: str) -> Iterator[Path]:
    """A folder that takes a small bank but no big one: a tmpfs of 4 MB, or a bound on the size of a file."""
    folder.mkdir()
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)  # noqa: S607
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, hard))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["limit", "tmpfs"] if can_mount() else ["limit"])
def test_a_full_disk_is_a_bank_error_and_leaves_the_bank_as_it_was(tmp_path: Path, kind: str) -> None:
    with full_disk(tmp_path / "disk", kind) as disk:
        bank = Bank.open(uri=str(disk / "bank"), schema=SCHEMA)
        bank.upsert(table(document("a")))
        before = bank.version, bank.digest()
        big = [{**row, "memory": os.urandom(6 * 3000), "n_vectors": 3000} for row in document("big", chunks=500)]
        with pytest.raises(BankError, match="cannot be written: .*(No space left|File too large).*check free space"):
            bank.upsert(table(big))
        assert (bank.version, bank.digest()) == before
        bank.upsert(table(document("b")))
        assert Bank.open(uri=str(disk / "bank")).verify() == []


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the right to write; root, who needs none, becomes nobody meanwhile."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            path.chmod(0o755)


def test_a_read_only_bank_answers_and_refuses_to_be_written() -> None:
    folder = Path(tempfile.mkdtemp())  # not tmp_path, whose parents only root may enter
    try:
        bank = Bank.open(uri=str(folder / "bank"), schema=SCHEMA)
        bank.upsert(table(document("a"), document("b", at=2)))
        before = bank.version, bank.digest()
        with read_only(folder):
            assert visible(Bank.open(uri=str(folder / "bank")), None) == {"a#0", "b#0"}
            for write in (
                lambda: bank.upsert(table(document("c"))),
                lambda: bank.forget("a"),
                lambda: bank.restore(1),
                lambda: bank.optimize(),
                lambda: bank.promote(),
                lambda: Bank.open(uri=str(folder / "other"), schema=SCHEMA),
            ):
                with pytest.raises(BankError, match="Permission denied"):
                    write()
            assert (bank.version, bank.digest()) == before
    finally:
        shutil.rmtree(folder)


# Two at once


def write_some(uri: str, start: int, barrier: Any) -> None:
    barrier.wait()
    bank = Bank.open(uri=uri, schema=SCHEMA)
    for n in range(start, start + 3):
        # Each supersedes a document that the other process writes.
        bank.upsert(table(lettered(n), lettered(50), document(f"e{n}", at=n, supersedes=f"d{(n + 3) % 6}")))


def test_two_processes_that_write_at_once_end_with_one_consistent_bank(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=write_some, args=(str(tmp_path / "both"), start, barrier)) for start in (0, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    alone = Bank.open(uri=str(tmp_path / "alone"), schema=SCHEMA)
    documents = [document(f"e{n}", at=n, supersedes=f"d{(n + 3) % 6}") for n in range(6)]
    alone.upsert(table(*map(lettered, [*range(6), 50]), *documents))
    both = Bank.open(uri=str(tmp_path / "both"))
    assert both.verify() == []
    assert pc.all(pc.equal(pc.value_counts(pa.array(list(stored(both)))).field("counts"), 1)).as_py()
    assert (both.digest(), bm25(both)) == (alone.digest(), bm25(alone))
