"""Sources of training data: question-answer pairs, fetched once into `train.path`, all in SQuAD's
layout.
"""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.common.storage import write_bytes
from cmt.config import STREAM, TrainParams
from cmt.errors import ConfigError, StreamError
from cmt.stream.admission.intake import select_with_unanswerable
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers.files import compression_of, decompress, read_regular
from cmt.stream.rows import read
from cmt.text.display import first_line

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ALTERNATIVE = (
    "download the file by other means and set train.source to path:<file> (or name it so in "
    "train.mix)"
)


def source_name(source: str) -> str:
    """The name of a source and of its file in `train.path`.

    The name does not depend on local folders, so DVC can restore the file. Raises ConfigError for a
    malformed source.
    """
    if source == STREAM:
        return STREAM
    scheme, _, location = source.partition(":")
    if scheme == "path" and location:
        return Path(location).name.partition(".json")[0]
    if scheme == "hub" and _HUB.fullmatch(location):
        return re.sub("[/@]", "--", location)
    raise ConfigError(
        f"train.source or train.mix: {source!r} is not of the form path:<file> or "
        "hub:<org>/<name>[@<revision>], "
        f"nor {STREAM}"
    )


def pull_sources(
    train: TrainParams, *, limits: Limits = DEFAULT_LIMITS
) -> dict[str, tuple[int, int]]:
    """Copy (`path:`) or download (`hub:`) the sources of `train.base` into `train.path`.

    Returns source → its numbers of documents and questions; `installed_sources` names the files. A
    source of `train.mix` needs only questions, with or without answers. Raises ConfigError for a
    malformed source or two with one name; StreamError if a source cannot be fetched or written, or
    holds no question-answer pair.
    """
    counts = {}
    for source, file in _files(train).items():
        scheme, _, location = source.partition(":")
        with TemporaryDirectory() as folder:
            fetched = Path(location) if scheme == "path" else _download(location, Path(folder))
            documents, questions = read_pairs(fetched, require_answers=not train.mix, limits=limits)
            counts[source] = len(documents), len(questions)
            content = read_regular(fetched, fetched.name, limits)
            if compression := compression_of(content):
                content = decompress(content, compression, fetched.name, limits.file_bytes, limits)
            try:
                write_bytes(file, content)
            except OSError as error:
                raise StreamError(
                    f"cannot write {error.filename or file}: {error.strerror or error}"
                ) from error
    return counts


def installed_sources(train: TrainParams) -> dict[str, Path]:
    """Source → the file that `pull_sources` wrote for it. Raises StreamError if a file is
    missing.
    """
    files = _files(train)
    for source, file in files.items():
        if not file.is_file():
            raise StreamError(
                f"the training data {source} is not in {train.path}: run `cmt data pull`"
            )
    return files


def read_pairs(
    file: Path, *, require_answers: bool = True, limits: Limits = DEFAULT_LIMITS
) -> tuple[pa.Table, pa.Table]:
    """Documents (DOCUMENT_SCHEMA) and questions (QUESTION_SCHEMA) of `file`, without duplicates.

    A question that its document does not answer (SQuAD 2.0) has no `answers`. Raises StreamError if
    there is no question, or with `require_answers` no question-answer pair.
    """
    raw = read(file, file_format="squad", limits=limits)
    accepted = select_with_unanswerable(raw, now=datetime.now(UTC), limits=limits)
    answers = accepted.questions["answers"].to_pylist()
    if not any(answers) if require_answers else not answers:
        kind = "question with an answer" if require_answers else "valid question"
        raise StreamError(f"{file} has no {kind}: nothing to train on, name another train.source")
    return accepted.documents, accepted.questions


def _files(train: TrainParams) -> dict[str, Path]:
    """Source of `train.base` → its file in `train.path`. Raises ConfigError if two sources have one
    file.
    """
    files: dict[str, Path] = {}
    for source in train.base:
        file = train.path / f"{source_name(source)}.json"
        if other := next((earlier for earlier, path in files.items() if path == file), None):
            raise ConfigError(
                f"train.mix: {other} and {source} would both be {file.name} in {train.path}: "
                "rename one of the files"
            )
        files[source] = file
    return files


def _download(name: str, folder: Path) -> Path:
    """Download the train split of a dataset on the hub; returns it as a file in SQuAD's layout.
    Raises StreamError.
    """
    from huggingface_hub import snapshot_download

    # 1. the train split, in Parquet
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
        raise StreamError(
            f"{name} could not be fetched from the hub ({first_line(error)}): check the network, "
            f"or {_ALTERNATIVE}"
        ) from error
    parts = sorted(folder.rglob("*.parquet"))
    if not parts:
        raise StreamError(
            f"{name} has no train split in Parquet on the hub: name another dataset, or "
            f"{_ALTERNATIVE}"
        )
    # 2. its rows, by article and paragraph
    columns = ["id", "title", "context", "question", "answers"]
    articles: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        try:
            for row in pq.read_table(part, columns=columns).to_pylist():
                answers = [{"text": text} for text in row["answers"]["text"]]
                question = {"id": row["id"], "question": row["question"], "answers": answers}
                articles[row["title"]][row["context"]].append(question)
        except (pa.ArrowException, OSError, KeyError, TypeError) as error:
            raise StreamError(
                f"{part.name} on the hub is damaged or does not have SQuAD's columns "
                f"{', '.join(columns)} ({error}): "
                f"pull again, or {_ALTERNATIVE}"
            ) from None
    # 3. the official layout
    data = [
        {
            "title": title,
            "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()],
        }
        for title, paragraphs in articles.items()
    ]
    file = folder / "train.json"
    file.write_bytes(json.dumps({"version": "1.1", "data": data}, ensure_ascii=False).encode())
    return file
