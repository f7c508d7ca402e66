"""Ingest: the report, the quarantine, and the rows of the store that it compares with."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cmt.errors import StreamError
from cmt.stream._index import FILE
from cmt.stream.admission.ingest import Options
from cmt.stream.admission.ingest import ingest as ingest_into
from cmt.stream.store import SliceStore
from tests.helpers.rows import (
    NOW,
    Ingest,
    Row,
    doc_ids,
    make_document,
    make_question,
    write_csv,
    write_lines,
)


def test_ingesting_a_source_again_adds_nothing_and_reports_duplicates(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = [make_document("a"), make_document("b"), make_question(doc_id="a")]
    first = ingest([*rows, *rows])
    assert (len(first.slices), first.accepted, first.questions) == (1, 2, 1)
    assert (first.duplicates, first.question_duplicates) == (2, 1)
    digests = [slice_.digest for slice_ in store.slices()]
    again = ingest(rows)
    assert (again.slices, again.accepted, again.questions) == ((), 0, 0)
    assert (again.duplicates, again.question_duplicates) == (2, 1)
    assert again.summary() == "nothing new; 2 documents and 1 question already there"
    assert [slice_.digest for slice_ in store.slices()] == digests


def test_a_file_of_drafts_has_nothing_to_ingest(store: SliceStore, tmp_path: Path) -> None:
    draft = tmp_path / "2026-03-05-post.md"
    draft.write_text("---\ndraft: true\n---\nText.\n")
    with pytest.raises(StreamError, match="post.md contains only drafts"):
        ingest_into(store, draft)
    report = ingest_into(
        store,
        [draft, write_lines(tmp_path / "a.jsonl", [make_document("a")])],
        options=Options(now=NOW),
    )
    assert (report.accepted, report.rejected) == (1, ()) and any(
        "draft" in line for line in report.notices
    )


def test_an_address_leads_to_the_document_that_has_its_page_as_id(
    ingest: Ingest, store: SliceStore
) -> None:
    address = "http://X.example/a/?utm_source=rss"
    page = make_document("", url=address)
    update = make_document("b", text="The toll is three euros.", supersedes=address)
    report = ingest([page, update, make_question(doc_id=address)])
    assert (report.accepted, report.questions) == (2, 1) and not any(
        "supersedes" in line for line in report.notices
    )
    later = ingest(
        [
            make_question("q2", doc_id=address),
            make_document("c", text="Four euros.", supersedes=address),
        ]
    )
    assert (later.accepted, later.questions, later.rejected) == (1, 1, ()) and not later.notices
    with pytest.raises(
        StreamError, match="supersedes is the document's own doc_id 'https://x.example/a'"
    ):
        ingest([make_document("", url=address, text="The toll is five euros.", supersedes=address)])


def test_an_address_that_is_a_doc_id_is_left_as_it_is(ingest: Ingest) -> None:
    address = "http://x.example/a/"
    report = ingest(
        [
            make_document(address),
            make_document("b", supersedes=address),
            make_question(doc_id=address),
        ]
    )
    assert (report.accepted, report.questions, len(report.rejected)) == (2, 1, 0)


def test_row_numbers_of_several_files_are_noticed(store: SliceStore, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    texts = {
        "jan": "The ferry costs seven crowns.",
        "feb": "The bridge is closed today.",
        "mar": "The bridge opens.",
    }
    for month, text in texts.items():
        write_lines(
            tmp_path / f"files/{month}.jsonl", [make_document("1", text=text), make_document(month)]
        )
    report = ingest_into(store, tmp_path / "files", options=Options(now=NOW))
    assert [line for line in report.notices if "different texts" in line] == [
        "doc_ids with different texts in several files, such as '1' in feb.jsonl and jan.jsonl:"
        " each text replaces the one before it; if the ids are row numbers, leave them out with"
        " --map doc_id="
    ]


def test_rejected_rows_are_in_the_quarantine_once(
    ingest: Ingest, store: SliceStore, quarantined: Callable[[], list[Row]]
) -> None:
    rows = [
        make_document("a"),
        make_document("b", text=""),
        '{"text": "\\ud800',
        make_question(doc_id="c"),
    ]
    report = ingest(rows)
    assert report.quarantine is not None
    before = report.quarantine.read_bytes()
    assert [(row["file"], row["row"]) for row in quarantined()] == [
        ("rows.jsonl", row) for row in (2, 3, 4)
    ]
    assert quarantined()[0]["reason"] == "text is empty"
    assert '"doc_id": "b"' in quarantined()[0]["raw"]
    assert report.summary().endswith(f"3 rows rejected, see {report.quarantine}")
    assert ingest(rows).quarantine == report.quarantine
    assert report.quarantine.read_bytes() == before


def test_the_quarantine_of_a_source_is_removed_when_its_rows_are_accepted(
    ingest: Ingest, store: SliceStore, quarantined: Callable[[], list[Row]]
) -> None:
    rows = [make_question("q1", "a"), make_question("q2", "b")]
    ingest([make_document("b")])
    ingest(rows, name="questions.jsonl")
    assert [row["row"] for row in quarantined()] == [1]
    ingest([make_document("a")])
    assert ingest(rows, name="questions.jsonl").quarantine is None
    assert quarantined() == []


def test_a_source_without_a_valid_row_raises_and_is_quarantined(
    ingest: Ingest, store: SliceStore, quarantined: Callable[[], list[Row]]
) -> None:
    with pytest.raises(
        StreamError, match="none of its 2 rows can be taken.*rows.jsonl:1: text is empty"
    ):
        ingest([make_document("a", text=""), "{"])
    assert len(quarantined()) == 2
    assert store.slices() == []


def test_a_field_of_another_type_never_costs_its_row(ingest: Ingest, store: SliceStore) -> None:
    report = ingest(
        [
            (
                '{"doc_id": "a", "published_at": "2031-05-01", "title": NaN, "url": NaN, "text":'
                ' "The mill was sold."}'
            ),
            {
                "published_at": "2031-05-01",
                "source": {"id": None, "name": "Post"},
                "text": "The mole is long.",
            },
            {
                "doc_id": 123,
                "published_at": "2031-05-01",
                "text": "The pump stops.",
                "title": {"en": "Pump"},
            },
            make_document("d") | dict.fromkeys(("question", "answers", "asked_at")),
            make_question("q", "d", answers="noon"),
        ]
    )
    assert (report.accepted, report.questions, report.rejected) == (4, 1, ())
    assert {"a", "123", "d"} < set(doc_ids(store))
    assert report.notices == (
        "1 × title is left out, because it is no string, such as {'en': 'Pump'}",
        "1 × doc_id is a number and is read as text, such as 123",
    )


def test_texts_that_the_source_cut_and_files_in_other_encodings_are_told(
    store: SliceStore, tmp_path: Path
) -> None:
    (tmp_path / "news").mkdir()
    article = {
        "publishedAt": "2031-01-02T08:00:00Z",
        "content": "The bridge at Saltby is … [+1234 chars]",
    }
    (tmp_path / "news/api.json").write_text(json.dumps({"articles": [article]}))
    (tmp_path / "news/table.csv").write_bytes(
        "date,text\n2031-01-02,Der Bär fährt über die Brücke bei Köln.\n".encode("cp1252")
    )
    report = ingest_into(store, tmp_path / "news", options=Options(now=NOW, dry_run=True))
    assert report.files == (("api.json", "json", "utf-8"), ("table.csv", "csv", "cp1252"))
    assert report.notices[:2] == (
        "not UTF-8: table.csv (cp1252)",
        (
            "1 × the text is cut at its source, which sends only its beginning, such as '[+1234"
            " chars]'"
        ),
    )


def test_the_reasons_are_counted_by_kind_without_their_values(ingest: Ingest) -> None:
    rows = [make_document(str(number), published_at=f"soon {number}") for number in range(3)]
    report = ingest([make_document("a"), *rows, make_document("b", text="")])
    assert [(count, row.row) for _, count, row in report.reasons()] == [(3, 2), (1, 5)]
    assert (
        report.reasons()[0][0]
        == "published_at: … is not a date-time; write …, or a plain date such as …"
    )
    assert report.rejected_fraction == 0.8


def test_two_files_have_each_their_publisher(
    ingest: Ingest, store: SliceStore, tmp_path: Path
) -> None:
    files = [write_lines(tmp_path / f"{name}.jsonl", [make_document(name)]) for name in "ab"]
    report = ingest_into(store, files, options=Options(now=NOW))
    assert report.accepted == 2
    assert sorted(store.all_documents()["source"].to_pylist()) == ["file:a.jsonl", "file:b.jsonl"]


@pytest.mark.parametrize("seed", range(2))
def test_the_index_of_a_stream_decides_as_one_that_is_made_again(
    store: SliceStore, seed: int
) -> None:
    rng = random.Random(seed)
    rebuilt = replace(store, path=store.path.with_name("rebuilt"))
    names = [f"d{number}" for number in range(12)]
    dates = [f"2031-{month:02d}-02T06:00:00Z" for month in range(1, 7)]
    for number in range(12):
        rows: list[Row] = [
            make_document(
                rng.choice(names),
                text=f"{rng.randrange(9)} crowns.",
                published_at=rng.choice(dates),
                supersedes=rng.choice([None, *names]),
            )
            for _ in range(4)
        ]
        rows += [
            make_question(f"q{rng.randrange(20)}", rng.choice(names), asked_at=rng.choice(dates))
        ]
        path = write_lines(store.path.with_name(f"{number}.jsonl"), rows)
        (rebuilt.path / FILE).unlink(missing_ok=True)
        results = []
        for each in (store, rebuilt):
            try:
                report = ingest_into(each, path, file_format="jsonl", options=Options(now=NOW))
            except StreamError as error:
                results.append(str(error))
            else:
                results.append(
                    f"{report.summary()} {[slice_.digest for slice_ in report.slices]}"
                    f" {report.rejected}"
                )
        assert results[0] == results[1]
    assert store.all_documents().num_rows > 6


def test_tickets_of_different_customers_are_no_versions_of_each_other(
    store: SliceStore, tmp_path: Path
) -> None:
    header = ["Ticket ID", "Created", "Subject", "Description", "Organization", "Resolution"]
    rows = [
        [f"HD-{number}", f"2031-01-{number:02d}", "VPN", "The VPN drops.", f"Firm {number}", "New"]
        for number in range(1, 10)
    ]
    path = write_csv(tmp_path / "tickets.csv", header, rows)
    report = ingest_into(store, path, options=Options(now=NOW))
    assert (report.accepted, report.versions, report.repeats, report.rejected) == (9, 0, 0, ())
    rows[0][-1] = "Replaced"
    write_csv(tmp_path / "tickets.csv", header, rows)
    again = ingest_into(store, path, options=Options(now=NOW))
    assert (again.accepted, again.versions, again.duplicates) == (1, 1, 8)
