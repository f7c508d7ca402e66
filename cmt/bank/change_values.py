"""Inferred changes with the values that the documents in a bank state."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.bank.memory_ids import memory_id


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


def with_values(bank: Bank, changes: Sequence[Change]) -> list[ChangeReport]:
    """`changes` with the values that `bank` has for their spans."""
    spans = {span for change in changes for span in (change.old, change.new)}
    names = {
        memory_id(span.doc_id, span.chunk, version)
        for span in spans
        for version in (None, span.published_at)
    }
    rows_of = defaultdict(list)
    for row in bank.rows(["memory_id", "doc_id", "text"], names).to_pylist():
        if row["doc_id"] not in bank.excluded_doc_ids:
            rows_of[row["doc_id"]].append(row)
    values = {
        span: value
        for span in spans
        for row in rows_of[span.doc_id]
        if (value := span.read(row)) is not None
    }
    return [
        ChangeReport(change, values.get(change.old), values.get(change.new)) for change in changes
    ]
