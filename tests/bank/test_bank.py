"""The bank on a real LanceDB in a temporary folder: opening, writing, versions, disks and
concurrent writers.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cmt.bank.bank import Bank, open_bank, open_banks
from cmt.bank.location import BankLocation
from cmt.bank.quantization import vector_bytes
from cmt.bank.schema import bank_schema, mean_cosine
from cmt.bank.tables import active_compressor
from cmt.errors import BankError
from tests.helpers.banks import (
    DIM,
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
from tests.helpers.damage import file_size_limit
from tests.helpers.permissions import as_nobody, make_read_only, readable_folder
from tests.helpers.processes import CONTEXT, started
from tests.helpers.traces import data_files

# Opening


def test_open_names_the_command_if_there_is_no_bank_and_creates_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no bank at .*bank: run `cmt update` first"):
        open_bank(BankLocation(str(tmp_path / "bank")))
    assert not (tmp_path / "bank").exists()
    with pytest.raises(BankError, match="no bank at"):
        open_bank(BankLocation(str(tmp_path)))  # an empty folder


def test_a_new_compressor_fills_its_own_table_until_it_is_promoted(
    bank: Bank, tmp_path: Path
) -> None:
    bank.upsert(table(document("a")))
    green_schema = bank_schema(key_dim=KEY_DIM, codes="int8", dim=DIM, compressor="beef" * 16)
    green = open_bank(BankLocation(str(tmp_path / "bank")), schema=green_schema)
    assert green.count_rows() == 0
    assert open_bank(BankLocation(str(tmp_path / "bank"))).name == bank.name
    assert {each.name for each in open_banks(bank.location)} == {bank.name, "memories_beefbeefbeef"}
    green.make_current()
    assert open_bank(BankLocation(str(tmp_path / "bank"))).name == green.name
    assert active_compressor(bank.connection) == "beefbeefbeef"
    bank.make_current()
    assert open_bank(BankLocation(str(tmp_path / "bank"))).count_rows() == 1


def test_an_open_bank_sees_the_writes_of_others(bank: Bank, tmp_path: Path) -> None:
    reader = open_bank(BankLocation(str(tmp_path / "bank")))
    bank.upsert(table(document("a")))
    assert reader.version == bank.version
    assert visible(reader, None) == {"a#0"}


# Writing


def test_a_repeated_upsert_changes_neither_rows_nor_digest_nor_version(bank: Bank) -> None:
    rows = table(document("a", chunks=2), document("b", supersedes="a", at=3))
    assert bank.upsert(rows) == (3, 0, 0)
    version, digest = bank.version, bank.digest()
    assert bank.upsert(rows) == (0, 0, 0)
    assert bank.upsert(table(document("b", supersedes="a", at=3, key=key_of("other")))) == (
        0,
        0,
        0,
    )  # the same text
    assert (bank.version, bank.digest()) == (version, digest)


def test_a_changed_text_replaces_its_rows_and_drops_surplus_chunks(bank: Bank) -> None:
    bank.upsert(table(document("a", chunks=3, text="old"), document("b")))
    result = bank.upsert(table(document("a", chunks=1, sha="v2", text="new")))
    assert (result.inserted, result.updated) == (0, 1)
    assert {name: row["text"] for name, row in stored(bank).items()} == {
        "a#0": "new",
        "b#0": "plain words",
    }
    assert names(bank.full_text(text="old", k=5, as_of=None)) == []


def test_a_document_that_only_lost_chunks_is_reindexed(bank: Bank) -> None:
    bank.upsert(table(document("a", chunks=3), document("b", text="plain")))
    bank.upsert(table(document("a")))
    fresh = open_bank(BankLocation(bank.location.uri + "2"), schema=SCHEMA)
    fresh.upsert(table(document("a"), document("b", text="plain")))
    assert bank.digest() == fresh.digest()
    hits = [opened.full_text(text="plain words", k=5, as_of=None) for opened in (bank, fresh)]
    assert hits[0].equals(hits[1])


def test_upsert_ignores_superseded_at_of_its_argument(bank: Bank) -> None:
    rows = table(document("a"))
    dates = pa.array([day(1)], SCHEMA.field("superseded_at").type)
    bank.upsert(rows.set_column(SCHEMA.get_field_index("superseded_at"), "superseded_at", dates))
    assert superseded(bank) == {"a#0": None}


def test_a_purged_bank_has_the_same_rows_in_new_files_and_one_kind_of_content(
    bank: Bank, tmp_path: Path
) -> None:
    bank.upsert(table(*map(lettered, range(40))))
    assert bank.remove({"d5", "d6", "nobody"}) == 2
    rows, hits, files = bank.digest(), bm25(bank), data_files(tmp_path / "bank")
    bank.optimize(keep=timedelta(milliseconds=1))
    assert files & data_files(
        tmp_path / "bank"
    )  # the file of the deleted rows: they are too few to write it again
    bank.purge_history()
    assert (bank.digest(), bm25(bank), problems(bank)) == (rows, hits, [])
    assert files.isdisjoint(data_files(tmp_path / "bank"))
    bank.remove({f"d{number}" for number in range(40)})
    bank.purge_history()
    assert (bank.count_rows(), bank.upsert(table(document("a"))).inserted) == (0, 1)


def test_excluded_documents_are_in_no_search(bank: Bank) -> None:
    bank.upsert(
        table(
            document("a", text="old words"), document("it's", at=3, text="old ways"), document("c")
        )
    )
    bank = bank.excluding({"it's", "gone"})
    for as_of in (None, day(9)):
        assert visible(bank, as_of) == {"a#0", "c#0"}
        assert names(bank.full_text(text="old", k=9, as_of=as_of)) == ["a#0"]
    assert names(bank.documents({"it's", "c"})) == ["c#0"]
    assert bank.present({"it's", "gone"}) == {"it's"}


def test_documents_with_all_words_include_superseded_ones(bank: Bank) -> None:
    bank.upsert(
        table(
            document("a", chunks=2, text="blue boats"),
            document("b", supersedes="a", text="a blue boat sank"),
        )
    )
    bank.upsert(table(document("c", text="blue"), document("d", text=None)))
    assert set(bank.with_all_words("BLUE boat")) == {"a", "b"}
    assert (
        bank.with_all_words("boat train")
        == bank.with_all_words("' OR 1=1; --")
        == bank.with_all_words("")
        == []
    )


# Reading


def test_rows_returns_columns_of_all_rows_or_of_some_by_memory_id(bank: Bank) -> None:
    rows = table(document("b", chunks=2), document("a", text=None))
    bank.upsert(rows)
    assert bank.rows(bank.schema.names).equals(rows.sort_by("memory_id"))
    selected = bank.rows(["memory_id", "text"], {"b#1", "a#0", "nobody#0"})
    assert selected.to_pylist() == [
        {"memory_id": "a#0", "text": None},
        {"memory_id": "b#1", "text": "plain words"},
    ]
    assert bank.rows(["memory_id"], set()).num_rows == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            {"key": np.zeros(KEY_DIM, np.float16)},
            "memory 'a#0' has a key with NaN, infinity or only zeros",
        ),
        ({"superseded_at": day(3)}, "a is misdated"),
        ({"memory_id": "a#5"}, "document 'a' has 'a#5' instead of chunks"),
    ],
)
def test_verify_names_the_problems(bank: Bank, damage: dict[str, Any], message: str) -> None:
    bank.upsert(table(document("b")))
    assert problems(bank) == []
    bank.connection.open_table(bank.name).add(table([{**row, **damage} for row in document("a")]))
    found = problems(bank)
    assert any(message in problem for problem in found)
    assert any("full-text index misses rows" in problem for problem in found)


def test_stats_counts_rows_bytes_and_the_mean_cosine(bank: Bank) -> None:
    assert np.isnan(bank.stats()["mean_pairwise_cosine"])
    bank.upsert(table(document("a", chunks=3), document("b")))
    stats = bank.stats()
    assert (stats["rows"], stats["documents"], stats["version"], stats["indexed"]) == (
        4,
        2,
        bank.version,
        0,
    )
    assert stats["bytes"] > 4 * 12 and stats["bytes_per_document"] == stats["bytes"] / 2
    keys = np.stack([key_of(name) for name in ("a#0", "a#1", "a#2", "b#0")])
    assert stats["mean_pairwise_cosine"] == pytest.approx(mean_cosine(keys))


# Versions


def test_restore_brings_back_a_version_with_its_full_text_index(bank: Bank) -> None:
    bank.upsert(table(document("a", text="harbour"), document("b")))
    version, digest, scores = bank.version, bank.digest(), bm25(bank)
    bank.upsert(table(document("c", at=3, supersedes="a", text="harbour alpha")))
    bank.remove({"b"})
    bank.restore(version)
    assert bank.version > version
    assert (bank.digest(), bm25(bank), problems(bank)) == (digest, scores, [])
    assert names(bank.full_text(text="harbour", k=5, as_of=None)) == ["a#0"]


def test_restore_rebuilds_an_index_that_maintenance_removed(bank: Bank, tmp_path: Path) -> None:
    bank.upsert(table(document("a", text="harbour"), document("b")))
    version, digest, scores = bank.version, bank.digest(), bm25(bank)
    [index] = (tmp_path / "bank" / f"{bank.name}.lance" / "_indices").iterdir()
    bank.upsert(table(document("c")))
    (index / "cmt-digest").write_text("cut off by a kill")
    bank.optimize()
    assert not index.exists()
    again = open_bank(bank.location)  # without the caches of Lance
    again.restore(version)
    assert (again.digest(), bm25(again), problems(again)) == (digest, scores, [])
    assert names(again.full_text(text="harbour", k=5, as_of=None)) == ["a#0"]


def test_restoring_the_newest_or_an_unknown_version_makes_no_version(bank: Bank) -> None:
    bank.restore(bank.version)
    with pytest.raises(BankError, match="has no version 99: it keeps 1 to 1"):
        bank.restore(99)
    assert bank.version == 1


def test_optimize_drops_versions_older_than_keep(bank: Bank) -> None:
    bank.upsert(table(document("a")))
    first = bank.version
    bank.upsert(table(document("b")))
    bank.optimize(keep=timedelta(milliseconds=1))
    with pytest.raises(BankError, match=f"has no version {first}"):
        bank.restore(first)
    assert visible(bank, None) == {"a#0", "b#0"}


# Disks


def test_one_write_may_have_more_rows_than_lance_gives_a_merge(tmp_path: Path) -> None:
    bank = open_bank(BankLocation(str(tmp_path / "bank"), 300), schema=SCHEMA)
    bank.upsert(table(*(document(f"d{n}", key=key_of(str(n))) for n in range(300))))
    bank.optimize()  # a merge has this limit where memory_id is indexed
    vectors = 4_000_000 // vector_bytes("int8", DIM)
    row = document("large")[0] | {
        "n_vectors": vectors,
        "memory": bytes(vectors * vector_bytes("int8", DIM)),
    }
    bank.upsert(
        table([row | {"memory_id": f"large{n}#0", "doc_id": f"large{n}"} for n in range(50)])
    )  # 200 of 150 MB
    assert bank.count_rows() == 350


def test_a_full_disk_raises_a_bank_error_and_leaves_the_bank_unchanged(bank: Bank) -> None:
    with file_size_limit(4_000_000):
        bank.upsert(table(document("a")))
        before = bank.version, bank.digest()
        big = [
            {**row, "memory": os.urandom(6 * 3000), "n_vectors": 3000}
            for row in document("big", chunks=500)
        ]
        with pytest.raises(
            BankError, match="cannot be written: .*File too large.*check free space"
        ):
            bank.upsert(table(big))
        assert (bank.version, bank.digest()) == before
        bank.upsert(table(document("b")))
        assert problems(open_bank(bank.location)) == []


def test_a_read_only_bank_can_be_searched_but_not_written() -> None:
    with readable_folder() as folder:
        bank = open_bank(BankLocation(str(folder / "bank")), schema=SCHEMA)
        bank.upsert(table(document("a"), document("b", at=2)))
        before = bank.version, bank.digest()
        make_read_only(folder)
        with as_nobody():
            assert visible(open_bank(BankLocation(str(folder / "bank"))), None) == {"a#0", "b#0"}
            for write in (
                lambda: bank.upsert(table(document("c"))),
                lambda: bank.remove({"a"}),
                lambda: bank.restore(1),
                lambda: bank.optimize(),
                lambda: bank.make_current(),
                lambda: open_bank(BankLocation(str(folder / "other")), schema=SCHEMA),
            ):
                with pytest.raises(BankError, match="Permission denied"):
                    write()
            assert (bank.version, bank.digest()) == before


def test_an_index_that_finds_no_space_in_the_temporary_folder_names_it_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = open_bank(BankLocation(str(tmp_path / "bank"), 300), schema=SCHEMA)
    bank.upsert(table(*(document(f"d{n}", key=key_of(str(n))) for n in range(300))))
    digest, found = bank.digest(), len(visible(bank, None))
    with (
        monkeypatch.context() as patch,
        pytest.raises(BankError, match=r"also of the temporary folder \(TMPDIR\)"),
    ):
        patch.setenv("TMPDIR", str(tmp_path / "full"))  # no folder, as for Lance a full one
        bank.optimize()
    assert bank.digest() == digest and problems(bank) == []
    assert len(visible(bank, None)) == found
    bank.optimize()
    assert problems(bank) == []


# Concurrent writers


def write_documents(uri: str, start: int, barrier: Any) -> None:
    barrier.wait(120)
    bank = open_bank(BankLocation(uri), schema=SCHEMA)
    for n in range(start, start + 3):
        # Each supersedes a document of the other process.
        bank.upsert(
            table(lettered(n), lettered(50), document(f"e{n}", at=n, supersedes=f"d{(n + 3) % 6}"))
        )


def test_two_processes_that_write_at_once_leave_one_consistent_bank(tmp_path: Path) -> None:
    both, barrier = str(tmp_path / "both"), CONTEXT.Barrier(2)
    with (
        started(write_documents, both, 0, barrier) as first,
        started(write_documents, both, 3, barrier) as second,
    ):
        pass
    assert [first.exitcode, second.exitcode] == [0, 0]
    one_writer = open_bank(BankLocation(str(tmp_path / "one_writer")), schema=SCHEMA)
    documents = [document(f"e{n}", at=n, supersedes=f"d{(n + 3) % 6}") for n in range(6)]
    one_writer.upsert(table(*map(lettered, [*range(6), 50]), *documents))
    bank = open_bank(BankLocation(both))
    assert problems(bank) == []
    assert (bank.digest(), bm25(bank)) == (one_writer.digest(), bm25(one_writer))
