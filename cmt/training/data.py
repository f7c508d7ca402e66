"""Training data: question-answer pairs in SQuAD's layout, fetched into a folder, some articles held out."""

import json
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.common.storage import write_bytes
from cmt.config import TrainParams
from cmt.errors import ConfigError, StreamError
from cmt.stream import readers
from cmt.stream.ingest import select_with_unanswerable
from cmt.stream.readers.files import read_bytes

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ALTERNATIVE = "download the file by other means and set train.source to path:<file>"


@dataclass(frozen=True)
class TrainingData:
    """Documents and questions, with some articles held out of training."""

    documents: pa.Table
    """All documents (DOCUMENT_SCHEMA)."""
    questions: pa.Table
    """Questions on them that have an answer (QUESTION_SCHEMA)."""
    unanswerable: pa.Table
    """Questions that seem to be answered by their document and are not (QUESTION_SCHEMA, no `answers`)."""
    seen: pa.Table
    """Documents to train on."""
    held_out: pa.Table
    """Documents of the held-out articles, to evaluate on."""

    @property
    def all_questions(self) -> pa.Table:
        """The questions to train on, unanswerable ones last."""
        return pa.concat_tables([self.questions, self.unanswerable])


def load_split(train: TrainParams) -> TrainingData:
    """The installed training data, with `train.validation_articles` articles held out.

    Raises StreamError if `cmt data pull` has not fetched the data.
    """
    documents, questions = load_training_data(installed_training_data(source=train.source, path=train.path))
    seen, held_out = hold_out(documents, articles=train.validation_articles)
    answerable = pc.greater(pc.list_value_length(questions["answers"]), 0)
    return TrainingData(
        documents, questions.filter(answerable), questions.filter(pc.invert(answerable)), seen, held_out
    )


def pull_training_data(*, source: str, path: Path) -> Path:
    """Copy (`path:`) or download (`hub:`) the training data into the folder `path`; returns the file.

    Raises ConfigError for a malformed source, and StreamError if the data cannot be fetched or written, or holds no
    question-answer pair.
    """
    file = _installed_file(source, path)
    scheme, _, location = source.partition(":")
    with TemporaryDirectory() as folder:
        fetched = Path(location) if scheme == "path" else _download(location, Path(folder))
        load_training_data(fetched)
        try:
            write_bytes(file, read_bytes(fetched))
        except OSError as error:
            raise StreamError(f"cannot write {error.filename or file}: {error.strerror or error}") from error
    return file


def installed_training_data(*, source: str, path: Path) -> Path:
    """The file that `pull_training_data` wrote for `source`. Raises StreamError if it is not there."""
    file = _installed_file(source, path)
    if not file.is_file():
        raise StreamError(f"the training data {source} is not in {path}: run `cmt data pull`")
    return file


def load_training_data(file: Path) -> tuple[pa.Table, pa.Table]:
    """Documents and questions of `file`, without duplicates. Raises StreamError if there is no question-answer pair.

    A question that its document does not answer (SQuAD 2.0) has no `answers`.
    """
    accepted = select_with_unanswerable(readers.read(file, "squad"), now=datetime.now(UTC))
    if not any(accepted.questions["answers"].to_pylist()):
        raise StreamError(f"{file} has no question with an answer: nothing to train on, name another train.source")
    return accepted.documents, accepted.questions


def hold_out(documents: pa.Table, *, articles: int) -> tuple[pa.Table, pa.Table]:
    """Split into documents to train on, and those of `articles` titles to evaluate on (at most half of the titles).

    A document without a title counts as an article. The split is the same for every seed, so that a training which
    starts from the weights of another one is evaluated on articles that neither has seen.
    """
    names = [row["title"] or row["doc_id"] for row in documents.select(["doc_id", "title"]).to_pylist()]
    distinct = sorted(set(names))
    held_out = set(random.Random(0).sample(distinct, min(articles, len(distinct) // 2)))
    mask = pa.array([name in held_out for name in names])
    return documents.filter(pc.invert(mask)), documents.filter(mask)


def _installed_file(source: str, path: Path) -> Path:
    """The file of a source in `path`. Its name does not depend on folders of this machine, so DVC can restore it."""
    scheme, _, location = source.partition(":")
    if scheme == "path" and location:
        return path / f"{Path(location).name.partition('.json')[0]}.json"
    if scheme == "hub" and _HUB.fullmatch(location):
        return path / f"{re.sub('[/@]', '--', location)}.json"
    raise ConfigError(f"train.source {source!r} is not of the form path:<file> or hub:<org>/<name>[@<revision>]")


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
