"""The files by which the steps of a round pass their results on, also to another process."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cmt.bank.rounds import ANSWERS, CANARIES
from cmt.bank.schema import RowsDigest
from cmt.common.storage import read_checked_table, write_checked_table, write_json
from cmt.common.systems import ScoresBySystem
from cmt.errors import RoundError
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.gate.storage import read_canaries, write_canaries

_SECONDS, _SCORES, _SET_ASIDE = "seconds.json", "scores.json", "set_aside.json"


class RoundFiles:
    """The files in the folder of a round. Each write is atomic. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Remove the files of earlier attempts, except the staged memories."""
        for name in (_SECONDS, _SCORES, ANSWERS, CANARIES, _SET_ASIDE):
            (self.folder / name).unlink(missing_ok=True)

    def remove_staged(self) -> None:
        """Remove the staged memories."""
        for staged in self.folder.glob("memories-*"):
            staged.unlink()

    # Seconds of each stage, and the speed of the compression

    @property
    def seconds(self) -> dict[str, float]:
        """What was noted, by its name."""
        seconds: dict[str, float] = self._read(_SECONDS, {})
        return seconds

    def note(self, **values: float) -> None:
        """Note seconds of stages, or the speed of the compression."""
        write_json(self.folder / _SECONDS, self.seconds | values)

    # Documents that the gate left out

    @property
    def set_aside(self) -> list[str]:
        """The doc_ids of the documents of the slice that stay out of the bank."""
        doc_ids: list[str] = self._read(_SET_ASIDE, [])
        return doc_ids

    @set_aside.setter
    def set_aside(self, doc_ids: Collection[str]) -> None:
        if doc_ids:
            write_json(self.folder / _SET_ASIDE, list(doc_ids))
        else:
            (self.folder / _SET_ASIDE).unlink(missing_ok=True)

    # Canaries

    @property
    def canaries(self) -> list[Canary]:
        """The canaries that were chosen. Raises RoundError if their file is missing or damaged."""
        canaries = read_canaries(self.folder / CANARIES)
        if canaries is None:
            raise RoundError(f"{self.folder / CANARIES} was lost during the round: repeat it")
        return canaries

    @canaries.setter
    def canaries(self, canaries: Sequence[Canary]) -> None:
        write_canaries(self.folder / CANARIES, canaries)

    # Scores

    @property
    def scores(self) -> dict[str, Any]:
        """The fields `questions` and `scores` of the round."""
        scores: dict[str, Any] = json.loads((self.folder / _SCORES).read_text())
        return scores

    def write_scores(self, questions: int, scores: ScoresBySystem) -> None:
        """Write the scores of this number of questions."""
        write_json(self.folder / _SCORES, {"questions": questions, "scores": scores})

    def _read(self, name: str, default: Any) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else default


# The staged memories: Parquet with the digest of the rows


def write_staged(path: Path, rows: pa.Table) -> None:
    """Write `rows` (memory_schema) to `path`, atomically. Raises OSError."""
    write_checked_table(path, rows, _digest)


def read_staged(path: Path) -> pa.Table | None:
    """The rows that `write_staged` wrote to `path`; None if there is no such file.

    A file that cannot be read, or whose rows do not match their digest, is removed with a warning.
    """
    rows = read_checked_table(path, _digest, remedy="its documents are compressed again")
    if rows is None:
        path.unlink(missing_ok=True)
    return rows


def _digest(rows: pa.Table) -> str:
    return str(RowsDigest.of(rows))
