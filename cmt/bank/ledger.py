"""The ledger: rounds, inferred changes and forgotten documents, in three LanceDB tables next to
the bank.

Importing it loads no LanceDB; opening a ledger does.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.bank.changes import Change, ChangeState, without_rivals
from cmt.bank.rounds import Round
from cmt.common.digests import json_checksum
from cmt.errors import RoundError

if TYPE_CHECKING:
    from lancedb.db import DBConnection


def _columns(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string(), nullable=False) for name in names]


_RECORD = pa.field("record", pa.large_string())
_ROUNDS = pa.schema([*_columns("round_id"), _RECORD])
_CHANGES = pa.schema(
    [*_columns("row_id", "change_id", "round_id", "old_doc_id", "new_doc_id"), _RECORD]
)
_FORGOTTEN = pa.schema([*_columns("doc_id"), pa.field("checksum", pa.string())])


class Ledger:
    """The tables `rounds`, `changes` and `forgotten`.

    The record of a round or change is JSON with a checksum over its other values; a forgotten
    document has a checksum over its doc_id. The other columns of a change are copies from its
    record, to search for. `check_lease` is called before every write.

    Methods raise BankError if a table cannot be read or written. Opening the ledger raises
    DamageError if one of its files was altered.
    """

    def __init__(
        self, connection: "DBConnection", *, check_lease: Callable[[], None] | None = None
    ) -> None:
        from cmt.bank._ledger_table import LedgerTable

        self.connection = connection
        self._rounds = LedgerTable(connection, "rounds", _ROUNDS, check_lease)
        self._changes = LedgerTable(connection, "changes", _CHANGES, check_lease)
        self._forgotten = LedgerTable(connection, "forgotten", _FORGOTTEN, check_lease)

    @staticmethod
    def exists(uri: str) -> bool:
        """Whether there is a ledger at `uri`; creates nothing. Raises BankError if `uri` cannot be
        opened.
        """
        from cmt.bank._ledger_table import has_table

        return has_table(uri, "rounds")

    def purge_history(self) -> None:
        """Write the rows of each table to a new file and delete every other file and version."""
        for table in (self._rounds, self._changes, self._forgotten):
            table.purge_history()

    # Rounds

    def rounds(self, compressor: str | None = None) -> list[Round]:
        """All rounds, or those of one compressor, sorted by number. Raises DamageError if a row is
        damaged.
        """
        selected = [
            round_ for round_ in self._read_rounds() if compressor in (None, round_.compressor)
        ]
        return sorted(selected, key=lambda round_: (round_.number, round_.round_id))

    def write(self, *rounds: Round) -> None:
        """Insert or replace the rows of `rounds`, in one commit. Rows are keyed by round and
        compressor.
        """
        keys = [_key(round_.round_id, round_.compressor) for round_ in rounds]
        records = [round_.to_record() for round_ in rounds]
        self._rounds.upsert({"round_id": keys, "record": records})

    @property
    def versions(self) -> tuple[int, int]:
        """Numbers of the newest versions of rounds and changes, which every write increases."""
        return self._rounds.version, self._changes.version

    # Changes

    def changes(
        self, doc_ids: Collection[str] | None = None, *, undecided: bool = True
    ) -> list[Change]:
        """The changes that rounds found, sorted by `holds_from`; with `doc_ids` only changes of
        these documents.

        1. A change counts if its round is committed and did not set one of its documents aside. A
           round in progress counts too, but not without `undecided`.
        2. A change that rounds of several compressors found is returned once, as it was found last.
        3. `without_rivals` removes the changes that a surer one contradicts.

        Rejected changes are included. Raises DamageError if a row is damaged.
        """
        if doc_ids is None:
            return without_rivals(self._in_force(self._read_changes(), undecided=undecided))
        # 1. The changes of these documents.
        stored = self._read_changes(old_doc_id=doc_ids, new_doc_id=doc_ids)
        wanted = {change.id for change in stored.values()}
        # 2. Their rivals, and the changes between the later documents of these.
        for _ in range(2 if stored else 0):
            named = {doc_id for change in stored.values() for doc_id in change.doc_ids}
            stored |= self._read_changes(old_doc_id=named)
        in_force = without_rivals(self._in_force(stored, undecided=undecided))
        return [change for change in in_force if change.id in wanted]

    def write_changes(self, round_id: str, compressor: str, changes: Sequence[Change]) -> None:
        """Replace the changes that a round found by `changes`, in one commit.

        A change is rejected if it overlaps a rejected one, whichever round or compressor found
        that.
        """
        # 1. The stored ones of this round, or of the same documents.
        key = _key(round_id, compressor)
        new_doc_ids = {change.new.doc_id for change in changes}
        stored = self._read_changes(round_id=[key], new_doc_id=new_doc_ids)
        # 2. Replace what this round found before; a rejected change stays rejected.
        gone, rejected = set(), []
        for row_id, old in stored.items():
            if old.state == "rejected":
                rejected.append(old)
            elif _key(old.round_id, old.compressor) == key:
                gone.add(row_id)
        # 3. The new rows.
        found_at = datetime.now(UTC).isoformat(timespec="seconds")
        rows = []
        for change in changes:
            state: ChangeState = "rejected" if any(map(change.overlaps, rejected)) else "found"
            rows.append(
                replace(
                    change,
                    round_id=round_id,
                    compressor=compressor,
                    found_at=found_at,
                    state=state,
                )
            )
        self._put_changes(rows, gone=gone)

    def set_change_states(self, states: Mapping[str, ChangeState]) -> None:
        """Give the changes with these ids another state, in one commit. Raises RoundError if there
        is no such change.

        A rejected change has no effect on answers, also if a later round finds it again.
        """
        stored = self._read_changes(change_id=states)
        if unknown := sorted(states.keys() - {change.id for change in self._in_force(stored)}):
            raise RoundError(
                f"there is no change {unknown[0]!r}: `cmt changes` lists them; nothing was changed"
            )
        self._put_changes([replace(old, state=states[old.id]) for old in stored.values()])

    def forget_changes(self, doc_ids: Collection[str]) -> int:
        """Remove the changes that name one of `doc_ids`, in one commit; returns how many there
        were.
        """
        gone = self._read_changes(old_doc_id=doc_ids, new_doc_id=doc_ids)
        self._put_changes([], gone=gone.keys())
        return len({change.id for change in gone.values()})

    # Forgotten documents

    def forgotten(self) -> list[str]:
        """The doc_ids that must not be banked again, sorted. Raises DamageError."""
        rows = self._forgotten.read().to_pylist()
        for row in rows:
            if row["checksum"] != json_checksum({"doc_id": row["doc_id"]}):
                raise self._forgotten.damaged(
                    f"the forgotten document {row['doc_id']!r} does not match its checksum"
                )
        return sorted(row["doc_id"] for row in rows)

    def forget(self, *doc_ids: str) -> None:
        """Record that `doc_ids` were forgotten, in one commit."""
        checksums = [json_checksum({"doc_id": doc_id}) for doc_id in doc_ids]
        self._forgotten.upsert({"doc_id": list(doc_ids), "checksum": checksums})

    def remember(self, doc_ids: Collection[str]) -> None:
        """Take the forgetting of documents back, in one commit."""
        self._forgotten.upsert({"doc_id": [], "checksum": []}, gone=doc_ids)

    # Rows

    def _read_rounds(self, **any_of: Collection[str]) -> list[Round]:
        rounds = []
        for record in self._rounds.read(**any_of)["record"].to_pylist():
            try:
                rounds.append(Round.from_record(record))
            except ValueError as error:
                raise self._rounds.damaged(str(error)) from None
        return rounds

    def _read_changes(self, **any_of: Iterable[str]) -> dict[str, Change]:
        """The stored changes by row_id (see `LedgerTable.read`), also those of rounds without a
        commit.
        """
        changes = {}
        for row in self._changes.read(
            **{name: set(ids) for name, ids in any_of.items()}
        ).to_pylist():
            try:
                change = Change.from_record(row["record"])
            except (ValueError, TypeError, KeyError) as error:
                raise self._changes.damaged(
                    f"the change {row['change_id']} cannot be read: {error}"
                ) from None
            if row != _change_row(change) | {"record": row["record"]}:
                raise self._changes.damaged(
                    f"the columns of the change {change.id} do not match its record"
                )
            changes[row["row_id"]] = change
        return changes

    def _in_force(self, stored: Mapping[str, Change], *, undecided: bool = True) -> list[Change]:
        """The changes of `stored` whose round is committed or, with `undecided`, in progress; see
        `changes`.
        """
        keys = {_key(change.round_id, change.compressor) for change in stored.values()}
        rounds = self._read_rounds(round_id=keys) if keys else []
        # 1. The documents that each counting round set aside.
        set_aside = {}
        for round_ in rounds:
            if round_.state == "committed" or (undecided and round_.state == "started"):
                set_aside[_key(round_.round_id, round_.compressor)] = {*round_.set_aside}
        # 2. Of each change, what was found last.
        latest = {}
        for change in sorted(stored.values(), key=lambda change: change.found_at):
            left_out = set_aside.get(_key(change.round_id, change.compressor))
            if left_out is not None and left_out.isdisjoint(change.doc_ids):
                latest[change.id] = change
        return sorted(latest.values(), key=lambda change: (change.holds_from, change.id))

    def _put_changes(self, changes: Sequence[Change], *, gone: Collection[str] = ()) -> None:
        """Insert or replace the rows of `changes` and delete the rows `gone`, in one commit."""
        if not (changes or gone):
            return
        columns: dict[str, list[str]] = {name: [] for name in _CHANGES.names}
        for change in changes:
            row = _change_row(change) | {"record": change.to_record()}
            for name, values in columns.items():
                values.append(row[name])
        self._changes.upsert(columns, gone={*gone} - {*columns["row_id"]})


def _key(name: str, compressor: str) -> str:
    """The key of a row: a round or change of one compressor."""
    return f"{name}@{compressor[:12]}"


def _change_row(change: Change) -> dict[str, str]:
    """The columns of a change next to its record."""
    return {
        "row_id": _key(change.id, change.compressor),
        "change_id": change.id,
        "round_id": _key(change.round_id, change.compressor),
        "old_doc_id": change.old.doc_id,
        "new_doc_id": change.new.doc_id,
    }
