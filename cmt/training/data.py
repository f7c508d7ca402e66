"""What `cmt train` reads: question-answer pairs in SQuAD's layout, put into one folder and checked there."""

import json
import random
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.common.storage import write_bytes
from cmt.errors import ConfigError, StreamError
from cmt.stream import readers
from cmt.stream.ingest import Known, check, select
from cmt.stream.readers.files import read_bytes

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_ELSEWHERE = "fetch it elsewhere and set train.source to path:<file>"


def pull_training_data(*, source: str, path: Path) -> Path:
    """Copy (`path:`) or download (`hub:`) the training data into the folder `path`; returns the file.

    Raises ConfigError for a malformed source, StreamError when it cannot be had, written, or has no pair to train on.
    """
    file = _file(source, path)
    scheme, _, rest = source.partition(":")
    with TemporaryDirectory() as folder:
        found = Path(rest) if scheme == "path" else _from_hub(rest, Path(folder))
        load_training_data(found)
        try:
            write_bytes(file, read_bytes(found))
        except OSError as error:
            raise StreamError(f"cannot write {error.filename or file}: {error.strerror or error}") from error
    return file


def installed_training_data(*, source: str, path: Path) -> Path:
    """The file that `pull` made of `source`; StreamError when it was not pulled."""
    file = _file(source, path)
    if not file.is_file():
        raise StreamError(f"the training data {source} is not in {path}: run `cmt data pull`")
    return file


def load_training_data(file: Path) -> tuple[pa.Table, pa.Table]:
    """Documents and questions of `file`, each once, in their schemas; StreamError when there is no pair."""
    raw = readers.read(file, "squad")
    found = select(*check(raw, now=datetime.now(UTC)), unread=raw.rejected, known=Known())
    if not found.questions.num_rows:
        raise StreamError(f"{file} has no question with an answer: nothing to train on; name another train.source")
    return found.documents, found.questions


def _file(source: str, path: Path) -> Path:
    """One name a source, whatever folder it came from: what DVC restores on another machine is found there."""
    scheme, _, rest = source.partition(":")
    if scheme == "path" and rest:
        return path / f"{Path(rest).name.partition('.json')[0]}.json"
    if scheme == "hub" and _HUB.fullmatch(rest):
        return path / f"{re.sub('[/@]', '--', rest)}.json"
    raise ConfigError(f"train.source {source!r} is not of the form path:<file> or hub:<org>/<name>[@<revision>]")


def _from_hub(name: str, folder: Path) -> Path:
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
    except Exception as error:  # the client and the HTTP library below it raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StreamError(
            f"{name} could not be fetched from the hub ({reason}): check the network, or {_ELSEWHERE}"
        ) from error
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise StreamError(f"{name} has no train split in Parquet on the hub: name another data set, or {_ELSEWHERE}")
    file = folder / "train.json"
    file.write_bytes(_squad([row for part in files for row in _rows(part)]))
    return file


def _rows(file: Path) -> list[dict[str, Any]]:
    columns = ["id", "title", "context", "question", "answers"]
    try:
        rows: list[dict[str, Any]] = pq.read_table(file, columns=columns).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise StreamError(f"{file.name} on the hub has not SQuAD's columns {', '.join(columns)} ({error})") from None
    return rows


def _squad(rows: list[dict[str, Any]]) -> bytes:
    """Rows of the hub's table in the official layout: articles, their paragraphs, their questions."""
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


def hold_out(documents: pa.Table, *, articles: int) -> tuple[pa.Table, pa.Table]:
    """Documents to train on, and those of `articles` titles (or single documents without one) to measure on.

    The same for every seed: a training that goes on from another one's weights measures on articles that neither saw.
    """
    names = [row["title"] or row["doc_id"] for row in documents.select(["doc_id", "title"]).to_pylist()]
    distinct = sorted(set(names))
    held = set(random.Random(0).sample(distinct, min(articles, len(distinct) // 2)))
    mask = pa.array([name in held for name in names])
    return documents.filter(pc.invert(mask)), documents.filter(mask)
