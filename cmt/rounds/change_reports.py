"""Inferred changes as people see them: with the values that their documents state, and how to reject them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cmt.bank.bank import Bank
from cmt.bank.changes import Change, ChangeState
from cmt.bank.schema import memory_id
from cmt.errors import RoundError, UnknownDocumentError
from cmt.resources import Resources
from cmt.rounds.recovery import updating


@dataclass(frozen=True)
class ChangeReport:
    """A change with its values."""

    change: Change
    old_value: str | None
    """None if the bank keeps no text, or has another text than the round read."""
    new_value: str | None

    @property
    def values(self) -> str:
        """Old and new value, such as "8 crowns → 9 crowns"."""
        return " → ".join(value or "(unknown)" for value in (self.old_value, self.new_value))

    def to_json(self) -> dict[str, Any]:
        """The change with its id, and each span with its value."""
        change, values = self.change, asdict(self.change)
        values["old"]["value"], values["new"]["value"] = self.old_value, self.new_value
        return {"id": change.id} | values


def describe(resources: Resources, doc_ids: Collection[str] = ()) -> list[ChangeReport]:
    """The changes that committed rounds found, of `doc_ids` or of all documents, by the date of the new value.

    The values are read from the bank that answers. Raises BankError if it cannot be read, and UnknownDocumentError if
    it lacks one of `doc_ids`.
    """
    changes = resources.changes(doc_ids or None)
    named = {doc_id for change in changes for doc_id in change.doc_ids}
    unnamed = {*doc_ids} - named
    if unnamed and (unknown := sorted(unnamed - resources.open_bank().present(unnamed))):
        raise UnknownDocumentError(f"document {unknown[0]!r} is not in bank {resources.params.bank.uri}")
    return with_values(resources.open_bank(), changes) if changes else []


def with_values(bank: Bank, changes: Sequence[Change]) -> list[ChangeReport]:
    """`changes` with the values that `bank` has for their spans."""
    spans = {span for change in changes for span in (change.old, change.new)}
    names = {memory_id(span.doc_id, span.chunk, version) for span in spans for version in (None, span.published_at)}
    rows_of = defaultdict(list)
    for row in bank.rows(["memory_id", "doc_id", "text"], names).to_pylist():
        if row["doc_id"] not in bank.excluded_doc_ids:
            rows_of[row["doc_id"]].append(row)
    values = {span: value for span in spans for row in rows_of[span.doc_id] if (value := span.read(row)) is not None}
    return [ChangeReport(change, values.get(change.old), values.get(change.new)) for change in changes]


def set_states(resources: Resources, *, reject: Collection[str] = (), restore: Collection[str] = ()) -> None:
    """Reject changes, and restore rejected ones, by id, in one commit; waits for a running round.

    Raises RoundError if an id is unknown or in both lists; nothing is changed then.
    """
    if both := sorted({*reject} & {*restore}):
        raise RoundError(f"change {both[0]!r} is to be rejected and restored: nothing was changed")
    states: dict[str, ChangeState] = {change_id: "rejected" for change_id in reject}
    states |= {change_id: "found" for change_id in restore}
    with updating(resources):
        resources.ledger.set_change_states(states)
