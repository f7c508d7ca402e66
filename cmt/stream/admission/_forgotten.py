"""Refusing forgotten documents and nearly equal texts; the quarantine keeps no content of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cmt.stream.admission._waiting import WaitingRow
from cmt.stream.forgotten import Forgotten
from cmt.stream.rows import ValidatedRows
from cmt.stream.schema import Rejected


def reject_forgotten(
    documents: ValidatedRows, questions: ValidatedRows, forgotten: Forgotten
) -> tuple[ValidatedRows, ValidatedRows]:
    """Reject forgotten documents and the questions about them; the quarantine keeps no content of
    them.
    """
    doc_ids = documents.table["doc_id"].to_pylist()
    refused = forgotten.reasons(documents.table)
    refused_ids = forgotten.doc_ids.union(doc_ids[row] for row in refused)
    about_them = {
        row: f"its document, {name!r}, was forgotten"
        for row, name in enumerate(questions.table["doc_id"].to_pylist())
        if name in refused_ids
    }

    def without(rows: ValidatedRows, reasons: Mapping[int, str]) -> ValidatedRows:
        rest, before = rows.without(reasons), len(rows.rejected)
        refused_now = [replace(row, raw="") for row in rest.rejected[before:]]
        return replace(
            rest, rejected=[*map(forgotten.conceal, rest.rejected[:before]), *refused_now]
        )

    return without(documents, refused), without(questions, about_them)


def reject_waiting(
    waiting: Iterable[WaitingRow], forgotten: Forgotten
) -> tuple[list[WaitingRow], list[Rejected]]:
    """Split `waiting` into the rows that may wait, and rejections of rows of forgotten documents,
    without content.
    """
    rest, rejected = list[WaitingRow](), list[Rejected]()
    for row in waiting:
        doc_id, text = (str(row.values.get(name) or "") for name in ("doc_id", "text"))
        alike = (
            text
            and doc_id not in forgotten.exempt_doc_ids
            and forgotten.nearest(doc_id, text, row.publisher)
        )
        if doc_id in forgotten.doc_ids or alike:
            rejected.append(
                Rejected(
                    row.file, row.row, "its document, or one with nearly its text, was forgotten"
                )
            )
        else:
            rest.append(row)
    return rest, rejected
