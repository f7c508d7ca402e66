"""Training data: documents and questions of the base sources, with some articles held out, and of
the stream.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from cmt.common.arrow import replace_column, rows_with, rows_without
from cmt.common.dates import parse_instant
from cmt.config import STREAM, Params
from cmt.errors import StreamError
from cmt.lm.model import FrozenLM
from cmt.questions.generation import generate_questions
from cmt.questions.word_knowledge import WordKnowledge
from cmt.stream.limits import Limits
from cmt.stream.schema import DOCUMENT_SCHEMA, INSTANT, QUESTION_SCHEMA
from cmt.stream.store import SliceStore
from cmt.training.sources import installed_sources, read_pairs, source_name


@dataclass(frozen=True)
class TrainingData:
    """Documents and questions, with some articles held out of training."""

    # all documents (DOCUMENT_SCHEMA); `source` is a `source_name` if there are several
    documents: pa.Table
    questions: pa.Table  # questions on them that have an answer (QUESTION_SCHEMA)
    # questions that their document seems to answer but does not (QUESTION_SCHEMA, no `answers`)
    unanswerable: pa.Table
    seen: pa.Table  # documents to train on
    held_out: pa.Table  # documents of the held-out articles of the base data, to evaluate on
    slices: tuple[str, ...] = ()  # slice_ids of the stream documents in `seen`

    @property
    def all_questions(self) -> pa.Table:
        """The questions to train on, unanswerable ones last."""
        return pa.concat_tables([self.questions, self.unanswerable])


def load_training_data(params: Params, *, store: SliceStore, lm: FrozenLM) -> TrainingData:
    """The data that `train` names: `load_base_data`, and with `train.source: stream` the documents
    of `store`.

    The stream's documents come with their questions and with questions that `lm` helps to generate.
    A document that is also in the base data belongs to the base data, which may hold it out. Raises
    StreamError as `load_base_data`, and if the stream cannot be read or has no document.
    """
    base, train = load_base_data(params), params.train
    if not train.from_stream:
        return base
    # 1. the documents of the stream
    until = None if train.until is None else parse_instant(train.until)
    options = {"per_document": train.questions_per_paragraph, "seed": params.seed}
    documents, questions, slices = stream_pairs(
        store, until=until, knowledge=WordKnowledge(lm), **options
    )
    documents = replace_column(documents, "source", [STREAM] * documents.num_rows)
    documents = rows_without(documents, "doc_id", base.documents["doc_id"].to_pylist())
    # 2. both sets of documents, and the questions on them
    questions, unanswerable = _by_answer(questions)
    return TrainingData(
        documents=pa.concat_tables([documents, base.documents]),
        questions=pa.concat_tables([questions, base.questions]),
        unanswerable=pa.concat_tables([unanswerable, base.unanswerable]),
        seen=pa.concat_tables([documents, base.seen]) if train.base_fraction else documents,
        held_out=base.held_out,
        slices=slices,
    )


def stream_pairs(
    store: SliceStore,
    *,
    until: datetime | None,
    per_document: int,
    seed: int,
    knowledge: WordKnowledge,
) -> tuple[pa.Table, pa.Table, tuple[str, ...]]:
    """The documents published and the questions asked up to `until` (None: all), without forgotten
    documents.

    Returns the latest version of each document (DOCUMENT_SCHEMA), the questions (QUESTION_SCHEMA),
    generated ones last, and the slice_ids with a document or a question among these. A document
    with fewer than `per_document` questions gets generated ones (`generate_questions`), up to that
    number. Raises StreamError if a slice is damaged or no document is left.
    """
    forgotten, documents, questions, slices = store.forgotten(), [], [], []
    # 1. documents and questions of the slices up to the date
    for slice_ in store.slices():
        published = _up_to(
            rows_without(store.documents(slice_), "doc_id", forgotten), "published_at", until
        )
        asked = _up_to(store.questions(slice_), "asked_at", until)
        if len(published) or len(asked):
            slices.append(slice_.slice_id)
        documents.append(published)
        questions.append(asked)
    all_documents = pa.concat_tables([DOCUMENT_SCHEMA.empty_table(), *documents])
    if not len(all_documents):
        when = f" up to {until.isoformat()}" if until else ""
        raise StreamError(
            f"{store.path} has no document{when} to train on: ingest some, or set train.until later"
        )
    # 2. of each document its latest version, unless it has no question and repeats a text, and the
    #    questions on it
    own = pa.concat_tables([QUESTION_SCHEMA.empty_table(), *questions])
    asked, texts = set(own["doc_id"].to_pylist()), set[tuple[str | None, str]]()
    latest = {
        row["doc_id"]: row
        for row in sorted(all_documents.to_pylist(), key=itemgetter("published_at"))
    }
    rows = []
    for doc_id, row in latest.items():
        if doc_id in asked or (row["source"], row["sha256"]) not in texts:
            rows.append(row)
            texts.add((row["source"], row["sha256"]))
    kept = pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    own = rows_with(own, "doc_id", kept["doc_id"])
    # 3. more questions on documents with few
    asked_on = Counter(own["doc_id"].to_pylist())
    missing = {row["doc_id"]: max(0, per_document - asked_on[row["doc_id"]]) for row in rows}
    made = generate_questions(kept, numbers=missing, seed=seed, knowledge=knowledge)
    return kept, pa.concat_tables([own, made]), tuple(slices)


def _up_to(rows: pa.Table, column: str, until: datetime | None) -> pa.Table:
    """The rows whose `column` is not after `until`."""
    return (
        rows
        if until is None
        else rows.filter(pc.less_equal(rows[column], pa.scalar(until, INSTANT)))
    )


def load_base_data(params: Params) -> TrainingData:
    """The installed data of `train.base`, with `train.validation_articles` articles of each source
    held out.

    An article that is held out of one source is held out of all. Raises StreamError if `cmt data
    pull` has not fetched the data.
    """
    train, limits = params.train, Limits(params.stream)
    tables = {
        source_name(source): read_pairs(file, require_answers=not train.mix, limits=limits)
        for source, file in installed_sources(train).items()
    }
    if train.mix:
        documents, questions = _combine(tables)
        seen, held_out = _hold_out_of_each(documents, tables, articles=train.validation_articles)
    else:
        [(name, (documents, questions))] = tables.items()
        if train.shares:  # in addition to the stream
            documents = replace_column(documents, "source", [name] * documents.num_rows)
        seen, held_out = hold_out(documents, articles=train.validation_articles)
    return TrainingData(documents, *_by_answer(questions), seen, held_out)


def hold_out(documents: pa.Table, *, articles: int) -> tuple[pa.Table, pa.Table]:
    """Split into documents to train on, and those of `articles` titles to evaluate on (at most half
    of the titles).

    A document without a title counts as an article. If all documents have one title, it names the
    source, and each document counts as an article. The split is the same for every seed, so that a
    training which starts from the weights of another one is evaluated on articles that neither has
    seen.
    """
    names = _article_names(documents)
    if len(set(names)) == 1:
        names = documents["doc_id"].to_pylist()
    distinct = sorted(set(names))
    held_out = set(random.Random(0).sample(distinct, min(articles, len(distinct) // 2)))
    mask = pa.array([name in held_out for name in names], pa.bool_())
    return documents.filter(pc.invert(mask)), documents.filter(mask)


def _hold_out_of_each(
    documents: pa.Table, tables: Mapping[str, tuple[pa.Table, pa.Table]], *, articles: int
) -> tuple[pa.Table, pa.Table]:
    """Split the combined `documents`; what each source holds out does not depend on the other
    sources.
    """
    held_out: set[str] = set()
    for source_documents, _ in tables.values():
        seen, part = hold_out(source_documents, articles=articles)
        # a title of both parts is the source's, not an article's
        held_out |= set(_article_names(part)) - set(_article_names(seen))
        # another source may have the same text under another title
        held_out.update(part["doc_id"].to_pylist())
    names = zip(_article_names(documents), documents["doc_id"].to_pylist(), strict=True)
    mask = pa.array([not held_out.isdisjoint(pair) for pair in names], pa.bool_())
    return documents.filter(pc.invert(mask)), documents.filter(mask)


def _article_names(documents: pa.Table) -> list[str]:
    return [
        row["title"] or row["doc_id"] for row in documents.select(["doc_id", "title"]).to_pylist()
    ]


def _by_answer(questions: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The questions with an answer, and those without."""
    answerable = pc.greater(pc.list_value_length(questions["answers"]), 0)
    return questions.filter(answerable), questions.filter(pc.invert(answerable))


