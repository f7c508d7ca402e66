"""The ledger: rounds, inferred changes and forgotten documents in LanceDB."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import pytest

from cmt.bank.changes import Change, ValueSpan
from cmt.bank.ledger import Ledger
from cmt.errors import BankError, DamageError, RoundError
from tests.helpers.damage import flip
from tests.helpers.rounds import ROUND


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(lancedb.connect(str(tmp_path)))


def test_rounds_are_read_as_they_were_written_sorted_by_number(ledger: Ledger) -> None:
    scores: dict[str, dict[str, float | None]] = {
        "cmt": {"f1": 50.0, "recall": None},
        "closed": {"f1": 3.0},
    }
    second = replace(
        ROUND,
        round_id="2031-02/0001",
        number=2,
        scores=scores,
        seconds={"bank": 1},
        set_aside=("a2",),
    )
    ledger.write(second)
    ledger.write(ROUND)
    assert (
        Ledger(lancedb.connect(ledger.connection.uri)).rounds()
        == ledger.rounds()
        == [ROUND, second]
    )
    committed = replace(ROUND, state="committed", version_after=3)
    ledger.write(committed)
    assert ledger.rounds() == [committed, second]


def test_rounds_of_two_compressors_have_separate_rows(ledger: Ledger) -> None:
    other = replace(ROUND, compressor="beef" * 16)
    ledger.write(ROUND, other)
    assert ledger.rounds(ROUND.compressor) == [ROUND]
    assert ledger.rounds(other.compressor) == [other]
    assert len(ledger.rounds()) == 2
    assert ledger.rounds("d" * 64) == []


def test_forgotten_documents_are_kept_once_and_sorted(ledger: Ledger) -> None:
    for doc_id in ("ferry", "it's", "ferry", "#"):
        ledger.forget(doc_id)
    assert ledger.forgotten() == ["#", "ferry", "it's"]


def test_an_altered_forgotten_document_is_damage(ledger: Ledger) -> None:
    ledger.forget("ferry", "raft")
    ledger.connection.open_table("forgotten").update(
        where="doc_id = 'raft'", values={"doc_id": "craft"}
    )
    with pytest.raises(
        DamageError, match="the forgotten document 'craft' does not match its checksum"
    ):
        ledger.forgotten()


def test_a_table_with_an_altered_column_is_damage(ledger: Ledger) -> None:
    ledger.forget("ferry")
    ledger.connection.open_table("forgotten").alter_columns(
        {"path": "checksum", "rename": "chucksum"}  # type: ignore[dict-item]
    )
    with pytest.raises(DamageError, match="the table forgotten has no column checksum"):
        ledger.forgotten()


def test_exists_creates_nothing(tmp_path: Path) -> None:
    assert not Ledger.exists(str(tmp_path / "bank"))
    assert not (tmp_path / "bank").exists()
    assert not Ledger.exists(str(tmp_path))
    Ledger(lancedb.connect(str(tmp_path)))
    assert Ledger.exists(str(tmp_path))


def test_a_damaged_ledger_raises_a_bank_error(tmp_path: Path) -> None:
    Ledger(lancedb.connect(str(tmp_path))).write(ROUND)
    for manifest in (tmp_path / "rounds.lance" / "_versions").iterdir():
        manifest.write_bytes(b"cut")
    with pytest.raises(BankError, match="the ledger in .* cannot be opened: "):
        Ledger(lancedb.connect(str(tmp_path)))


@pytest.mark.parametrize("name", ["rounds", "changes", "forgotten"])
def test_an_altered_file_is_named_before_lance_reads_it(
    ledger: Ledger, tmp_path: Path, name: str
) -> None:
    ledger.write(ROUND)
    ledger.write_changes(ROUND.round_id, ROUND.compressor, [PRICE])
    ledger.forget("ferry")
    [file] = (tmp_path / f"{name}.lance" / "data").glob("*.lance")
    flip(file, -40, 248)
    with pytest.raises(
        DamageError, match=rf"{file.name} does not match its checksum.*restore .* from a backup"
    ):
        Ledger(ledger.connection)
    flip(file, -40, 248)
    assert Ledger(ledger.connection).rounds() == [ROUND]


# Inferred changes

JANUARY, FEBRUARY = datetime(2031, 1, 5, tzinfo=UTC), datetime(2031, 2, 5, tzinfo=UTC)
PRICE = Change(
    ValueSpan("ferry", JANUARY, 0, 10, 20, "ab"),
    ValueSpan("fares", FEBRUARY, 1, 3, 14, "cd"),
    FEBRUARY,
    0.9,
)
MAYOR = Change(
    ValueSpan("mayor", JANUARY, 0, 0, 4, "ef"),
    ValueSpan("vote", FEBRUARY, 0, 5, 9, "01"),
    JANUARY,
    0.8,
)
COMMITTED = replace(ROUND, state="committed", version_after=3)


def ids(ledger: Ledger, state: str | None = None) -> set[str]:
    return {change.id for change in ledger.changes() if state in (None, change.state)}


def test_the_changes_of_a_committed_round_are_read_as_they_were_written(ledger: Ledger) -> None:
    ledger.write(COMMITTED)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE, MAYOR])
    read = ledger.changes()
    found_at = read[0].found_at
    expected: dict[str, Any] = {
        "round_id": ROUND.round_id,
        "compressor": ROUND.compressor,
        "found_at": found_at,
    }
    assert read == [replace(change, **expected) for change in (MAYOR, PRICE)]
    assert datetime.fromisoformat(found_at).tzinfo is not None
    assert Ledger(lancedb.connect(ledger.connection.uri)).changes() == read
    assert ledger.changes(["fares", "it's; --"]) == ledger.changes({"ferry"}) == read[1:]
    assert ledger.changes(["nobody"]) == ledger.changes([]) == []


def test_a_change_that_a_surer_one_makes_unlikely_is_left_out(ledger: Ledger) -> None:
    def change(old: str, new: str, confidence: float) -> Change:
        spans = replace(PRICE.old, doc_id=old), replace(PRICE.new, doc_id=new)
        return replace(PRICE, old=spans[0], new=spans[1], confidence=confidence)

    second = replace(COMMITTED, round_id="2031-03/0001", number=2)
    ledger.write(COMMITTED, second)
    ledger.write_changes(
        COMMITTED.round_id,
        COMMITTED.compressor,
        [change("jan", "mar", 0.8), change("jan", "may", 0.75), change("may", "mar", 0.7)],
    )
    ledger.write_changes(second.round_id, second.compressor, [change("jan", "x", 0.9)])
    assert {c.doc_ids for c in ledger.changes()} == {("jan", "x"), ("may", "mar")}
    for doc_id, found in {
        "mar": [("may", "mar")],
        "jan": [("jan", "x")],
        "x": [("jan", "x")],
    }.items():
        assert [c.doc_ids for c in ledger.changes([doc_id])] == found
    ledger.write(replace(second, state="rolled_back"))
    assert {c.doc_ids for c in ledger.changes(["jan"])} == {("jan", "mar"), ("jan", "may")}


@pytest.mark.parametrize("state", ["refused", "interrupted", "rolling_back", "rolled_back"])
def test_a_round_without_a_commit_takes_its_changes_back(ledger: Ledger, state: str) -> None:
    ledger.write(ROUND)
    ledger.write_changes(ROUND.round_id, ROUND.compressor, [PRICE])
    assert ids(ledger) == {PRICE.id}  # while it is in progress
    ledger.write(replace(ROUND, state=state))  # type: ignore[arg-type]
    assert ledger.changes() == []
    with pytest.raises(RoundError, match=f"no change '{PRICE.id}'"):
        ledger.set_change_states({PRICE.id: "rejected"})


def test_a_repeated_round_replaces_its_changes_and_keeps_the_rejected_ones(ledger: Ledger) -> None:
    other = replace(COMMITTED, round_id="2031-02/0001")
    ledger.write(COMMITTED, other)
    ledger.write_changes(
        other.round_id,
        other.compressor,
        [replace(PRICE, confidence=0.7, old=replace(PRICE.old, chunk=4))],
    )
    others = ids(ledger)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE, MAYOR])
    ledger.set_change_states({MAYOR.id: "rejected"})
    ledger.write_changes(
        COMMITTED.round_id, COMMITTED.compressor, [replace(MAYOR, confidence=0.99)]
    )
    assert ids(ledger, "found") == others
    assert ids(ledger, "rejected") == {MAYOR.id}
    assert {change.confidence for change in ledger.changes()} == {0.7, 0.99}
    ledger.set_change_states({MAYOR.id: "found"})
    assert ids(ledger, "found") == {MAYOR.id, *others}


def test_a_rejection_holds_for_the_rounds_of_every_compressor(ledger: Ledger) -> None:
    second = replace(COMMITTED, compressor="d" * 64)
    ledger.write(COMMITTED, second)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE])
    ledger.set_change_states({PRICE.id: "rejected"})
    ledger.write_changes(second.round_id, second.compressor, [PRICE, MAYOR])
    assert [(change.id, change.state) for change in ledger.changes()] == [
        (MAYOR.id, "found"),
        (PRICE.id, "rejected"),
    ]
    ledger.set_change_states({PRICE.id: "found"})
    ledger.write(replace(COMMITTED, state="rolled_back"))
    assert ids(ledger, "found") == {MAYOR.id, PRICE.id}  # found by the second compressor too


def test_a_rejection_holds_for_overlapping_spans_of_the_same_texts(ledger: Ledger) -> None:
    ledger.write(COMMITTED)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE])
    ledger.set_change_states({PRICE.id: "rejected"})
    longer = replace(PRICE, old=replace(PRICE.old, first=2), new=replace(PRICE.new, last=40))
    others = [
        replace(PRICE, old=replace(PRICE.old, first=20, last=30)),
        replace(PRICE, new=replace(PRICE.new, digest="other")),
    ]
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [longer, *others])
    assert ids(ledger, "rejected") == {PRICE.id, longer.id}
    assert ids(ledger, "found") == {other.id for other in others}


def test_an_unknown_change_is_named_and_nothing_is_written(ledger: Ledger) -> None:
    ledger.write(COMMITTED)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE])
    with pytest.raises(
        RoundError, match="there is no change 'x': `cmt changes` lists them; nothing was changed"
    ):
        ledger.set_change_states({PRICE.id: "rejected", "x": "rejected"})
    assert ids(ledger, "found") == {PRICE.id}


def test_a_forgotten_document_takes_its_changes_along(ledger: Ledger, tmp_path: Path) -> None:
    ledger.write(COMMITTED)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE, MAYOR])
    ledger.write(replace(COMMITTED, reason="fares"))
    ledger.write(COMMITTED)
    assert ledger.forget_changes(["fares", "nobody"]) == 1
    assert ids(ledger) == {MAYOR.id}
    ledger.purge_history()
    assert ids(ledger) == {MAYOR.id}
    files = [path.read_bytes() for path in tmp_path.glob("*.lance/**/*") if path.is_file()]
    assert any(b"vote" in content for content in files)
    assert not any(b"fares" in content for content in files)


def test_a_document_that_its_round_set_aside_has_no_change(ledger: Ledger) -> None:
    ledger.write(replace(COMMITTED, set_aside=("vote",)))
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE, MAYOR])
    assert ids(ledger) == {PRICE.id}


@pytest.mark.parametrize(
    "values", [{"record": "REPLACED"}, {"old_doc_id": "craft"}, {"row_id": "x"}]
)
def test_an_altered_change_is_damage(ledger: Ledger, values: dict[str, str]) -> None:
    ledger.write(COMMITTED)
    ledger.write_changes(COMMITTED.round_id, COMMITTED.compressor, [PRICE])
    altered = {
        "REPLACED": replace(PRICE, compressor=ROUND.compressor).to_record().replace("0.9", "1.0")
    }
    ledger.connection.open_table("changes").update(
        values={name: altered.get(value, value) for name, value in values.items()}
    )
    with pytest.raises(
        DamageError,
        match="ledger in .* is damaged .*the change .*(cannot be read|match its record)",
    ):
        ledger.changes()
