"""The ledger: rounds, inferred changes, and forgotten documents, in three LanceDB tables beside the
bank.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from cmt.bank.changes import Change, ChangeState, without_rivals
from cmt.common.digests import json_checksum
from cmt.common.systems import ScoresBySystem
from cmt.errors import DamageError, RoundError

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.expr import Expr

MEMORY = "cmt"
"""Name of the system that answers from the memories."""
SCORE_NAMES = ("em", "em_prefix", "f1", "f1_low", "f1_high", "recall")
"""Scores of one system: EM, EM of the prefix, F1 and the bounds of its interval (0–100), and recall
(0–1).
"""

State = Literal[
    "started", "committed", "refused", "rolling_back", "rolled_back", "interrupted", "failed"
]
"""`started` and `rolling_back` are in progress, or interrupted if no process holds the lock; after
`failed`, the slice waits until it is named."""

Judgement = Literal["", "passed", "refused", "not judged"]
"""Verdict of the gate: `not judged` without canaries and thresholds, "" before the gate is
asked.
"""

ADAPT_STAGES = ("compress", "bank")
CANARIES = "canaries.parquet"
"""In the folder of a round: its canaries (CANARY_SCHEMA)."""
ANSWERS = "answers.parquet"
"""In the folder of a round: its answers (RECORD_SCHEMA)."""


def round_folder(state: Path, slice_id: str) -> Path:
    """The folder of a round's own files in the state folder: canaries, answers, seconds."""
    return state / "rounds" / slice_id.replace("/", "-")


@dataclass(frozen=True)
class Round:
    """A row of the ledger: the adaptation of the bank to one slice."""

    round_id: str
    """Equal to slice_id."""
    number: int
    """Orders the committed rounds by their commits, from 1; a slice that is adapted again gets a
    higher number.
    """
    slice_id: str
    slice_digest: str
    compressor: str
    """Digest of the compressor."""
    row_format: str
    """The bank parameters that shape the rows, such as "int8-text"; stored as `bank_params`."""
    params_digest: str
    """Digest of the parameters that shape answers and scores."""
    state: State
    version_before: int
    """Version of the bank that a rollback restores."""
    version_after: int | None = None
    bank_digest: str = ""
    documents: int = 0
    """Documents in the slice."""
    rows: int = 0
    """Rows in the bank after the round."""
    questions: int | None = None
    """Questions that the round asked; None if it was not evaluated."""
    scores: ScoresBySystem = field(default_factory=dict)
    """The scores of each system that was asked."""
    judgement: Judgement = ""
    canaries: dict[str, int] = field(default_factory=dict)
    """Counts of the canaries: `asked`, `wrong` (no longer right), `harmed` (by documents of this
    slice) and `changed` (a document of this slice updates their answer)."""
    changes: int = 0
    """Inferred changes that a committed round found, without rejected ones."""
    set_aside: tuple[str, ...] = ()
    """doc_ids of the documents of the slice that the gate left out of the bank."""
    calibration: dict[str, float] = field(default_factory=dict)
    """Calibration of the confidence by the answers of earlier rounds: `slope`, `shift`, and the
    number of `answers`. Empty without any."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""
    tokens_per_second: float | None = None
    """Tokens of text compressed per second."""
    dtype: str = ""
    """Type in which the LM computed, bfloat16 or float32; `lm.dtype: auto` depends on the
    machine.
    """
    git_commit: str = ""
    dvc_lock: str = ""
    """SHA-256 of dvc.lock; "" if there is none."""
    recompressed: bool = False
    """Whether it filled the bank of a champion: such a round asks no question and has no MLflow
    run.
    """
    mlflow_run: str = ""
    prefect_run: str = ""
    started_at: str = ""
    finished_at: str = ""
    reason: str = ""
    """Why the round was refused, interrupted or rolled back, or failed."""
    already: bool = False
    """Whether the round had been committed before, so that this one did nothing."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Slice digest, compressor and row format: rounds of equal identity write the same rows to
        the bank.
        """
        return self.slice_digest, self.compressor, self.row_format

    @property
    def quarantine_file(self) -> str:
        """Name of the file in the quarantine that says why documents were set aside."""
        return f"round-{self.round_id.replace('/', '-')}.jsonl"

    @property
    def notes(self) -> list[str]:
        """The changes that it found, the canaries that they update, and the documents set aside, a
        line each.
        """
        changed, names, lines = self.canaries.get("changed", 0), self.set_aside, []
        if self.changes:
            see = ", see `cmt changes`" if self.state == "committed" else ""
            lines.append(f"{self.changes:,} change{'s' if self.changes != 1 else ''} found{see}")
        if changed:
            lines.append(
                f"{changed:,} canar{'ies follow' if changed != 1 else 'y follows'} an update"
            )
        if names:
            listed = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            number = f"{len(names):,} document{'s' if len(names) != 1 else ''}"
            lines.append(
                f"{number} set aside ({listed}), see {self.quarantine_file} in the quarantine"
            )
        return lines

    @property
    def problem(self) -> str:
        """Why a refused or failed round did not count, in a line; "" for any other."""
        endings = {
            "refused": "was refused and the bank restored",
            "failed": "failed and the bank was restored",
        }
        return (
            f"round {self.round_id} {endings[self.state]}: {self.reason}"
            if self.state in endings
            else ""
        )

    @property
    def memory_scores(self) -> Mapping[str, float | None]:
        """The scores of the memory; empty if no question was asked."""
        return self.scores.get(MEMORY, {})

    @property
    def adapt_seconds(self) -> float:
        """Wall-clock seconds to compress and bank the slice."""
        return sum(self.seconds.get(stage, 0.0) for stage in ADAPT_STAGES)

    @property
    def measure_seconds(self) -> float:
        """Wall-clock seconds of all other stages, such as asking questions."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage not in ADAPT_STAGES)


