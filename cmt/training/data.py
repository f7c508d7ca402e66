"""Training data: question-answer pairs in SQuAD's layout, fetched into a folder, some articles held out; the stream."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.common.arrow import replace_column
from cmt.common.dates import parse_instant
from cmt.common.storage import write_bytes
from cmt.config import STREAM, TrainParams
from cmt.errors import ConfigError, StreamError
from cmt.lm.model import FrozenLM
from cmt.stream import readers
from cmt.stream.ingest import select_with_unanswerable
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers.files import read_bytes
from cmt.stream.store import SliceStore, without
from cmt.training.stream_pairs import StreamPairs, stream_pairs
from cmt.training.word_knowledge import WordKnowledge

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ALTERNATIVE = "download the file by other means and set train.source to path:<file> (or name it so in train.mix)"


@dataclass(frozen=True)
class TrainingData:
    """Documents and questions, with some articles held out of training."""

    documents: pa.Table
    """All documents (DOCUMENT_SCHEMA); `source` is a `source_name` if there are several (`train.shares`)."""
    questions: pa.Table
    """Questions on them that have an answer (QUESTION_SCHEMA)."""
    unanswerable: pa.Table
    """Questions that seem to be answered by their document and are not (QUESTION_SCHEMA, no `answers`)."""
    seen: pa.Table
    """Documents to train on."""
    held_out: pa.Table
    """Documents of the held-out articles of the base data, to evaluate on."""
    slices: tuple[str, ...] = ()
    """slice_ids of the stream that `seen` is from."""

    @property
    def all_questions(self) -> pa.Table:
        """The questions to train on, unanswerable ones last."""
        return pa.concat_tables([self.questions, self.unanswerable])


def load_with_stream(
    train: TrainParams, *, store: SliceStore, lm: FrozenLM, seed: int, limits: Limits = DEFAULT_LIMITS
) -> TrainingData:
    """What `load_split` returns; with `source: stream` the documents of `store` are trained on, with their questions.

    `lm` and `seed` are for the questions that are made. Raises StreamError as `load_split`, and if the stream cannot be
    read or has no document.
    """
    base = load_split(train, limits=limits)
    if not train.from_stream:
        return base
    until = None if train.until is None else parse_instant(train.until)
    pairs = stream_pairs(
        store, until=until, per_document=train.questions_per_paragraph, seed=seed, knowledge=WordKnowledge(lm)
    )
    return _with_stream(base, pairs, replay=train.base_fraction > 0)


def load_split(train: TrainParams, *, limits: Limits = DEFAULT_LIMITS) -> TrainingData:
    """The installed data of `train.base`, with `train.validation_articles` articles of each source held out.

    An article that is held out of one source is held out of all. Raises StreamError if `cmt data pull` has not fetched
    the data.
    """
    files = installed_sources(train)
    if train.mix:
        tables = {
            source_name(source): load_training_data(file, require_answers=False, limits=limits)
            for source, file in files.items()
        }
        documents, questions = _combine(tables)
        seen, held_out = _hold_out_of_each(documents, tables, articles=train.validation_articles)
    else:
        [(source, file)] = files.items()
        documents, questions = load_training_data(file, limits=limits)
        if train.shares:  # beside the stream
            documents = replace_column(documents, "source", [source_name(source)] * documents.num_rows)
        seen, held_out = hold_out(documents, articles=train.validation_articles)
    answerable = pc.greater(pc.list_value_length(questions["answers"]), 0)
    return TrainingData(
        documents, questions.filter(answerable), questions.filter(pc.invert(answerable)), seen, held_out
    )


def _with_stream(base: TrainingData, pairs: StreamPairs, *, replay: bool) -> TrainingData:
    """The documents of the stream to train on, and with `replay` those of `base`.

    A document that both have counts for the base data, which may hold it out.
    """
    # 1. the documents, by source
    documents = replace_column(pairs.documents, "source", [STREAM] * pairs.documents.num_rows)
    documents = without(documents, base.documents["doc_id"].to_pylist())
    # 2. the questions, of the stream and of the base data
    answerable = pc.greater(pc.list_value_length(pairs.questions["answers"]), 0)
    return TrainingData(
        documents=pa.concat_tables([documents, base.documents]),
        questions=pa.concat_tables([pairs.questions.filter(answerable), base.questions]),
        unanswerable=pa.concat_tables([pairs.questions.filter(pc.invert(answerable)), base.unanswerable]),
        seen=pa.concat_tables([documents, base.seen]) if replay else documents,
        held_out=base.held_out,
        slices=pairs.slices,
    )


def pull_sources(train: TrainParams, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Path]:
    """Fetch all sources of `train.base` into `train.path`; returns source → file. Raises as `pull_training_data`.

    A source of `train.mix` may consist of questions without an answer.
    """
    _check_names(train)
    return {
        source: pull_training_data(source=source, path=train.path, require_answers=not train.mix, limits=limits)
        for source in train.base
    }


def installed_sources(train: TrainParams) -> dict[str, Path]:
    """Source → the file that `pull_sources` wrote for it. Raises StreamError if one is not there."""
    _check_names(train)
    return {source: installed_training_data(source=source, path=train.path) for source in train.base}


def source_name(source: str) -> str:
    """The name of a source and of its file in `train.path`, which does not depend on folders of this machine.

    So DVC can restore it. Raises ConfigError for a malformed source.
    """
    if source == STREAM:
        return STREAM
    scheme, _, location = source.partition(":")
    if scheme == "path" and location:
        return Path(location).name.partition(".json")[0]
    if scheme == "hub" and _HUB.fullmatch(location):
        return re.sub("[/@]", "--", location)
    raise ConfigError(
        f"train.source or train.mix: {source!r} is not of the form path:<file> or hub:<org>/<name>[@<revision>], "
        f"nor {STREAM}"
    )


def pull_training_data(
    *, source: str, path: Path, require_answers: bool = True, limits: Limits = DEFAULT_LIMITS
) -> Path:
    """Copy (`path:`) or download (`hub:`) the training data into the folder `path`; returns the file.

    Raises ConfigError for a malformed source, and StreamError if the data cannot be fetched or written, or holds no
    question (if `require_answers`: no question-answer pair).
    """
    file = _installed_file(source, path)
    scheme, _, location = source.partition(":")
    with TemporaryDirectory() as folder:
        fetched = Path(location) if scheme == "path" else _download(location, Path(folder))
        load_training_data(fetched, require_answers=require_answers, limits=limits)
        try:
            write_bytes(file, read_bytes(fetched, limits))
        except OSError as error:
            raise StreamError(f"cannot write {error.filename or file}: {error.strerror or error}") from error
    return file


def installed_training_data(*, source: str, path: Path) -> Path:
    """The file that `pull_training_data` wrote for `source`. Raises StreamError if it is not there."""
    file = _installed_file(source, path)
    if not file.is_file():
        raise StreamError(f"the training data {source} is not in {path}: run `cmt data pull`")
    return file


def load_training_data(
    file: Path, *, require_answers: bool = True, limits: Limits = DEFAULT_LIMITS
) -> tuple[pa.Table, pa.Table]:
    """Documents and questions of `file`, without duplicates.

    A question that its document does not answer (SQuAD 2.0) has no `answers`. Raises StreamError if there is no
    question, or if `require_answers` no question-answer pair.
    """
    accepted = select_with_unanswerable(
        readers.read(file, "squad", limits=limits), now=datetime.now(UTC), limits=limits
    )
    answers = accepted.questions["answers"].to_pylist()
    if not any(answers) if require_answers else not answers:
        kind = "question with an answer" if require_answers else "valid question"
        raise StreamError(f"{file} has no {kind}: nothing to train on, name another train.source")
    return accepted.documents, accepted.questions


def hold_out(documents: pa.Table, *, articles: int) -> tuple[pa.Table, pa.Table]:
    """Split into documents to train on, and those of `articles` titles to evaluate on (at most half of the titles).

    A document without a title counts as an article, and so does each of several with one title for all of them, which
    names the source. The split is the same for every seed, so that a training which starts from the weights of another
    one is evaluated on articles that neither has seen.
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
    """Split the combined `documents` by `hold_out` of every source's own, whatever other sources are beside it."""
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
    return [row["title"] or row["doc_id"] for row in documents.select(["doc_id", "title"]).to_pylist()]


