"""Who published a document, and the doc_id by which the stream knows it.

A row names its doc_id, or gets one of its address, or else of its text (`validate_document`). What
depends on the publisher and on other documents is decided here, before any row is admitted.
"""

from operator import attrgetter

from cmt.common.arrow import rows_of
from cmt.common.digests import sha256_hex
from cmt.stream._urls import url_identity
from cmt.stream.admission.authority import series
from cmt.stream.rows import ValidatedRows
from cmt.stream.schema import normalise
from cmt.text.display import FILE_PREFIX
from cmt.timeline import Find


def publisher_of(claimed: str | None, *, named: str | None, origin: str, trusted: bool) -> str:
    """The publisher of a row of the file or folder `origin`: the one that the ingest `named`; or,
    if the file is `trusted`, the `claimed` one of its column `source`, unless that begins with
    `file:`; or else `file:` and `origin`.
    """
    if named or (trusted and claimed and not claimed.startswith(FILE_PREFIX)):
        return named or str(claimed)
    return FILE_PREFIX + (normalise(origin) or "/")


def split_ids(
    documents: ValidatedRows, questions: ValidatedRows, find: Find
) -> tuple[ValidatedRows, ValidatedRows]:
    """Give a document with the doc_id of its text one of publisher and text, if another publisher
    has the same text. `find`: finds the versions of the store. Files of one `series` have one
    publisher.
    """
    rows = list(rows_of(documents.table, "doc_id", "source", "sha256"))
    by_text = {doc_id for doc_id, _, sha256 in rows if doc_id == sha256[:16]}
    if not by_text:
        return documents, questions
    # 1. the first publisher of each text
    publishers = dict[str, str | None]()
    for version in sorted(find(by_text, ()), key=attrgetter("order")):
        publishers.setdefault(version.doc_id, series(version.source))
    # 2. another doc_id for the documents of other publishers
    renamed, doc_ids = dict[str, str](), list[str]()
    for doc_id, publisher, sha256 in rows:
        by_its_text, own = doc_id == sha256[:16], series(publisher)
        if by_its_text and publishers.setdefault(doc_id, own) != own:
            renamed[doc_id] = doc_id = sha256_hex(publisher, sha256)[:16]
        doc_ids.append(doc_id)
    # 3. the questions about them
    kept, asked = set(doc_ids), list[str]()
    for name in questions.table["doc_id"].to_pylist():
        asked.append(name if name in kept else renamed.get(name, name))
    return documents.with_column("doc_id", doc_ids), questions.with_column("doc_id", asked)


def resolve_addresses(
    documents: ValidatedRows, questions: ValidatedRows, find: Find
) -> tuple[ValidatedRows, ValidatedRows]:
    """Replace each address in `supersedes`, or in a question's doc_id, by the doc_id that documents
    get from it. An address stays if it is itself the id of a document.
    """
    # 1. the links that are addresses, but not in the form of a doc_id
    superseded = documents.table["supersedes"].to_pylist()
    asked = questions.table["doc_id"].to_pylist()
    pages = dict[str, str]()
    for link in {*superseded, *asked} - {None}:
        page = url_identity(link)
        if page and page != link:
            pages[link] = page
    if not pages:
        return documents, questions
    # 2. which of them are known
    known = {*documents.table["doc_id"].to_pylist()}
    known |= {version.doc_id for version in find({*pages, *pages.values()}, ())}
    pages = {link: page for link, page in pages.items() if link not in known and page in known}
    # 3. replace the others
    superseded, asked = (
        [pages.get(link, link) for link in column] for column in (superseded, asked)
    )
    return documents.with_column("supersedes", superseded), questions.with_column("doc_id", asked)