def _combine(tables: Mapping[str, tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    """Documents and questions of several sources (`source_name` → both), with `source_name` as
    documents' `source`.

    Equal texts are one document, since the reader takes a doc_id from the text. It belongs to the
    last source that contains it, so that a subset of another source keeps its own share, and it has
    the questions of all sources. Equal questions on a document are asked once. The source's name
    precedes a question id, because ids may repeat.
    """
    owner = {
        doc_id: name
        for name, (documents, _) in tables.items()
        for doc_id in documents["doc_id"].to_pylist()
    }
    all_documents, all_questions, asked = [], [], set[tuple[str, str]]()
    for name, (documents, questions) in tables.items():
        # 1. the documents that count for this source
        is_own = [owner[doc_id] == name for doc_id in documents["doc_id"].to_pylist()]
        own = documents.filter(pa.array(is_own, pa.bool_()))
        all_documents.append(replace_column(own, "source", [name] * own.num_rows))
        # 2. the questions that no source before it has
        pairs = list(
            zip(questions["doc_id"].to_pylist(), questions["question"].to_pylist(), strict=True)
        )
        new = questions.filter(pa.array([pair not in asked for pair in pairs], pa.bool_()))
        asked.update(pairs)
        ids = [f"{name}/{question_id}" for question_id in new["question_id"].to_pylist()]
        all_questions.append(replace_column(new, "question_id", ids))
    return pa.concat_tables(all_documents), pa.concat_tables(all_questions)
