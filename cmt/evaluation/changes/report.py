"""Inferred changes as people see them: with the values that their documents state."""

from collections.abc import Collection

from cmt.bank.change_values import ChangeReport, with_values
from cmt.errors import UnknownDocumentError
from cmt.project import Project


def describe(project: Project, doc_ids: Collection[str] = ()) -> list[ChangeReport]:
    """The changes that committed rounds found, of `doc_ids` or of all documents, by the date of the
    new value.

    The values are read from the bank that answers. Raises BankError if it cannot be read, and
    UnknownDocumentError if it lacks one of `doc_ids`.
    """
    changes = project.history.changes(doc_ids or None)
    named = {doc_id for change in changes for doc_id in change.doc_ids}
    unnamed = {*doc_ids} - named
    if unnamed and (unknown := sorted(unnamed - project.active.stored().present(unnamed))):
        raise UnknownDocumentError(
            f"document {unknown[0]!r} is not in bank {project.params.bank.uri}"
        )
    return with_values(project.active.stored(), changes) if changes else []
