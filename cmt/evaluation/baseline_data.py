"""The data that the systems of a comparison share: a bank, its documents, and questions about
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.common.arrow import rows_with
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import git_commit
from cmt.errors import StreamError
from cmt.evaluation.sampling import sample_by_hash
from cmt.project import Project


@dataclass(frozen=True)
class ComparisonData:
    """A bank with its answerer, its documents, and questions about them."""

    answerer: Answerer
    memories: pa.Table  # all rows of the bank
    documents: pa.Table  # DOCUMENT_SCHEMA; the banked documents
    # QUESTION_SCHEMA; questions about banked documents, each asked as of its own date
    asked: pa.Table
    seconds: Mapping[str, float]  # stage → wall-clock seconds, summed over all committed rounds
    lineage: Mapping[str, Any]  # the inputs of the comparison, as `bank_lineage` returns them
    progress: Progress

    @classmethod
    def of(
        cls, project: Project, *, limit: int, progress: Progress | None = None
    ) -> "ComparisonData":
        """The bank of `project`, and at most `limit` questions about its documents.

        Raises BankError without a bank and StreamError without questions.
        """
        # 1. the bank, and the seconds of its rounds
        project.active.bank()
        bank = project.answerer.bank
        memories = bank.rows(bank.schema.names).cast(bank.schema)
        seconds: dict[str, float] = {}
        for round_ in project.history.rounds():
            if round_.state == "committed":
                for stage, stage_seconds in round_.seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + stage_seconds
        # 2. the questions
        asked = rows_with(project.store.all_questions(), "doc_id", memories["doc_id"])
        if not asked.num_rows:
            raise StreamError(
                "the stream has no question about a banked document: run `cmt ingest` and "
                "`cmt update`"
            )
        return cls(
            answerer=project.answerer,
            memories=memories,
            documents=rows_with(project.store.all_documents(), "doc_id", memories["doc_id"]),
            asked=sample_by_hash(asked, limit=limit, seed=project.params.seed),
            seconds=seconds,
            lineage=bank_lineage(project),
            progress=progress or NullProgress(),
        )

    @cached_property
    def questions(self) -> list[str]:
        """The texts of `asked`."""
        return self.asked["question"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def as_of(self) -> list[datetime]:
        """The dates of `asked`."""
        return self.asked["asked_at"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def gold_documents(self) -> list[str]:
        """The doc_ids of `asked`."""
        return self.asked["doc_id"].to_pylist()  # type: ignore[no-any-return]

    def spent(self, *stages: str) -> float | None:
        """Seconds of the rounds in `stages`; None if one of them was not recorded."""
        return (
            sum(self.seconds[stage] for stage in stages)
            if set(stages) <= self.seconds.keys()
            else None
        )


def bank_lineage(project: Project) -> dict[str, Any]:
    """The inputs of a measurement on the bank: digests of slices, compressor, LM, params and bank,
    and the commit.
    """
    return {
        "slices": {slice_.slice_id: slice_.digest for slice_ in project.store.slices()},
        "compressor": project.model.digest,
        "lm": project.lm.digest,
        "params": project.params.digest("seed", "selection", "answering", "bank"),
        "bank": project.bank.digest(),
        "git_commit": git_commit(project.root),
    }
