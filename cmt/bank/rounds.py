"""The rounds: what the ledger keeps of each, and what people read of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from cmt.common.digests import json_checksum
from cmt.common.systems import ScoresBySystem
from cmt.errors import RoundError

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

    def to_record(self) -> str:
        """The round as JSON, with a checksum over its other values.

        Two names are older than the fields: `row_format` is stored as `bank_params`, and the scores
        are stored flat.
        """
        values = asdict(self) | {"scores": flat_scores(self.scores)}
        values["bank_params"] = values.pop("row_format")
        values = json.loads(json.dumps(values))  # tuples become lists, as they are read
        return json.dumps(values | {"checksum": json_checksum(values)})

    @classmethod
    def from_record(cls, record: str) -> "Round":
        """The inverse of `to_record`. Raises ValueError if the record was altered."""
        try:
            values = json.loads(record)
            checksum = values.pop("checksum", None)
            expected = json_checksum(values)
            values["row_format"] = values.pop("bank_params")
            values["scores"] = _nested_scores(values.get("scores", {}))
            values["set_aside"] = tuple(values.get("set_aside", ()))
            round_ = cls(**values)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"a row cannot be read: {error}") from None
        if checksum != expected:
            raise ValueError(f"the row of round {round_.round_id} does not match its checksum")
        return round_


def flat_scores(scores: ScoresBySystem) -> dict[str, float | None]:
    """Scores in the form that is stored: {"f1": …} for the memory, {"closed_f1": …} for the system
    `closed`.
    """
    return {
        name if system == MEMORY else f"{system}_{name}": value
        for system, values in scores.items()
        for name, value in values.items()
    }


def check_uninterrupted(rounds: Sequence[Round], operation: str) -> None:
    """Raise RoundError if a round or rollback was interrupted: its recovery needs a version that
    `operation` drops.
    """
    for round_ in rounds:
        if round_.state in ("started", "rolling_back"):
            what = "round" if round_.state == "started" else "rollback of round"
            raise RoundError(
                f"the {what} {round_.round_id} of compressor {round_.compressor[:12]} was "
                f"interrupted: run `cmt update` with that compressor before {operation}"
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
        left = newest.version_after
        return f"is at version {version}, but round {newest.round_id} left version {left}"
    if rows != newest.rows and (idle or version == newest.version_after):
        return f"has {rows:,} rows, but round {newest.round_id} left {newest.rows:,}"
    return None


def _nested_scores(flat: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    """The inverse of `flat_scores`. A key that ends with no name of SCORE_NAMES is kept whole under
    the memory.
    """
    scores: dict[str, dict[str, float | None]] = {}
    for key, value in flat.items():
        system, name = MEMORY, key
        for suffix in SCORE_NAMES if key not in SCORE_NAMES else ():
            if key.endswith(f"_{suffix}"):
                system, name = key.removesuffix(f"_{suffix}"), suffix
        scores.setdefault(system, {})[name] = value
    return scores
