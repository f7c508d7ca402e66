"""Rows dated a little ahead of the clock are taken when their time has come."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cmt.common.arrow import rows_of
from cmt.config import StreamParams
from cmt.errors import StreamError
from cmt.stream.admission._waiting import FILE, read_waiting
from cmt.stream.admission.report import IngestReport
from cmt.stream.store import SliceStore
from tests.helpers.rows import Ingest, Row, make_document, make_question

CLOCK = datetime(2031, 3, 1, 12, tzinfo=UTC)
SOON, LATE = "2031-03-01T12:10:00Z", "2031-03-02T12:00:01Z"


def report_of(
    ingest: Ingest, *rows: object, hours: int = 0, name: str = "rows.jsonl"
) -> IngestReport:
    report: IngestReport = ingest(rows, name=name, now=CLOCK + timedelta(hours=hours))
    return report


def test_a_row_ahead_of_the_clock_waits_and_is_taken_by_a_later_ingest_of_another_source(
    ingest: Ingest, store: SliceStore
) -> None:
    rows = (
        make_document("a"),
        make_document("soon", published_at=SOON, text="Café \ud800" + "x" * 3000),
        make_document("late", published_at=LATE),
        make_question("q", "a", asked_at=SOON),
    )
    report = report_of(ingest, *rows)
    assert (report.accepted, report.waiting, [row.row for row in report.rejected]) == (1, 2, [3])
    assert (
        "2 rows dated ahead of the clock: a later ingest takes them when their time has come"
        in report.notices
    )
    assert report_of(ingest, *rows).waiting == 2  # once, however often it is read
    assert len(read_waiting(store.quarantine)) == 2
    later = report_of(ingest, make_document("b"), hours=1, name="other.jsonl")
    assert (later.accepted, later.questions, later.waiting) == (2, 1, 0)
    assert not (store.quarantine / FILE).exists()
    sources = dict(rows_of(store.all_documents(), "doc_id", "source"))
    assert sources == {"a": "file:rows.jsonl", "soon": "file:rows.jsonl", "b": "file:other.jsonl"}


@pytest.mark.parametrize(
    ("claimed", "publisher"), [("", "file:rows.jsonl"), (" The  Courier ", "The Courier")]
)
def test_a_row_that_waited_has_the_publisher_of_one_that_did_not(
    ingest: Ingest, store: SliceStore, claimed: str, publisher: str
) -> None:
    params = StreamParams(trust_source=True)
    rows = [
        make_document("a", source=claimed),
        make_document("b", source=claimed, published_at=SOON),
    ]
    ingest(rows, params=params, now=CLOCK)
    ingest(rows[:1], params=params, now=CLOCK + timedelta(hours=1), name="other.jsonl")
    sources = dict(rows_of(store.all_documents(), "doc_id", "source"))
    assert sources == {"a": publisher, "b": publisher}


def test_a_forgotten_document_does_not_wait(
    ingest: Ingest, store: SliceStore, quarantined: Callable[[], list[Row]]
) -> None:
    text = (
        "The ferry to Saltby leaves the old harbour of Port Ellery at noon and comes back with the"
        " evening tide."
    )
    ingest([make_document("a", text=text)], now=CLOCK)
    store.forget({"a": []})
    rows = [make_document(name, text=text, published_at=SOON) for name in ("a", "copy")]
    report = report_of(
        ingest, *rows, make_question("q", "a", asked_at=SOON), make_document("b", published_at=SOON)
    )
    reason = "its document, or one with nearly its text, was forgotten"
    assert (report.waiting, [row.reason for row in report.rejected]) == (1, [reason] * 3)
    assert not any("harbour" in str(row) for row in quarantined())


def test_nothing_waits_for_a_fixed_clock(ingest: Ingest, store: SliceStore) -> None:
    params = StreamParams(clock=CLOCK.isoformat())
    with pytest.raises(StreamError, match="in the future"):
        ingest([make_document(published_at=SOON)], now=None, params=params)
    assert not (store.quarantine / FILE).exists()


def test_a_dry_run_and_a_damaged_file_lose_no_waiting_row(
    ingest: Ingest, store: SliceStore, tmp_path: Path
) -> None:
    assert ingest([make_document(published_at=SOON)], now=CLOCK, dry_run=True).waiting == 1
    assert not store.quarantine.exists() and not store.path.exists()
    store.quarantine.mkdir()
    (store.quarantine / FILE).write_text("{\n")
    with pytest.raises(StreamError, match=r"waiting\.jsonl cannot be read"):
        report_of(ingest, make_document())
