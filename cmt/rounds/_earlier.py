"""What a round takes from the rounds before it: canaries, answers, calibration, past documents."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from cmt.bank.rounds import CANARIES, Round, round_folder
from cmt.common.arrow import rows_with, rows_without
from cmt.evaluation.calibration import calibrated_by
from cmt.evaluation.evaluate import RECORD_SCHEMA
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.gate.storage import read_canaries
from cmt.evaluation.round_records import read_records
from cmt.project import Project
from cmt.stream.slices import Slice, read_rows


class EarlierRounds:
    """The rounds of the bank that the round of `slice_` changes, as far as it needs them."""

    def __init__(self, project: Project, slice_: Slice) -> None:
        self._project, self._slice = project, slice_

    def of_this_bank(self) -> list[Round]:
        """The rounds of this compressor and row format, sorted by number."""
        row_format = self._project.row_format  # read once: it may need the codebook
        rounds = self._project.history.rounds()
        return [round_ for round_ in rounds if round_.row_format == row_format]

    def committed(self) -> list[Round]:
        """Those of them that are committed."""
        return [round_ for round_ in self.of_this_bank() if round_.state == "committed"]

    def canaries(self, started: Round) -> tuple[list[Canary], list[str]]:
        """The canaries that the last committed round kept, and the ids of the committed slices from
        which no canary was chosen yet.

        If no canaries were kept, these are all committed slices. A canary has its best and its last
        outcome. The round `started` does not reuse a last outcome that was computed with other
        parameters than its own.
        """
        committed = self.committed()
        # 1. What the round before kept.
        kept, is_alike = None, False
        if committed:
            folder = round_folder(self._project.state, committed[-1].slice_id)
            kept = read_canaries(folder / CANARIES)
            is_alike = _answers_alike(committed[-1], started)
        canaries = [_asked_anew(each, keep_selection=is_alike) for each in kept or () if each.best]
        # 2. The slices that no canary was drawn from.
        unseen = committed if kept is None else committed[-1:]
        slice_ids = {slice_.slice_id for slice_ in self._project.store.slices()}
        return canaries, [round_.slice_id for round_ in unseen if round_.slice_id in slice_ids]

    def answers(self, started: Round) -> pa.Table:
        """The answers of the round before (RECORD_SCHEMA); empty if the round `started` may give
        others.
        """
        committed = self.committed()
        if committed and _answers_alike(committed[-1], started):
            records = read_records(self._project, committed[-1])
            if records is not None:
                return records
        return RECORD_SCHEMA.empty_table()

    def left_out(self) -> list[Slice]:
        """The slices whose rounds were refused or set documents aside, by period."""
        names = set()
        for round_ in self.of_this_bank():
            if round_.state == "refused" or round_.set_aside:
                names.add(round_.round_id)
        return [slice_ for slice_ in self._project.store.slices() if slice_.slice_id in names]

    def past_documents(self, sources: Collection[str]) -> dict[str, list[tuple[int, str]]]:
        """The documents of `sources` in the committed slices before this one, see
        `independence.PastDocuments`.
        """
        set_aside = {round_.round_id: round_.set_aside for round_ in self.committed()}
        documents: dict[str, list[tuple[int, str]]] = {source: [] for source in sources}
        slices = self._project.store.slices()
        for number, slice_ in enumerate(slices[: slices.index(self._slice)]):
            if slice_.slice_id not in set_aside:
                continue
            rows = read_rows(slice_, "documents", columns=("doc_id", "source"))
            rows = rows_with(rows, "source", sources)
            for row in rows_without(rows, "doc_id", set_aside[slice_.slice_id]).to_pylist():
                documents[row["source"]].append((number, row["doc_id"]))
        return documents


def calibration_by(project: Project, rounds: Sequence[Round]) -> dict[str, float]:
    """The calibration by the answers of the committed ones of `rounds`, see `Round.calibration`."""
    if not project.answerer.confidence_is_probability:
        return {}
    calibration, answers = calibrated_by(_records(project, rounds))
    if not answers:
        return {}
    return {"slope": calibration.slope, "shift": calibration.shift, "answers": answers}


def _records(project: Project, rounds: Sequence[Round]) -> Iterator[pa.Table]:
    """The answers of the committed ones of `rounds`, the latest first, as far as they are read."""
    for round_ in reversed(rounds):
        if round_.state == "committed":
            records = read_records(project, round_)
            if records is not None:
                yield records


def _answers_alike(one: Round, other: Round) -> bool:
    """Whether two rounds give the same answer from the same memories."""
    return (one.params_digest, one.dtype) == (other.params_digest, other.dtype)


def _asked_anew(canary: Canary, *, keep_selection: bool) -> Canary:
    """`canary` without what the round before found out about its slice."""
    return replace(
        canary,
        fixed=False,
        selection=canary.selection if keep_selection else None,
        before=None,
        harmed_by=(),
        set_aside=(),
        flipped=None,
        updated_by=None,
    )
