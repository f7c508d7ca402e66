"""Forgotten documents: they and nearly equal texts stay out, other documents come in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cmt.errors import StreamError
from cmt.stream.schema import DOCUMENT_SCHEMA
from cmt.stream.store import SliceStore
from tests.helpers.rows import Ingest, Row, doc_ids, make_document, make_question

TEXT = (
    "The ferry to Saltby leaves the old harbour of Port Ellery at noon and comes back with the"
    " evening tide."
)
EDITED = TEXT.replace("noon", "dawn").replace("tide", "wind")


def test_neither_the_document_nor_nearly_its_text_comes_back(
    store: SliceStore, ingest: Ingest, quarantined: Callable[[], list[Row]]
) -> None:
    ingest([make_document("raft"), make_document("ferry", text=TEXT), make_question("q1", "ferry")])
    assert store.forget({"ferry": []}) == []
    report = ingest(
        [
            make_document("ferry", text="Another text.", published_at="2031-03-02"),
            make_document("copy", text=f"{TEXT}."),
            make_question("q2", "ferry"),
            make_question("q3", "copy"),
            make_document("edited", text=EDITED),
        ]
    )
    assert (report.accepted, sorted(doc_ids(store))) == (1, ["edited", "ferry", "raft"])
    assert [row.reason for row in report.rejected] == [
        "document 'ferry' was forgotten",
        (
            "100% of its text is that of document 'ferry', which was forgotten; `cmt forget --undo`"
            " takes that back"
        ),
        "its document, 'ferry', was forgotten",
        "its document, 'copy', was forgotten",
    ]
    assert {row["raw"] for row in quarantined()} == {""}
    assert (store.path / "forgotten-sketches.json").stat().st_size < 1000
    assert "harbour" not in (store.path / "forgotten-sketches.json").read_text()


def test_a_document_is_forgotten_for_its_source_unless_it_is_forgotten_everywhere(
    store: SliceStore, ingest: Ingest
) -> None:
    ingest([make_document("false", text=TEXT.replace("noon", "dawn"))], publisher="Mallory")
    store.forget({"false": []})
    honest = make_document("honest", text=f"{TEXT}!".replace("noon", "dawn"))
    with pytest.raises(StreamError, match="document 'false', which was forgotten"):
        ingest([honest | {"doc_id": "again"}], publisher="Mallory")
    assert ingest([honest], publisher="Courier").accepted == 1
    store.forget({"false": []}, everywhere=True)
    store.forget({"false": []})  # does not narrow it
    assert ingest([honest], publisher="Courier").duplicates == 1  # it was there before
    with pytest.raises(StreamError, match="document 'false', which was forgotten"):
        ingest([honest | {"doc_id": "third"}], publisher="Herald")


@pytest.mark.parametrize("lost", ["forgotten.json", "forgotten-sketches.json"])
def test_a_lost_list_is_reported(store: SliceStore, ingest: Ingest, lost: str) -> None:
    ingest([make_document("ferry", text=TEXT)])
    store.forget({"ferry": []})
    (store.path / lost).unlink()
    assert [f"{store.path / lost} is missing next to" in problem for problem in store.verify()] == [
        True
    ]
    if lost == "forgotten.json":
        with pytest.raises(
            StreamError, match=r"forgotten\.json is missing next to forgotten-sketches\.json"
        ):
            ingest([make_document("ferry", text=TEXT)])


def test_a_bad_row_of_a_forgotten_document_is_quarantined_without_its_text(
    store: SliceStore, ingest: Ingest, quarantined: Callable[[], list[Row]]
) -> None:
    ingest([make_document("ferry", text=TEXT)])
    store.forget({"ferry": []})
    invalid = [make_document(name, text=TEXT, published_at="never") for name in ("ferry", "raft")]
    broken = [
        f'{{"id":"{name}","text":"{TEXT}","date":"2031-01-05", broken' for name in ("ferry", "raft")
    ]
    ingest([*invalid, *broken, make_document("oar")])
    assert [row["row"] for row in quarantined() if "harbour" in row["raw"]] == [2, 4]


def test_a_similar_document_that_was_there_before_is_reported_and_stays(
    store: SliceStore, ingest: Ingest
) -> None:
    long = " ".join(f"word{number}" for number in range(300))
    rows = [
        make_document("a", text=long),
        make_document("b", text=f"{long} end"),
        make_document("c", text=TEXT),
    ]
    ingest(rows)
    [similar] = store.forget({"a": []})
    assert (similar.doc_id, similar.forgotten, similar.overlap > 0.95) == ("b", "a", True)
    assert ingest(rows[1:]).duplicates == 2
    assert (
        ingest([make_document("b", text=f"{long} new end", published_at="2031-02-02")]).accepted
        == 1
    )
    assert store.forgotten_among(store.all_documents()).keys() == {"a"}
    assert store.forget({"b": []}) == []
    assert store.forgotten_among(store.all_documents()).keys() == {"a", "b"}


def test_a_purged_slice_has_another_digest_and_the_other_rows(
    store: SliceStore, ingest: Ingest
) -> None:
    [before] = ingest(
        [make_document("a"), make_document("b"), make_question("q1", "a"), make_question("q2", "b")]
    ).slices
    store.forget({"a": []})
    assert store.all_questions()["question_id"].to_pylist() == ["q2"]
    digest = store.purged_digest(before, ["a"])
    for _ in range(2):  # repeating it changes nothing
        store.purge(before.slice_id, ["a"], digest=digest)
        [after] = store.slices()
        assert (after.digest, after.n_documents, after.n_questions) == (digest, 1, 1)
        assert (doc_ids(store), store.verify(), store.slices_containing(["a"])) == (["b"], [], [])
    with pytest.raises(StreamError, match="slice 2031-01/0001 was altered"):
        store.purge(before.slice_id, ["b"], digest=digest)
    assert digest != before.digest


@pytest.mark.parametrize(
    "damaged", ["5", "{", '{"salt": "xyz", "texts": {}, "spared": []}', '{"salt": "00"}']
)
def test_damaged_sketches_are_an_error(store: SliceStore, damaged: str) -> None:
    store.forget({"a": []})
    Path(store.path / "forgotten-sketches.json").write_text(damaged)
    with pytest.raises(StreamError, match=r"forgotten-sketches\.json cannot be read .*restore it"):
        store.forgotten_among(DOCUMENT_SCHEMA.empty_table())
    assert any("forgotten-sketches.json cannot be read" in problem for problem in store.verify())
    assert store.forgotten() == ["a"]