_STORED_NAMES = {"row_format": "bank_params"}
_PYTHON_NAMES = {stored: name for name, stored in _STORED_NAMES.items()}


class Ledger:
    """The tables `rounds`, `changes` and `forgotten`. Methods raise BankError if a table cannot be
    read or written.

    Opening it raises DamageError if one of their files was altered.

    The record of a round or change is JSON with a checksum over its other values; a forgotten
    document has one over its doc_id. The other columns of a change are copies from its record, to
    search for. `check_lease` is called before every write.
    """

    SCHEMAS = {
        "rounds": pa.schema(
            [
                pa.field("round_id", pa.string(), nullable=False),
                pa.field("record", pa.large_string()),
            ]
        ),
        "changes": pa.schema(
            [
                *(
                    pa.field(name, pa.string(), nullable=False)
                    for name in ("row_id", "change_id", "round_id")
                ),
                *(
                    pa.field(name, pa.string(), nullable=False)
                    for name in ("old_doc_id", "new_doc_id")
                ),
                pa.field("record", pa.large_string()),
            ]
        ),
        "forgotten": pa.schema(
            [
                pa.field("doc_id", pa.string(), nullable=False),
                pa.field("checksum", pa.string(), nullable=True),
            ]
        ),
    }

    def __init__(
        self, connection: "DBConnection", *, check_lease: Callable[[], None] | None = None
    ) -> None:
        from cmt.bank.integrity import DATA, altered_files
        from cmt.bank.tables import open_or_create_table

        self.connection, self._check_lease = connection, check_lease
        for name in self.SCHEMAS:  # before Lance reads them, which may end the process
            if altered := altered_files(connection.uri, name, DATA):
                raise self._damaged(f"{altered[0]} does not match its checksum")
        with self._translate_errors("opened"):
            self._tables = {
                name: open_or_create_table(connection, name, self.SCHEMAS[name])
                for name in self.SCHEMAS
            }

    @staticmethod
    def exists(uri: str) -> bool:
        """Whether there is a ledger at `uri`; creates nothing. Raises BankError if `uri` cannot be
        opened.
        """
        import lancedb

        from cmt.bank.tables import translate_errors

        if "://" not in uri and not Path(uri).is_dir():
            return False
        with translate_errors(f"bank {uri} cannot be opened"):
            return "rounds" in lancedb.connect(uri).list_tables().tables

    def rounds(self, compressor: str | None = None) -> list[Round]:
        """All rounds, or those of one compressor, sorted by number. Raises DamageError if a row is
        damaged.
        """
        selected = [round_ for round_ in self._rounds() if compressor in (None, round_.compressor)]
        return sorted(selected, key=lambda round_: (round_.number, round_.round_id))

    def write(self, *rounds: Round) -> None:
        """Insert or replace the rows of `rounds`, in one commit. Rows are keyed by round and
        compressor.
        """
        keys, records = [_key(round_.round_id, round_.compressor) for round_ in rounds], []
        for round_ in rounds:
            fields = asdict(round_) | {"scores": flat_scores(round_.scores)}
            values = json.loads(
                json.dumps({_STORED_NAMES.get(name, name): value for name, value in fields.items()})
            )
            records.append(json.dumps(values | {"checksum": json_checksum(values)}))
        self._upsert("rounds", {"round_id": keys, "record": records})

    @property
    def version(self) -> int:
        """Number of the newest version of the rounds, which every write of a round increases."""
        with self._translate_errors("read"):
            self._tables["rounds"].checkout_latest()  # type: ignore[no-untyped-call]
            return self._tables["rounds"].version

    def changes(
        self, doc_ids: Collection[str] | None = None, *, undecided: bool = True
    ) -> list[Change]:
        """The changes that rounds found, sorted by `holds_from`; with `doc_ids` only changes of
        these documents.

        Rejected ones are included. The row of a round is the commit of its changes: a round that is
        refused, interrupted or rolled back has none, a committed one none of documents that it set
        aside, and one in progress all, or none without `undecided`. A change that rounds of several
        compressors found is returned once, as it was found last. `without_rivals` removes the
        changes that a surer one contradicts.

        Raises DamageError if a row is damaged.
        """
        if doc_ids is None:
            return without_rivals(self._in_force(self._changes(), undecided=undecided))
        # 1. The changes of these documents.
        stored = self._changes(_naming(doc_ids))
        own = {change.id for change in stored.values()}
        # 2. Their rivals, and the changes between the later documents of these.
        for _ in range(2 if stored else 0):
            named = {doc_id for change in stored.values() for doc_id in change.doc_ids}
            stored |= self._changes(_one_of("old_doc_id", named))
        return [
            c for c in without_rivals(self._in_force(stored, undecided=undecided)) if c.id in own
        ]

    def write_changes(self, round_: Round, changes: Sequence[Change]) -> None:
        """Replace the changes that `round_` found by `changes`, in one commit.

        A change is rejected if it overlaps a rejected one, whichever round or compressor found
        that.
        """
        # 1. The stored ones of this round, or of the same documents.
        own = _key(round_.round_id, round_.compressor)
        found_at = datetime.now(UTC).isoformat(timespec="seconds")
        doc_ids = {change.new.doc_id for change in changes}
        stored = self._changes(_one_of("round_id", [own]) | _one_of("new_doc_id", doc_ids))
        rejected = [change for change in stored.values() if change.state == "rejected"]
        gone = {
            key
            for key, old in stored.items()
            if _key(old.round_id, old.compressor) == own and old.state == "found"
        }
        # 2. The new rows.
        rows = [
            replace(
                change,
                round_id=round_.round_id,
                compressor=round_.compressor,
                found_at=found_at,
                state="rejected" if any(map(change.overlaps, rejected)) else "found",
            )
            for change in changes
        ]
        self._put_changes(rows, gone=gone)

    def set_change_states(self, states: Mapping[str, ChangeState]) -> None:
        """Give the changes with these ids another state, in one commit. Raises RoundError if there
        is no such change.

        A rejected change has no effect on answers, also if a later round finds it again.
        """
        stored = self._changes(_one_of("change_id", states))
        if unknown := sorted(states.keys() - {change.id for change in self._in_force(stored)}):
            raise RoundError(
                f"there is no change {unknown[0]!r}: `cmt changes` lists them; nothing was changed"
            )
        self._put_changes([replace(old, state=states[old.id]) for old in stored.values()])

    def forget_changes(self, doc_ids: Collection[str]) -> int:
        """Remove the changes that name one of `doc_ids`, in one commit; returns how many there
        were.
        """
        gone = self._changes(_naming(doc_ids))
        self._put_changes([], gone=gone.keys())
        return len({change.id for change in gone.values()})

    def purge_history(self) -> None:
        """Write the rows of each table to a new file and delete every other file and version."""
        from cmt.bank.tables import rewrite

        for name, table in self._tables.items():
            with self._writing():
                rewrite(table, self._read(name))

    def forgotten(self) -> list[str]:
        """The doc_ids that must not be banked again, sorted. Raises DamageError."""
        rows = self._read("forgotten").to_pylist()
        for row in rows:
            if row["checksum"] != json_checksum({"doc_id": row["doc_id"]}):
                raise self._damaged(
                    f"the forgotten document {row['doc_id']!r} does not match its checksum"
                )
        return sorted(row["doc_id"] for row in rows)

    def forget(self, *doc_ids: str) -> None:
        """Record that `doc_ids` were forgotten, in one commit."""
        checksums = [json_checksum({"doc_id": doc_id}) for doc_id in doc_ids]
        self._upsert("forgotten", {"doc_id": list(doc_ids), "checksum": checksums})

    def remember(self, doc_ids: Collection[str]) -> None:
        """Take the forgetting of documents back, in one commit."""
        self._upsert("forgotten", {"doc_id": [], "checksum": []}, gone=doc_ids)

    def _rounds(self, condition: "Expr | None" = None) -> list[Round]:
        rounds = []
        for record in self._read("rounds", condition)["record"].to_pylist():
            try:
                values = json.loads(record)
                checksum = values.pop("checksum", None)
                named = {_PYTHON_NAMES.get(name, name): value for name, value in values.items()}
                named |= {"scores": nested_scores(values.get("scores", {}))}
                round_ = Round(**named | {"set_aside": tuple(values.get("set_aside", ()))})
            except (ValueError, TypeError, AttributeError) as error:
                raise self._damaged(f"a row cannot be read: {error}") from None
            if checksum != json_checksum(values):
                raise self._damaged(
                    f"the row of round {round_.round_id} does not match its checksum"
                )
            rounds.append(round_)
        return rounds

    def _changes(self, condition: "Expr | None" = None) -> dict[str, Change]:
        """The stored changes that meet `condition` by row_id, also those of rounds without a
        commit.
        """
        changes = {}
        for row in self._read("changes", condition).to_pylist():
            try:
                change = Change.from_record(row["record"])
            except (ValueError, TypeError, KeyError) as error:
                raise self._damaged(
                    f"the change {row['change_id']} cannot be read: {error}"
                ) from None
            if row != _change_row(change) | {"record": row["record"]}:
                raise self._damaged(
                    f"the columns of the change {change.id} do not match its record"
                )
            changes[row["row_id"]] = change
        return changes

    def _in_force(self, stored: Mapping[str, Change], *, undecided: bool = True) -> list[Change]:
        """Those of `stored` whose round is committed or, with `undecided`, in progress; see
        `changes`.
        """
        keys = {_key(change.round_id, change.compressor) for change in stored.values()}
        rounds = self._rounds(_one_of("round_id", keys)) if keys else []
        set_aside = {
            _key(round_.round_id, round_.compressor): round_.set_aside
            for round_ in rounds
            if round_.state == "committed" or (undecided and round_.state == "started")
        }
        latest = {}
        for change in sorted(stored.values(), key=lambda change: change.found_at):
            left_out = set_aside.get(_key(change.round_id, change.compressor))
            if left_out is not None and {*left_out}.isdisjoint(change.doc_ids):
                latest[change.id] = change
        return sorted(latest.values(), key=lambda change: (change.holds_from, change.id))

    def _put_changes(self, changes: Sequence[Change], *, gone: Collection[str] = ()) -> None:
        """Insert or replace the rows of `changes` and delete the rows `gone`, in one commit."""
        if changes or gone:
            rows = [_change_row(change) | {"record": change.to_record()} for change in changes]
            columns = {name: [row[name] for row in rows] for name in self.SCHEMAS["changes"].names}
            self._upsert("changes", columns, gone={*gone} - {*columns["row_id"]})

    def _damaged(self, reason: str) -> DamageError:
        from cmt.bank.tables import how_to_refill

        uri = self.connection.uri
        return DamageError(f"the ledger in {uri} is damaged ({reason}): {how_to_refill(uri)}")

    def _read(self, name: str, condition: "Expr | None" = None) -> pa.Table:
        """The rows of a table that meet `condition` (None: all). Raises DamageError if its columns
        are not its own.
        """
        from cmt.bank.tables import read_all

        with self._translate_errors("read"):
            self._tables[name].checkout_latest()  # type: ignore[no-untyped-call]
            rows = read_all(self._tables[name], condition)
        if missing := {*self.SCHEMAS[name].names} - {*rows.column_names}:
            raise self._damaged(f"the table {name} has no column {min(missing)}")
        return rows

    def _upsert(
        self, name: str, columns: dict[str, list[str]], *, gone: Collection[str] = ()
    ) -> None:
        from cmt.bank.tables import merge_and_read

        rows, key = pa.table(columns, schema=self.SCHEMAS[name]), self.SCHEMAS[name].names[0]
        with self._writing():
            merge_and_read(self._tables[name], rows, key=key, gone=gone)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._translate_errors("written", "check free space and rights, then repeat"):
            if self._check_lease:
                self._check_lease()
            yield

    @contextmanager
    def _translate_errors(self, action: str, *advice: str) -> Iterator[None]:
        from cmt.bank.tables import translate_errors

        with translate_errors(f"the ledger in {self.connection.uri} cannot be {action}", *advice):
            yield


