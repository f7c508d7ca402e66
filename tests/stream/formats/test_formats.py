"""Files that people have, as they are, and what `cmt ingest` takes from each; `expected.json` says
what.

Of each input: `documents` and `rejected` are numbers or [least, most]; a document of `taken` holds
the phrases of `contains`, and on one line the words of each of `lines`, and has one of the values
of `id`, `date`, `title` and `url`; `reasons` and `says` are words of the rejections and of the
report; an `error` has one of the words of `message`.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cmt.common.dates import iso
from cmt.config import StreamParams
from cmt.errors import CmtError
from cmt.stream.admission.ingest import Options, ingest
from cmt.stream.admission.report import IngestReport
from cmt.stream.slices import read_rows
from cmt.stream.store import SliceStore

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
NOW = datetime.fromisoformat("2026-11-26T12:00:00+00:00")
NOTHING = (
    "empty|no document|no row|no item|no entr|no article|nothing|no text|no message|no record|no"
    " page|no file"
)
"""Words of the message about an input without documents, written `@nothing` in expected.json."""
KEYS = {
    "id": "doc_id",
    "date": "published_at",
    "title": "title",
    "url": "url",
    "supersedes": "supersedes",
}


def within(number: int, allowed: Any) -> bool:
    least, most = allowed if isinstance(allowed, list) else (allowed, allowed)
    return bool(least <= number <= most)


def any_of(words: list[str], text: str) -> bool:
    return any(
        word in text.lower()
        for name in words
        for word in (NOTHING.split("|") if name == "@nothing" else [name])
    )


def run(name: str, args: dict[str, Any], store: SliceStore) -> IngestReport:
    """Ingest an input with the settings that a user gives."""
    given: dict[str, Any] = {key: args[key] for key in ("day_first", "timezone") if key in args}
    return ingest(
        store,
        HERE / "samples" / name,
        options=Options(StreamParams(**given), now=NOW),
        columns=args.get("map"),
        published_at=args.get("published_at"),
        file_format=args.get("format"),
    )


def said(report: IngestReport) -> str:
    """What the report prints."""
    reasons = [reason for kind, _, row in report.reasons() for reason in (kind, row.reason)]
    return "\n".join([report.summary(), report.matched, *report.notices, *reasons]).lower()


def check_document(document: dict[str, Any], expected: dict[str, Any]) -> None:
    text = " ".join(document["text"].split())
    for phrase in expected["contains"]:
        assert " ".join(phrase.split()) in text
    for phrase in expected.get("excludes", ()):
        assert phrase not in document["text"] + (document["title"] or "")
    for words in expected.get("lines", ()):
        assert re.search(".*".join(map(re.escape, words)), document["text"])
    found = document | {"published_at": iso(document["published_at"].replace(microsecond=0))}
    for key, column in KEYS.items():
        if key in expected:
            allowed = expected[key] if isinstance(expected[key], list) else [expected[key]]
            assert found[column] in allowed, column


@pytest.mark.parametrize("name", EXPECTED)
def test_an_input_gives_what_a_careful_user_expects(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = EXPECTED[name]
    monkeypatch.chdir(tmp_path)
    store = SliceStore(tmp_path / "stream", tmp_path / "quarantine")
    try:
        report = run(name, expected["args"], store)
    except CmtError as error:
        assert expected["error"], str(error)
        assert any_of(expected["message"], str(error)), str(error)
        for words in expected.get("says", ()):
            assert any_of(words, str(error)), str(error)
        return
    assert expected["error"] in (False, "either"), report
    # 1. the counts
    documents = [
        row for slice_ in store.slices() for row in read_rows(slice_, "documents").to_pylist()
    ]
    doc_ids = {document["doc_id"] for document in documents}
    assert within(len(doc_ids), expected["documents"]), said(report)
    assert report.waiting == expected.get("waiting", 0)
    if "questions" in expected:
        assert within(report.questions, expected["questions"])
    if expected["rejected"] is not None:
        assert within(len(report.rejected), expected["rejected"]), report.rejected
    # 2. the documents
    for one in expected["taken"]:
        found = [
            row
            for row in documents
            if " ".join(one["contains"][0].split()) in " ".join(row["text"].split())
        ]
        assert len({row["doc_id"] for row in found}) == 1, one["contains"][0]
        check_document(found[0], one)
    for phrase in expected.get("excludes_all", ()):
        assert not any(phrase in row["text"] + (row["title"] or "") for row in documents), phrase
    # 3. the report
    for reason in expected.get("reasons", ()):
        assert (
            sum(any_of(reason["any"], row.reason) for row in report.rejected) >= reason["count"]
        ), report.rejected
    for words in expected.get("says", ()):
        assert any_of(words, said(report)), said(report)
    for file in expected.get("must_not_exist", ()):
        assert not list(tmp_path.rglob(file))
