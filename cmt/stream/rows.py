"""The rows of an ingest: collected from the records of its sources, then validated one by one."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.common.arrow import replace_column, take
from cmt.errors import StreamError
from cmt.stream._unnamed_columns import Others, named
from cmt.stream.columns import Columns, Record
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers._squad import RELEASED_AT
from cmt.stream.readers.detection import records
from cmt.stream.schema import (
    DOCUMENT_SCHEMA,
    QUESTION_SCHEMA,
    RAW_LENGTH,
    Checks,
    EarlyError,
    Rejected,
    is_blank,
    raw_text,
    validate_document,
    validate_question,
)

UNPUBLISHED = "contains only drafts and other unpublished documents; publish one first"


class RawRow(NamedTuple):
    """One row of a source with the columns of the schema, not validated yet."""

    file: str
    row: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RawRows:
    """Rows that are not validated yet."""

    documents: list[RawRow] = field(default_factory=list)
    questions: list[RawRow] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    digest: str = ""


@dataclass(frozen=True)
class ValidatedRows:
    """The valid documents or questions, and the rejected ones."""

    table: pa.Table
    origins: list[RawRow]
    rejected: list[Rejected]

    def without(self, reasons: Mapping[int, str]) -> "ValidatedRows":
        """Reject the rows in `reasons` (row → why)."""
        if not reasons:
            return self
        kept = [row for row in range(self.table.num_rows) if row not in reasons]
        rejected = [reject(self.origins[row], reason) for row, reason in reasons.items()]
        return ValidatedRows(
            take(self.table, kept), [self.origins[row] for row in kept], self.rejected + rejected
        )

    def with_column(self, name: str, values: Sequence[Any]) -> "ValidatedRows":
        """The rows with `values` (n,) in the column `name`."""
        return replace(self, table=replace_column(self.table, name, values))


def read(path: Path, *, file_format: str | None = None, limits: Limits = DEFAULT_LIMITS) -> RawRows:
    """The rows of the file or folder `path`. Raises StreamError if it has none, ConfigError for an
    unknown format.
    """
    raw = collect(records(path, format=file_format, limits=limits), Columns())
    if not (raw.documents or raw.questions):
        problem = (
            f"has no row that can be read: {raw.rejected[0].reason}"
            if raw.rejected
            else UNPUBLISHED
        )
        raise StreamError(f"{path} {problem}")
    return raw


def collect(
    found: Iterable[Record], columns: Columns, *, published_at: str | None = None
) -> RawRows:
    """The rows of `found` by the columns of the schema. `published_at`: the date of rows without
    one, and of SQuAD.
    """
    documents, questions, rejected = list[RawRow](), list[RawRow](), list[Rejected]()
    others, digest = list[Others](), hashlib.sha256()
    for fields, where, error, left_out, is_row in found:
        digest.update(f"{fields}{error or ''}".encode("utf-8", "backslashreplace"))
        file, found_number, number = where.rpartition(" row ")
        file, row = (file, int(number)) if found_number and number.isdecimal() else (where, 1)
        if error:
            rejected.append(Rejected(file, row, error, str(fields.get("raw", ""))[:RAW_LENGTH]))
            continue
        if left_out and not fields:
            continue
        try:
            kind, values, of_row = columns.match(fields, is_row=is_row)
        except ValueError as problem:
            rejected.append(Rejected(file, row, str(problem), raw_text(fields)))
            continue
        column = "published_at" if kind == "document" else "asked_at"
        value = values.get(column)
        if published_at and (is_blank(value) or value is RELEASED_AT):
            values = {**values, column: published_at}
        if kind == "document":
            documents.append(RawRow(file, row, values))
            others.append(of_row)
        else:
            questions.append(RawRow(file, row, values))
    documents = _with_others(documents, others, columns)
    return RawRows(documents, questions, rejected, digest.hexdigest())


def _with_others(
    documents: list[RawRow], others: Sequence[Others], columns: Columns
) -> list[RawRow]:
    """The documents of each file with the ids and lines of their columns without a role."""
    result = list[RawRow]()
    pairs = zip(documents, others, strict=True)
    for _, rows in groupby(pairs, key=lambda pair: pair[0].file):
        part = list(rows)
        values, id_column, apart = named([(row.values, of_row) for row, of_row in part])
        columns.note(len(part), id_column, apart)
        for (row, _), given in zip(part, values, strict=True):
            result.append(row._replace(values=given))
    return result


def concat(parts: Sequence[ValidatedRows]) -> ValidatedRows:
    """The rows of all `parts`, at least one."""
    return ValidatedRows(
        pa.concat_tables(part.table for part in parts),
        [origin for part in parts for origin in part.origins],
        [row for part in parts for row in part.rejected],
    )


def validate_rows(raw: RawRows, checks: Checks) -> tuple[ValidatedRows, ValidatedRows]:
    """Validate each row of `raw` by itself; return documents and questions."""
    of_documents = raw.documents, validate_document, DOCUMENT_SCHEMA
    of_questions = raw.questions, validate_question, QUESTION_SCHEMA
    parts = list[ValidatedRows]()
    for rows, validate, schema in (of_documents, of_questions):
        accepted, origins, rejected = list[dict[str, Any]](), list[RawRow](), list[Rejected]()
        for row in rows:
            try:
                accepted.append(validate(row.values, checks))
                origins.append(row)
            except ValueError as error:
                early = row.values if isinstance(error, EarlyError) else None
                rejected.append(replace(reject(row, str(error)), early=early))
        parts.append(
            ValidatedRows(pa.Table.from_pylist(accepted, schema=schema), origins, rejected)
        )
    return parts[0], parts[1]


def reject(origin: RawRow, reason: str) -> Rejected:
    """The rejection of the row `origin`."""
    return Rejected(origin.file, origin.row, reason, raw_text(origin.values))