def _one_of(column: str, values: Iterable[str]) -> "Expr":
    from cmt.bank.tables import one_of

    return one_of(column, values)


def _naming(doc_ids: Collection[str]) -> "Expr":
    """The condition that a change names one of `doc_ids`."""
    return _one_of("old_doc_id", doc_ids) | _one_of("new_doc_id", doc_ids)


def _key(name: str, compressor: str) -> str:
    """The key of a row: a round or change of one compressor."""
    return f"{name}@{compressor[:12]}"


def _change_row(change: Change) -> dict[str, str]:
    """The columns of a change beside its record."""
    return {
        "row_id": _key(change.id, change.compressor),
        "change_id": change.id,
        "round_id": _key(change.round_id, change.compressor),
        "old_doc_id": change.old.doc_id,
        "new_doc_id": change.new.doc_id,
    }


def flat_scores(scores: ScoresBySystem) -> dict[str, float | None]:
    """Scores in the form that is stored: {"f1": …} for the memory, {"closed_f1": …} for the system
    `closed`.
    """
    return {
        name if system == MEMORY else f"{system}_{name}": value
        for system, values in scores.items()
        for name, value in values.items()
    }


def nested_scores(flat: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    """The inverse of `flat_scores`. A key that ends with no name of SCORE_NAMES is kept whole under
    the memory.
    """
    scores: dict[str, dict[str, float | None]] = {}
    for key, value in flat.items():
        system, name = MEMORY, key
        if key not in SCORE_NAMES:
            for suffix in SCORE_NAMES:
                if key.endswith(f"_{suffix}"):
                    system, name = key.removesuffix(f"_{suffix}"), suffix
        scores.setdefault(system, {})[name] = value
    return scores


def check_uninterrupted(rounds: Sequence[Round], operation: str) -> None:
    """Raise RoundError if a round or rollback was interrupted: its recovery needs a version that
    `operation` drops.
    """
    for round_ in rounds:
        if round_.state in ("started", "rolling_back"):
            what = "round" if round_.state == "started" else "rollback of round"
            raise RoundError(
                f"the {what} {round_.round_id} of compressor {round_.compressor[:12]} was interrupted: "
                f"run `cmt update` with that compressor before {operation}"
            )


def contradiction(
    rounds: Sequence[Round], *, version: int, rows: int, idle: bool = False
) -> str | None:
    """How a bank with `rows` rows at `version` contradicts the committed ones of `rounds`; None if
    it does not.

    `rounds` are those of its compressor. Every change makes a version, so none that the ledger
    names may be missing. `idle`: no round is running and no document was forgotten, so later
    versions have the same number of rows.
    """
    committed = [round_ for round_ in rounds if round_.state == "committed"]
    newest = max(committed, key=lambda round_: round_.version_after or 0, default=None)
    if newest is None or newest.version_after is None:
        return None
    if version < newest.version_after:
        return f"is at version {version}, but round {newest.round_id} left version {newest.version_after}"
    if rows != newest.rows and (idle or version == newest.version_after):
        return f"has {rows:,} rows, but round {newest.round_id} left {newest.rows:,}"
    return None
