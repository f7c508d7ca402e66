"""What the ledger and the records of the rounds tell: what each round added, and what is known of earlier ones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.bank.ledger import Round

if TYPE_CHECKING:
    from cmt.resources import Resources
    from cmt.stream.store import Slice

log = logging.getLogger(__name__)

LATEST = 200
"""Most rounds that are shown: the page has to stay light however long the stream is."""


@dataclass(frozen=True)
class Entry:
    """A round as the report shows it."""

    round: Round
    questions: int | None
    """That its slice brought; None when the slice is no longer in the store."""
    superseding: int | None
    """Documents of its slice that supersede an earlier one."""
    own: Mapping[str, float] = field(default_factory=dict)
    """Way of answering → F1 (0–100) on the questions of its own slice; empty without records."""
    earlier: Mapping[str, float] = field(default_factory=dict)
    """The same on the sample of earlier slices' questions."""

    @property
    def anchor(self) -> str:
        """Where the page has its lineage."""
        return f"round-{self.round.round_id.replace('/', '-')}"

    @property
    def gain(self) -> float | None:
        """What the memory adds to the LM alone on this slice's own questions, in points of F1."""
        return self.own["cmt"] - self.own["closed"] if {"cmt", "closed"} <= self.own.keys() else None


def entries(resources: "Resources") -> tuple[list[Entry], int]:
    """The latest rounds of the bank's compressor, in their order, and how many earlier ones there are.

    BankError when there is no bank.
    """
    compressor = resources.stored_bank.schema.metadata[b"compressor"].decode()
    rounds = resources.ledger.rounds(compressor)
    slices = {slice_.slice_id: slice_ for slice_ in resources.store.slices()}
    shown = [_entry(resources, round_, slices.get(round_.slice_id)) for round_ in rounds[-LATEST:]]
    return shown, len(rounds) - len(shown)


def records(resources: "Resources", round_: Round) -> pa.Table | None:
    """What was answered to each question of a round, or None when that was not kept (here)."""
    path = resources.state / "rounds" / round_.slice_id.replace("/", "-") / "answers.parquet"
    if round_.state not in ("committed", "refused") or not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        log.warning("the records of round %s cannot be read and are left out: %s", round_.round_id, error)
        return None


def ways(found: pa.Table) -> list[str]:
    """The ways of answering in records, the memory first."""
    return [name.removesuffix("_f1") for name in found.schema.names if name.endswith("_f1") and _any(found[name])]


def _entry(resources: "Resources", round_: Round, slice_: "Slice | None") -> Entry:
    if slice_ is None:
        return Entry(round_, None, None)
    documents = resources.store.documents(slice_)
    superseding = documents.num_rows - documents["supersedes"].null_count
    found = records(resources, round_)
    if found is None:
        return Entry(round_, slice_.n_questions, superseding)
    own = pc.is_in(found["question_id"], value_set=resources.store.questions(slice_)["question_id"].combine_chunks())
    return Entry(
        round_,
        slice_.n_questions,
        superseding,
        own=_means(found.filter(own)),
        earlier=_means(found.filter(pc.invert(own))),
    )


def _means(found: pa.Table) -> dict[str, float]:
    return {way: 100 * float(np.mean(found[f"{way}_f1"].to_numpy())) for way in ways(found)} if found.num_rows else {}


def _any(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count < len(column))