def _combine(tables: Mapping[str, tuple[pa.Table, pa.Table]]) -> tuple[pa.Table, pa.Table]:
    """Documents and questions of several sources (`source_name` → both), with `source_name` as documents' `source`.

    Equal texts are one document, since the reader takes a doc_id from the text. It counts for the last source that has
    it, so that a part of another source has a share of its own, and has the questions of all. Equal questions on a
    document are asked once; question ids get the name of their source, as different sources count alike.
    """
    owner = {doc_id: name for name, (documents, _) in tables.items() for doc_id in documents["doc_id"].to_pylist()}
    all_documents, all_questions, asked = [], [], set[tuple[str, str]]()
    for name, (documents, questions) in tables.items():
        # 1. the documents that count for this source
        is_own = [owner[doc_id] == name for doc_id in documents["doc_id"].to_pylist()]
        own = documents.filter(pa.array(is_own, pa.bool_()))
        all_documents.append(replace_column(own, "source", [name] * own.num_rows))
        # 2. the questions that no source before it has
        pairs = list(zip(questions["doc_id"].to_pylist(), questions["question"].to_pylist(), strict=True))
        new = questions.filter(pa.array([pair not in asked for pair in pairs], pa.bool_()))
        asked.update(pairs)
        ids = [f"{name}/{question_id}" for question_id in new["question_id"].to_pylist()]
        all_questions.append(replace_column(new, "question_id", ids))
    return pa.concat_tables(all_documents), pa.concat_tables(all_questions)


