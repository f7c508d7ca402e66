"""Who may supersede and correct whose documents, through `ingest`; and how often honest ones are
refused.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cmt.common.dates import iso
from cmt.config import StreamParams
from cmt.errors import ConfigError, StreamError
from cmt.stream.admission.authority import Authority
from cmt.stream.store import SliceStore
from tests.helpers.rows import NOW, Ingest, Row, doc_ids, make_document, make_question

COURIER = Path(__file__).parents[3] / "data/courier"
TRUSTED = StreamParams(trust_source=True)
LATER = "2031-02-02T06:00:00Z"

HONEST = make_document("ferry", text="The ferry costs six crowns.")
UPDATE = make_document(
    "ferry-2", text="The ferry costs nine crowns.", supersedes="ferry", published_at=LATER
)
CORRECTION = make_document("ferry", text="The ferry costs ninety crowns.", published_at=LATER)


def refusal(ingest: Ingest, row: Row, **options: Any) -> str:
    """Why `row` alone is refused."""
    with pytest.raises(StreamError, match="none of its 1 row can be taken") as error:
        ingest([row], **{"name": "more.jsonl"} | options)
    return str(error.value)


@pytest.mark.parametrize("row", [UPDATE, CORRECTION], ids=["update", "correction"])
def test_a_stranger_may_neither_supersede_nor_correct(
    ingest: Ingest, store: SliceStore, row: Row
) -> None:
    ingest([HONEST], publisher="Courier")
    report = ingest([row, make_document("other")], publisher="Mallory", name="more.jsonl")
    (refused,) = report.rejected
    for part in (
        "'ferry'",
        "'Courier'",
        "'Mallory'",
        'add {"Mallory": ["Courier"]} to stream.authority',
    ):
        assert part in refused.reason
    assert report.quarantine is not None and "stream.authority" in report.quarantine.read_text()
    assert doc_ids(store) == ["ferry", "other"]
    # what the reason advises is enough, and gives the document to nobody else
    granted = StreamParams(authority={"Mallory": ("Courier",)})
    assert ingest([row], publisher="Mallory", params=granted).accepted == 1
    assert "of 'Courier'" in refusal(
        ingest, CORRECTION | {"text": "Free."}, publisher="Eve", params=granted
    )


def test_a_document_without_a_source_is_its_files(ingest: Ingest, store: SliceStore) -> None:
    ingest([HONEST])
    assert store.all_documents()["source"].to_pylist() == ["file:rows.jsonl"]
    assert "'file:more.jsonl' may not" in refusal(ingest, UPDATE)
    assert "'Courier' may not" in refusal(ingest, UPDATE, publisher="Courier")
    assert ingest([UPDATE]).accepted == 1


def test_the_column_source_counts_only_where_it_is_trusted(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([HONEST], params=TRUSTED)  # its source is Courier
    forged = UPDATE | {"source": "Courier"}
    assert "'file:more.jsonl' may not" in refusal(ingest, forged)
    assert "'Mallory' may not" in refusal(ingest, forged, params=TRUSTED, publisher="Mallory")
    assert "'Tribune' may not" in refusal(ingest, UPDATE | {"source": "Tribune"}, params=TRUSTED)
    assert ingest([forged], name="more.jsonl", params=TRUSTED).accepted == 1
    # a column cannot name a file
    ingest([make_document("a", source="file:rows.jsonl")], name="more.jsonl", params=TRUSTED)
    assert store.all_documents()["source"].to_pylist() == ["Courier", "file:more.jsonl", "Courier"]


def test_publishers_in_one_trusted_file_do_not_change_each_others_documents(
    ingest: Ingest, store: SliceStore
) -> None:
    stolen = [CORRECTION | {"source": "Mallory"}, UPDATE | {"source": "Mallory"}]
    for rows in ([HONEST, *stolen], [*stolen, HONEST]):
        assert len(ingest(rows, params=TRUSTED).rejected) == 2
        assert store.all_documents()["text"].to_pylist() == [HONEST["text"]]


@pytest.mark.parametrize("name", ["", " \n", "file:rows.jsonl"])
def test_a_name_that_is_no_publisher_is_refused(ingest: Ingest, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a source"):
        ingest([HONEST], publisher=name)


def test_peers_may_change_each_others_facts_but_not_documents() -> None:
    authority = Authority({"Desk": ("Courier",)}, [("Courier", "Herald"), ("Herald", "Echo")])
    allowed = ["Courier Courier", "Courier Herald", "Herald Courier", "Echo Herald", "Desk Courier"]
    for pair in (*allowed, "Courier Desk", "Courier Echo", "Desk Herald"):
        assert authority.may_change(*pair.split()) is (pair in allowed), pair
    assert not authority.covers("Courier", "Herald")
    assert Authority(peers="*").may_change("Mallory", "Courier")


def test_what_is_added_without_a_publisher_is_of_peers() -> None:
    authority = Authority(unnamed={"posts", "wiki"})
    for pair in (("posts", "wiki"), ("file:a.md", "posts"), ("file:a.csv", "file:b.csv")):
        assert authority.may_change(*pair) and not authority.covers(*pair)
    for stranger in ("Courier", "feeds", "", None):
        assert not authority.may_change(stranger, "posts")
        assert not authority.may_change("file:a.md", stranger)


def test_files_of_one_series_have_one_publisher(ingest: Ingest, store: SliceStore) -> None:
    ingest([HONEST], name="fares-2031-01.jsonl")
    assert ingest([UPDATE, CORRECTION], name="Fares-2031-Feb.jsonl").rejected == ()
    copy = make_document(text="The same.")
    del copy["doc_id"]
    for month, accepted in (("01", 1), ("02", 0)):
        report = ingest([copy], name=f"notes {month}.jsonl")
        assert (report.accepted, report.duplicates) == (accepted, 1 - accepted)
    for other in ("fares.jsonl", "fares-2031-02.json", "marches-2031-01.jsonl"):
        assert "'file:fares-2031-01.jsonl'" in refusal(ingest, CORRECTION, name=other)


def test_the_numbers_of_rows_are_no_ids_of_a_series(ingest: Ingest) -> None:
    ingest([make_document("1", text="The ferry costs six crowns.")], name="a-01.jsonl")
    row = make_document("1", text="The bridge is closed.", published_at=LATER)
    assert "--source NAME" in refusal(ingest, row, name="a-02.jsonl")
    assert ingest([row | {"text": "Free."}], name="a-01.jsonl").versions == 1


def test_an_ingest_says_how_files_without_a_publisher_are_taken(ingest: Ingest) -> None:
    def noticed(name: str, **options: Any) -> list[str]:
        report = ingest([make_document(name)], name=name, **options)
        return [line for line in report.notices if "--source" in line]

    assert noticed("fares-01.jsonl") == []
    assert noticed("news.jsonl", publisher="Courier") == []
    (peers,) = noticed("notes.jsonl")
    assert "notes.jsonl" in peers and "fares-01.jsonl" in peers
    (one,) = noticed("fares-02.jsonl")
    assert "fares-02.jsonl" in one and "fares-01.jsonl" in one and "notes" not in one


def test_nothing_supersedes_what_is_younger(ingest: Ingest, store: SliceStore) -> None:
    early = UPDATE | {"published_at": "2031-01-01T06:00:00Z"}
    (refused,) = ingest([early, HONEST]).rejected
    assert "supersedes 'ferry', which is younger (2031-01-02T06:00:00Z)" in refused.reason
    assert doc_ids(store) == ["ferry"]
    assert ingest([UPDATE | {"published_at": HONEST["published_at"]}]).accepted == 1


def test_another_source_with_the_same_text_has_no_part_in_it(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([HONEST], publisher="Courier")
    copy = make_document("copy", text=HONEST["text"])
    report = ingest([copy, UPDATE | {"supersedes": "copy"}], publisher="Mallory", name="more.jsonl")
    assert (report.accepted, report.repeats, store.copies({"ferry"})) == (2, 0, set())


def test_a_refused_document_does_not_take_the_text_of_another(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([HONEST], publisher="Courier")
    rows = [
        UPDATE,
        make_document("honest", text=UPDATE["text"], published_at=LATER),
        make_question("q", "honest"),
    ]
    report = ingest(rows, publisher="Mallory", name="more.jsonl")
    assert (report.accepted, report.questions, len(report.rejected)) == (1, 1, 1)
    assert doc_ids(store) == ["ferry", "honest"]


def test_an_update_that_is_there_before_its_target_hides_none_of_another_source(
    ingest: Ingest, store: SliceStore
) -> None:
    ingest([UPDATE], publisher="Mallory")
    reason = refusal(ingest, HONEST, publisher="Courier")
    assert "'ferry-2' of 'Mallory' would supersede it" in reason
    assert "`cmt forget ferry-2`" in reason
    store.forget({"ferry-2": ()})
    assert ingest([HONEST], publisher="Courier", name="more.jsonl").accepted == 1


def test_a_doc_id_belongs_to_one_source(ingest: Ingest) -> None:
    ingest([HONEST], publisher="Courier")
    for _ in range(2):
        report = ingest(
            [UPDATE, HONEST, make_document("a")], publisher="Mallory", name="more.jsonl"
        )
        assert [row.row for row in report.rejected] == [1, 2]
    assert "'ferry' is a document of 'Courier'" in report.rejected[1].reason
    assert ingest([HONEST], publisher="Courier").duplicates == 1


def test_a_source_may_change_its_document_after_an_earlier_version_by_another(
    ingest: Ingest,
) -> None:
    granted = StreamParams(authority={"Desk": ("Courier",)})
    ingest([HONEST], publisher="Courier")
    early = HONEST | {"text": "The ferry costs five crowns.", "published_at": "2030-01-01"}
    assert ingest([early], publisher="Desk", params=granted).versions == 1
    assert ingest([CORRECTION, UPDATE], publisher="Courier").rejected == ()
    assert "'Mallory' may not" in refusal(
        ingest, UPDATE | {"doc_id": "ferry-3"}, publisher="Mallory"
    )


# Rates

END = iso(NOW)
"""The end of the clock."""
ATTACKS: dict[str, tuple[str | None, Row]] = {
    "another source": ("Mallory", {}),
    "forged column": (None, {"source": "own"}),
    "dated at the end of the clock": (None, {"published_at": END}),
    "doc_id of another source": ("Mallory", {"doc_id": "own", "supersedes": None}),
    "doc_id, end of the clock": (None, {"doc_id": "own", "supersedes": None, "published_at": END}),
    "older than its target, own source": ("own", {"published_at": "own"}),
}
"""Kind → who ingests it, and what differs from an update of the target; None: a file, "own": the
target's.
"""


def attack(kind: str, target: Row) -> Row:
    """A document that states something false in the place of `target`."""
    before = iso(datetime.fromisoformat(target["published_at"]) - timedelta(seconds=1))
    own, text = target | {"published_at": before}, f"The very opposite of {target['doc_id']} holds."
    row = make_document(
        f"{target['doc_id']}-x", text=text, published_at="2031-12-01", supersedes=target["doc_id"]
    )
    return row | {
        name: own[name] if value == "own" else value for name, value in ATTACKS[kind][1].items()
    }


def test_no_honest_update_is_refused_and_no_attack_passes(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [json.loads(line) for line in (COURIER / "documents.jsonl").read_text().splitlines()]
    # 1. honest documents, a file after the other
    parts = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    refused = sum(
        len(ingest(part, params=TRUSTED, name=f"{place}.jsonl").rejected)
        for place, part in enumerate(parts)
    )
    updates = sum(row["supersedes"] is not None for row in rows)
    # 2. attacks on every fourth of them
    stored = doc_ids(store)
    targets = [row for row in rows if row["doc_id"] in set(stored)][::4]
    passed = {}
    for kind, (who, _) in ATTACKS.items():
        publisher = targets[0]["source"] if who == "own" else who
        false = [attack(kind, target) for target in targets]
        passed[kind] = (
            ingest([make_document(kind), *false], publisher=publisher, name="attack.jsonl").accepted
            - 1
        )
    assert refused == 0 < updates
    assert not any(passed.values())
