"""Whether two sources tell the same change independently of each other, judged by their names,
texts and history.

One person can publish under two names. A pair counts as one hand if the names look alike, if one
text copies the other, if a source has no earlier document about anything else, or if both joined
the stream with the same later slice. Two names with a history of their own and texts in different
words pass; nothing here tells them from two real publishers.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.bank.bank import Bank
from cmt.bank.changes import Change
from cmt.stream.admission.authority import Authority
from cmt.text.answers import same_value, words_of
from cmt.text.display import without_publisher
from cmt.text.overlap import coverage
from cmt.text.sentences import SENTENCE_END
from cmt.text.shingles import shingles, words

ALIKE = 0.8  # ratio of common characters (difflib) from which two names look alike
COPIED = 0.5  # share of the shorter text's runs of three words from which it copies the other one
SIMILAR = 20  # documents with words of a changed one that may be about the same fact
ABOUT = 0.3  # share of its words from which they are
_RUN = 3
_ARTICLES = re.compile(r"\b(?:the|a|an|der|die|das|le|la|les|el|il)\b")
_LOOKALIKES = str.maketrans(
    "авеёкмнорстухіјѕԁԛԝαβεηικνορτυχ013458|", "abeekmhopctyxijsdqwabenikvoptuxoleasbl"
)

History = Callable[[Collection[str]], Mapping[str, Sequence[tuple[int, str]]]]
"""Sources → for each the committed documents of earlier slices: number of the slice from 0,
doc_id.
"""


class Report(NamedTuple):
    """A document that tells a change, with the value that the reader finds in it."""

    doc_id: str
    source: str
    text: str
    value: str


def admitted(
    changes: Sequence[Change], rows: pa.Table, bank: Bank, *, authority: Authority, history: History
) -> list[Change]:
    """The `changes` by sources that may change the earlier document, or told independently by two
    others.

    `rows`: the memories of the slice, which hold the later spans.
    """
    documents = bank.documents(
        {doc_id for change in changes for doc_id in change.doc_ids}
    ).to_pylist()
    source = {row["doc_id"]: row["source"] or "" for row in documents}
    taken, others = list[Change](), list[Change]()
    for change in changes:
        own = authority.may_change(source[change.new.doc_id], source[change.old.doc_id])
        (taken if own else others).append(change)
    # 1. Changes by others, by the document that they change.
    memories = defaultdict[str, list[dict[str, Any]]](list)
    for row in rows.to_pylist() if others else ():
        memories[row["doc_id"]].append(row)
    told: dict[str, list[tuple[Change, Report]]] = {}
    for change in others:
        for row in memories[change.new.doc_id]:
            if value := change.new.read(row):
                report = Report(
                    change.new.doc_id, source[change.new.doc_id], without_publisher(row), value
                )
                told.setdefault(change.old.doc_id, []).append((change, report))
    # 2. Those to a value that two sources tell.
    for doc_id, pairs in told.items():
        if len({report.source for _, report in pairs}) < 2:
            continue
        text = " ".join(without_publisher(row) for row in documents if row["doc_id"] == doc_id)
        similar = bank.full_text(text=text, k=SIMILAR, as_of=None).to_pylist()
        about = {
            row["doc_id"] for row in similar if coverage(text, without_publisher(row)) >= ABOUT
        }
        about |= {doc_id, *(report.doc_id for _, report in pairs)}
        for change, report in pairs:
            same = [other for _, other in pairs if same_value(report.value, other.value)]
            if told_independently(same, source[doc_id], about=about, history=history):
                taken.append(change)
    return taken


def told_independently(
    reports: Sequence[Report], owner: str, *, about: Collection[str], history: History
) -> bool:
    """Whether two of `reports`, which tell the same change, do so independently.

    `owner`: the source of the changed document. `about`: the documents on the same question, which
    give no source a history.
    """
    pairs = [
        pair
        for pair in combinations(reports, 2)
        if not any(
            namesakes(*names) for names in combinations([pair[0].source, pair[1].source, owner], 2)
        )
        if not _copied(*pair)
    ]
    if not pairs:
        return False
    past = history({report.source for pair in pairs for report in pair})
    joined = {
        source: min((number for number, doc_id in documents if doc_id not in about), default=None)
        for source, documents in past.items()
    }
    for first, second in pairs:
        dates = joined.get(first.source), joined.get(second.source)
        if None not in dates and (dates[0] != dates[1] or dates[0] == 0):
            return True
    return False


def namesakes(first: str, second: str) -> bool:
    """Whether two names of sources look alike: but for case, hyphens, articles, added words or
    lookalike letters.
    """
    one, other = _skeleton(first), _skeleton(second)
    shorter, longer = sorted((one, other), key=len)
    return shorter in longer or SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def _skeleton(name: str) -> str:
    name = re.sub(r"\.\w{1,10}$", "", name.removeprefix("file:"))
    letters = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"\W|_", "", _ARTICLES.sub(" ", letters.translate(_LOOKALIKES)))


def _copied(first: Report, second: Report) -> bool:
    """Whether one report, or its sentence with the value, mostly repeats the other."""
    parts = [(report.text, _statement(report)) for report in (first, second)]
    return any(_overlap(*texts) >= COPIED for texts in zip(*parts, strict=True))


def _statement(report: Report) -> str:
    wanted = words_of(report.value)
    sentences: Iterable[str] = SENTENCE_END.split(report.text)
    return next((sentence for sentence in sentences if wanted <= words_of(sentence)), report.text)


def _overlap(first: str, second: str) -> float:
    one, other = (shingles(words(text), _RUN) for text in (first, second))
    return len(one & other) / max(1, min(len(one), len(other)))