def _check_names(train: TrainParams) -> None:
    """Raise ConfigError if two sources would be the same file in `train.path`."""
    by_name: dict[str, str] = {}
    for source in train.base:
        other = by_name.setdefault(source_name(source), source)
        if other != source:
            raise ConfigError(
                f"train.mix: {other} and {source} would both be {source_name(source)}.json in {train.path}: "
                "rename one of the files"
            )


def _installed_file(source: str, path: Path) -> Path:
    return path / f"{source_name(source)}.json"


def _download(name: str, folder: Path) -> Path:
    """Download the train split of a dataset `name` on the hub; returns it as one file in SQuAD's layout."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision or None,
            local_dir=folder,
            allow_patterns=["*train*.parquet"],
        )
    except Exception as error:  # the client and its HTTP library raise many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StreamError(
            f"{name} could not be fetched from the hub ({reason}): check the network, or {_ALTERNATIVE}"
        ) from error
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise StreamError(f"{name} has no train split in Parquet on the hub: name another dataset, or {_ALTERNATIVE}")
    file = folder / "train.json"
    file.write_bytes(_squad_json([row for part in files for row in _read_rows(part)]))
    return file


def _read_rows(file: Path) -> list[dict[str, Any]]:
    columns = ["id", "title", "context", "question", "answers"]
    try:
        rows: list[dict[str, Any]] = pq.read_table(file, columns=columns).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise StreamError(
            f"{file.name} on the hub does not have SQuAD's columns {', '.join(columns)} ({error})"
        ) from None
    return rows


def _squad_json(rows: list[dict[str, Any]]) -> bytes:
    """Rows of the hub's table in the official layout: articles with paragraphs with questions."""
    articles: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        answers = [{"text": text} for text in row["answers"]["text"]]
        articles[row["title"]][row["context"]].append(
            {"id": row["id"], "question": row["question"], "answers": answers}
        )
    data = [
        {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]
    return json.dumps({"version": "1.1", "data": data}, ensure_ascii=False).encode()
