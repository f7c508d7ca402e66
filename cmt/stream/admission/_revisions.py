"""The dates of texts that were changed in place."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from operator import attrgetter

from cmt.stream.columns import MODIFIED_AT
from cmt.stream.rows import ValidatedRows
from cmt.text.date_formats import DateReader
from cmt.timeline import Version


def dated_by_change(
    documents: ValidatedRows,
    find: Callable[[Collection[str], Collection[str]], Iterable[Version]],
    *,
    dates: DateReader,
    now: datetime,
) -> ValidatedRows:
    """`documents`, of which a known one with another text holds from the date on which its source
    says that it changed, if that is after its own date; so earlier dates keep the earlier text.

    `find`: the stored versions of doc_ids. A first version keeps its own date.
    """
    doc_ids, hashes = (documents.table[name].to_pylist() for name in ("doc_id", "sha256"))
    published = documents.table["published_at"].to_pylist()
    changed = {
        row: date
        for row, origin in enumerate(documents.origins)
        if (date := _read(origin.values.get(MODIFIED_AT), dates)) and published[row] < date <= now
    }
    if not changed:
        return documents
    stored = sorted(find({doc_ids[row] for row in changed}, ()), key=attrgetter("order"))
    latest = {version.doc_id: version for version in stored}
    versions = {(version.doc_id, version.published_at, version.sha256) for version in stored}
    for row, date in changed.items():
        version = latest.get(doc_ids[row])
        is_new = (doc_ids[row], published[row], hashes[row]) not in versions
        returns = version and version.sha256 != hashes[row] and version.published_at < date
        if version and (is_new or returns):
            published[row] = date
    return documents.with_column("published_at", published)


def _read(value: object, dates: DateReader) -> datetime | None:
    try:
        return dates.read(value).start if value else None
    except ValueError:
        return None
