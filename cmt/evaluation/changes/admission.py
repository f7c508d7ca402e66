"""Which of the found changes a round records: a change by a source that may change the earlier
document, and a change that two other sources report independently
(`cmt.evaluation._independence`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.evaluation._independence import Claim, PastDocuments, reported_independently
from cmt.evaluation.changes._pairs import Memory
from cmt.stream.admission.authority import Authority
from cmt.text.answers import same_value
from cmt.text.display import without_publisher
from cmt.text.overlap import coverage

SIMILAR = 20  # documents with words of a changed one that may be about the same fact
ABOUT = 0.3  # share of its words from which they are


def admitted(
    changes: Sequence[Change],
    rows: pa.Table,
    bank: Bank,
    *,
    authority: Authority,
    past: PastDocuments,
) -> list[Change]:
    """The `changes` by sources that may change the earlier document, then those that two other
    sources report independently.

    `rows`: the memories of the slice, which hold the later spans.
    """
    # 1. Changes by sources with authority.
    named = {doc_id for change in changes for doc_id in change.doc_ids}
    documents = bank.documents(named).to_pylist()
    source = {row["doc_id"]: row["source"] or "" for row in documents}
    taken, others = list[Change](), list[Change]()
    for change in changes:
        may_change = authority.may_change(source[change.new.doc_id], source[change.old.doc_id])
        (taken if may_change else others).append(change)
    if not others:
        return taken
    # 2. Changes by others, by the document that they change.
    for doc_id, reported in _claims(others, rows, source).items():
        if len({claim.source for _, claim in reported}) > 1:
            about = {doc_id, *_alike(bank, documents, doc_id)}
            taken += _independent(reported, source[doc_id], about, past)
    return taken


def _independent(
    reported: Sequence[tuple[Change, Claim]], owner: str, about: set[str], past: PastDocuments
) -> list[Change]:
    """The changes of one document of `owner` that two sources report independently; `about`: it,
    and the documents on the same fact.
    """
    claims = [claim for _, claim in reported]
    about = about.union(claim.doc_id for claim in claims)
    independent = []
    for change, claim in reported:
        same = [other for other in claims if same_value(claim.value, other.value)]
        if reported_independently(same, owner, about=about, past=past):
            independent.append(change)
    return independent


def _claims(
    changes: Sequence[Change], rows: pa.Table, source: Mapping[str, str]
) -> dict[str, list[tuple[Change, Claim]]]:
    """The changes with the values that their documents state in `rows`, by the document that they
    change.
    """
    memories = defaultdict[str, list[Memory]](list)
    for row in rows.to_pylist():
        memories[row["doc_id"]].append(row)
    claims = defaultdict[str, list[tuple[Change, Claim]]](list)
    for change in changes:
        doc_id = change.new.doc_id
        for row in memories[doc_id]:
            if value := change.new.read(row):
                claim = Claim(doc_id, source[doc_id], without_publisher(row), value)
                claims[change.old.doc_id].append((change, claim))
    return claims


def _alike(bank: Bank, documents: Sequence[Memory], doc_id: str) -> list[str]:
    """The documents that may be about the same fact as `doc_id`, one of `documents`."""
    text = " ".join(without_publisher(row) for row in documents if row["doc_id"] == doc_id)
    similar = bank.full_text(text=text, k=SIMILAR, as_of=None).to_pylist()
    return [row["doc_id"] for row in similar if coverage(text, without_publisher(row)) >= ABOUT]
