"""The rounds of the report: their records in the ledger, and the scores of each system on their
questions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cmt.bank.rounds import Round
from cmt.common.difference import Difference
from cmt.common.systems import ScoresBySystem
from cmt.evaluation.metrics import paired_bootstrap
from cmt.evaluation.round_records import is_own, read_records
from cmt.project import Project
from cmt.stream.slices import Slice

# maximum number of rounds shown, so that the page stays small for any length of the stream
LATEST = 200


@dataclass(frozen=True)
class SystemSummary:
    """The scores of one system on the questions of a round."""

    name: str
    scores: Mapping[str, float | None]  # SCORE_NAMES, as the round recorded them
    # F1 of the memory minus F1 of this system, paired by question; None for the memory
    behind: Difference | None


@dataclass(frozen=True)
class Entry:
    """One round of the report."""

    round: Round
    questions: int | None = None  # of its slice; None if the slice is no longer in the store
    # documents of its slice that supersede another one; None as above
    superseding: int | None = None
    own: Mapping[str, float] = field(
        default_factory=dict
    )  # system → F1 (0–100) on the slice's own questions, if asked
    earlier: Mapping[str, float] = field(
        default_factory=dict
    )  # the same on the sample of earlier questions
    asked: int = 0  # number of questions of its evaluation; 0 without records

    @property
    def anchor(self) -> str:
        """HTML id of the round's lineage."""
        return f"round-{self.round.round_id.replace('/', '-')}"

    @property
    def gain(self) -> float | None:
        """F1 of the memory minus F1 of the LM without it, on the questions of the slice itself;
        None if either is absent.
        """
        return (
            self.own["cmt"] - self.own["closed"] if {"cmt", "closed"} <= self.own.keys() else None
        )


def entries(project: Project) -> tuple[list[Entry], int]:
    """The LATEST rounds of the bank's compressor, and the number of earlier ones. Raises BankError
    without a bank.
    """
    compressor = project.active.stored().schema.metadata[b"compressor"].decode()
    rounds = project.ledger.rounds(compressor)
    slices = {slice_.slice_id: slice_ for slice_ in project.store.slices()}
    shown = [_entry(project, round_, slices.get(round_.slice_id)) for round_ in rounds[-LATEST:]]
    return shown, len(rounds) - len(shown)


def systems_in(records: pa.Table) -> list[str]:
    """Names of the systems that answered in `records` (RECORD_SCHEMA), the memory first."""
    scored = [name for name in records.schema.names if name.endswith("_f1")]
    return [
        name.removesuffix("_f1") for name in scored if records[name].null_count < records.num_rows
    ]


def compare(records: pa.Table, *, scores: ScoresBySystem, seed: int) -> list[SystemSummary]:
    """A summary of every system in the `scores` of a round, whose answers are `records`
    (RECORD_SCHEMA).
    """
    f1 = {name: 100 * records[f"{name}_f1"].to_numpy() for name in systems_in(records)}
    documents = records["doc_id"].to_pylist()
    summaries = []
    for name, found in scores.items():
        behind = None
        if name != "cmt":
            behind = paired_bootstrap(f1["cmt"], f1[name], documents, seed=seed)
        summaries.append(SystemSummary(name, found, behind))
    return summaries


def _entry(project: Project, round_: Round, slice_: Slice | None) -> Entry:
    if slice_ is None:
        return Entry(round_)
    documents = project.store.documents(slice_)
    entry = Entry(
        round_, slice_.n_questions, documents.num_rows - documents["supersedes"].null_count
    )
    answered = read_records(project, round_)
    if answered is None:
        return entry
    own = is_own(project, round_, answered)
    new, earlier = _mean_f1(answered.filter(own)), _mean_f1(answered.filter(pc.invert(own)))
    return replace(entry, own=new, earlier=earlier, asked=answered.num_rows)


def _mean_f1(records: pa.Table) -> dict[str, float]:
    """System → mean F1 (0–100); empty without records."""
    if not records.num_rows:
        return {}
    return {
        system: 100 * float(np.mean(records[f"{system}_f1"].to_numpy()))
        for system in systems_in(records)
    }
