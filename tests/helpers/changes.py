"""Inferred changes, as a round would find them, between documents of a bank."""

from cmt.bank.changes import Change, ValueSpan
from cmt.bank.memory_ids import memory_id
from cmt.rounds import recovery
from cmt.workspace import Workspace

MOSS, VELL = ("mayor-1", "Moss"), ("mayor-2", "Vell")
"""Documents of the tiny project and their values of one statement."""


def find(workspace: Workspace, old: tuple[str, str] = MOSS, new: tuple[str, str] = VELL) -> Change:
    """The change between two documents of the bank, each given with the value that its first memory
    has.
    """
    spans = []
    for doc_id, value in (old, new):
        columns = ["memory_id", "doc_id", "published_at", "text"]
        [row] = workspace.project.bank.rows(columns, {memory_id(doc_id, 0)}).to_pylist()
        first = row["text"].rindex(value)
        spans.append(ValueSpan.of(row, first, first + len(value)))
    return Change(spans[0], spans[1], holds_from=spans[1].published_at, confidence=0.93)


def record(workspace: Workspace, round_id: str, *changes: Change) -> None:
    """Write `changes` as found by the round, under the lock."""
    with recovery.updating(workspace.project):
        write(workspace, round_id, *changes)


def write(workspace: Workspace, round_id: str, *changes: Change) -> None:
    """Write `changes` as found by the round."""
    round_ = next(round_ for round_ in workspace.rounds() if round_.round_id == round_id)
    workspace.project.ledger.write_changes(round_.round_id, round_.compressor, changes)
