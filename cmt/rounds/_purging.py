"""Removing the texts of forgotten documents from everything that a project wrote.

Banks and slices are written again. Tables of answers, caches and the quarantine lose the rows that
name the document or repeat its words. Files that a command makes again are deleted. Every step can
be repeated.
"""

import configparser
import json
import re
import shutil
import sqlite3
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.answering.cache import ChecksummedAnswers
from cmt.bank.bank import Bank
from cmt.common.arrow import rows_with
from cmt.common.scratch import remove_dead
from cmt.common.secrets import mask_secrets
from cmt.common.storage import atomic_path, write_table
from cmt.errors import ModelError, RoundError
from cmt.evaluation.gate.storage import CANARY_SCHEMA, read_canaries, write_canaries
from cmt.modeling.champion import champion_folders
from cmt.modeling.checkpoint import seen_slices
from cmt.project import Project
from cmt.stream.slices import read_rows
from cmt.text.shingles import shingles, words

# words in a row by which an answer counts as taken from a document; of a shorter answer all
_ANSWER_WORDS = 3
_TEXT_WORDS = 5  # words in a row by which a longer text counts as taken from a document
_COPIES = ("data/replay", "data/try")
"""Folders below the project in which `dvc repro` and `cmt try` have a stream and a bank of their
own.
"""
_COPIED = (
    "state",
    "bank",
    "quarantine",
    "stream",
    "slices",
)  # in such a folder; the slices last: they are looked into


class Traces:
    """Recognises what was taken from some documents, by their doc_ids and by runs of their words.

    `texts`: the texts and titles of the documents, and the right answers to their `questions`.
    """

    def __init__(
        self, doc_ids: Collection[str], texts: Iterable[str], questions: Iterable[str] = ()
    ) -> None:
        self.doc_ids = frozenset(doc_ids)
        sizes, split = (*range(1, _ANSWER_WORDS + 1), _TEXT_WORDS), [words(text) for text in texts]
        self._runs = {
            size: {run for text in split for run in shingles(text, size)} for size in sizes
        }
        self._questions = {f" {' '.join(words(question))} " for question in questions}

    def in_answer(self, answer: str | None) -> bool:
        """Whether a short text has words in a row that a document has, or is a word of it."""
        answer_words = words(answer or "")
        size = min(_ANSWER_WORDS, len(answer_words))
        return bool(answer_words) and not self._runs[size].isdisjoint(shingles(answer_words, size))

    def in_row(self, raw: str) -> bool:
        """Whether a row of the quarantine names a document, repeats some of its words, or asks one
        of its questions.
        """
        unescaped = re.sub(r"\\+[nrt]?", " ", raw)
        return any(
            json.dumps(doc_id, ensure_ascii=False) in unescaped for doc_id in self.doc_ids
        ) or self.in_text(unescaped)

    def in_text(self, text: str) -> bool:
        """Whether a text repeats some words of a document, or asks one of its questions."""
        text_words = words(text)
        line = f" {' '.join(text_words)} "
        is_asked = any(question in line for question in self._questions)
        return is_asked or not self._runs[_TEXT_WORDS].isdisjoint(shingles(text_words, _TEXT_WORDS))

    def in_request(self, line: str) -> bool:
        """Whether a line of the request log has a question about a document."""
        try:
            return self.in_text(str(json.loads(line).get("question", "")))
        except (ValueError, AttributeError):
            return self.in_text(line)


def purge(
    project: Project,
    banks: Sequence[Bank],
    doc_ids: Collection[str],
    slices: Mapping[str, Sequence[str]],
) -> dict[str, int]:
    """Remove the documents `doc_ids` from everything below the project; `slices` as in the journal.

    Returns what was removed → how many. No rollback reaches past it. Raises CmtError and OSError.
    """
    documents = rows_with(project.store.all_documents(), "doc_id", doc_ids)
    traces = _traces_of(project, doc_ids, documents)
    # 1. The banks: their versions, files and indexes; and the tables of the ledger.
    for bank in banks:
        bank.purge_history()
    if banks:
        project.ledger.purge_history()
    # 2. Staged memories, answers, caches, and files that a command makes again.
    of_state = _purge_state(project, traces)
    # 3. The quarantine, and questions in the request log.
    quarantine = project.params.stream.quarantine
    request_log = project.params.serving.request_log
    quarantined = sum(_clean_lines(path, traces.in_row) for path in quarantine.glob("*.jsonl"))
    logged = 0
    if request_log and request_log.is_file():
        logged = _clean_lines(request_log, traces.in_request, keep_empty=True)
    # 4. The slices, and the rounds that name their digests.
    for slice_id, (before, after) in slices.items():
        project.store.purge(slice_id, doc_ids, digest=after)
        stale = []
        for round_ in project.history.all_rounds():
            if (round_.slice_id, round_.slice_digest) == (slice_id, before):
                stale.append(replace(round_, slice_digest=after))
        if stale:  # the slice would be pending again
            project.ledger.write(*stale)
    project.store.delete_temp_files()
    removed = {
        "documents": len(set(documents["doc_id"].to_pylist())),
        "slices written again": len(slices),
        "banks written again": len(banks),
        "recorded answers": of_state["recorded answers"],
        "cached answers": of_state["cached answers"],
        "quarantined rows": quarantined,
        "logged questions": logged,
        "files": of_state["files"],
        "objects of DVC's cache": of_state["objects of DVC's cache"],
    }
    return {what: count for what, count in removed.items() if count}


def _traces_of(project: Project, doc_ids: Collection[str], documents: pa.Table) -> Traces:
    """What was taken from the documents `doc_ids`, whose rows are `documents`, or from the
    questions about them.
    """
    texts = [*documents["text"].to_pylist(), *filter(None, documents["title"].to_pylist())]
    questions = set()
    for slice_ in project.store.slices_containing(doc_ids):
        for row in rows_with(read_rows(slice_, "questions"), "doc_id", doc_ids).to_pylist():
            texts += row["answers"]
            questions.add(row["question"])
    return Traces(doc_ids, texts, questions)


def _purge_state(project: Project, traces: Traces) -> dict[str, int]:
    """Remove `traces` from the state folder, MLflow's artifacts and copies; returns what was
    removed → how many.
    """
    root, state = project.root, project.state
    # 1. Staged memories, and answers: of rounds, in MLflow's artifacts, and the caches of
    #    evaluations.
    staged = sum(map(_delete, (state / "rounds").glob("*/memories-*")))
    tables = [*state.rglob("*.parquet"), *(root / "mlruns").rglob("*.parquet")]
    answers = sum(_clean_table(path, traces) for path in tables)
    caches = [ChecksummedAnswers(path) for path in state.glob("prompts*.sqlite")]
    cached = sum(cache.remove(traces.in_answer) for cache in caches)
    # 2. Files that a command makes again: recorded answers of an earlier bank, the report, copies
    #    of the stream; and what killed commands left.
    remove_dead(state)
    files = [*state.rglob(".*.tmp"), *state.glob("answers-*.sqlite*"), root / "report/index.html"]
    deleted = sum(map(_delete, files)) + sum(_clean_copy(root / name, traces) for name in _COPIES)
    return {
        "recorded answers": answers,
        "cached answers": cached,
        "files": staged + deleted,
        "objects of DVC's cache": sum(map(_delete, _cached_by_dvc(root, traces))),
    }


def unreached(project: Project, slices: Collection[str]) -> Iterator[str]:
    """Where a purged text may still be, one phrase each; `slices`: the slices that had it."""
    source = project.params.stream.source
    yield f"source files, such as {source}: clean them before `cmt ingest` or `dvc repro`"
    for folder in remove_dead(project.state):
        yield f"temporary files of a command that is running: {folder}"
    folders = {
        project.params.compressor.path,
        project.params.train.output,
        *champion_folders(project.state),
    }
    for folder in sorted(filter(Path.is_dir, folders)):
        with suppress(ModelError):  # a damaged card has a report of `cmt verify`
            if not set(slices).isdisjoint(seen_slices(folder)):
                yield f"the weights in {folder}, which were trained on the slices: train them again"
    if any(project.params.train.path.glob("*.json")):
        yield f"training data that `cmt data pull` copied to {project.params.train.path}"
    if project.params.serving.log_questions:
        yield "request logs that were rotated or written to stderr (serving.log_questions)"
    if project.params.tracking.enabled:
        uri = mask_secrets(project.params.tracking.uri)
        folder = project.root / "mlruns"
        yield f"MLflow artifacts outside {folder}, such as those of a server (tracking.uri: {uri})"
    if (project.root / ".dvc").is_dir():
        yield (
            "remote storage of DVC, a cache that is shared or configured outside the project, and "
            "source files in it"
        )
    yield f"what LanceDB, Ray or a training left in {gettempdir()}"
    yield "the history of git, backups, and other copies of the project or of its report"
    yield "caches of browsers and the memory of running servers: restart `cmt serve`"


@contextmanager
def writing(project: Project) -> Iterator[None]:
    """Raise errors of the disk or a database as RoundError, whose message says that the forgetting
    goes on later.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        place = getattr(error, "filename", None) or project.state
        reason = getattr(error, "strerror", None) or error
        raise RoundError(
            f"{place} cannot be written ({reason}): check space and rights, then repeat; until "
            "then the documents are left out of answers"
        ) from error


def _clean_table(path: Path, traces: Traces) -> int:
    """Remove the answers or canaries in a table that are about a document or answered from one;
    returns how many.
    """
    try:
        rows = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # rights or space; damage has no errno
        return _delete(path)  # no other reader can read it either
    if rows.column_names == CANARY_SCHEMA.names:
        return _clean_canaries(path, traces)
    if "doc_id" not in rows.column_names:
        return 0

    def is_kept(row: Mapping[str, Any]) -> bool:
        if not traces.doc_ids.isdisjoint([row["doc_id"], *row.get("sources", [])]):
            return False
        # which document this baseline had is not recorded
        return not traces.in_answer(row.get("rag"))

    names = [name for name in ("doc_id", "sources", "rag") if name in rows.column_names]
    columns = rows.select(names)
    kept = rows.filter(pa.array(map(is_kept, columns.to_pylist()), pa.bool_()))
    if not kept.num_rows:
        _delete(path)
    elif kept.num_rows < rows.num_rows:
        write_table(path, kept)
    return int(rows.num_rows - kept.num_rows)


def _clean_canaries(path: Path, traces: Traces) -> int:
    canaries = read_canaries(path)
    if canaries is None:  # damaged: the next round chooses others
        return _delete(path)
    sound = []
    for canary in canaries:
        if traces.doc_ids.isdisjoint(canary.doc_ids) and not traces.in_text(canary.question):
            sound.append(canary)
    if len(sound) < len(canaries):
        write_canaries(path, sound)
    return len(canaries) - len(sound)


def _clean_lines(path: Path, is_trace: Callable[[str], bool], *, keep_empty: bool = False) -> int:
    """Remove the lines of a file that `is_trace` accepts; returns their number.

    A file that loses all lines is deleted; with `keep_empty` it stays, empty.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        lines = list(file)  # str.splitlines() splits at U+2028 too, which JSON does not escape
    kept = [line for line in lines if not is_trace(line)]
    if not (kept or keep_empty):
        _delete(path)
    elif len(kept) < len(lines):
        with atomic_path(path) as temporary:
            temporary.touch(
                mode=stat.S_IMODE(path.stat().st_mode)
            )  # only its owner may read a request log
            temporary.write_bytes("".join(kept).encode("utf-8", "surrogateescape"))
    return len(lines) - len(kept)


def _clean_copy(folder: Path, traces: Traces) -> int:
    """Delete stream, bank and state in `folder` if its slices have a document; returns the number
    of deleted files.
    """
    if not any(_names_a_document(path, traces) for path in folder.rglob("*.documents.parquet")):
        return 0
    parts = [folder / name for name in _COPIED if (folder / name).is_dir()]
    count = sum(path.is_file() for part in parts for path in part.rglob("*"))
    for part in parts:
        shutil.rmtree(part)
    return count


def _cached_by_dvc(root: Path, traces: Traces) -> list[Path]:
    """The slices in DVC's cache that have a document, or a question about one. `dvc repro` makes
    them again.
    """
    config = configparser.ConfigParser(strict=False, interpolation=None)
    with suppress(configparser.Error):  # DVC itself cannot read it
        config.read([root / ".dvc/config", root / ".dvc/config.local"])
    folder = root / ".dvc" / config.get("cache", "dir", fallback="cache")
    paths = []
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet and _names_a_document(path, traces):
            paths.append(path)
    return paths


def _names_a_document(path: Path, traces: Traces) -> bool:
    """Whether the column doc_id of a Parquet file has a document; True if the file cannot be
    read.
    """
    try:
        with pq.ParquetFile(path) as file:
            if "doc_id" not in file.schema_arrow.names:
                return False
            doc_ids = file.read(columns=["doc_id"])["doc_id"].to_pylist()
    except (pa.ArrowException, OSError, ValueError):
        return True
    return not traces.doc_ids.isdisjoint(doc_ids)


def _delete(path: Path) -> int:
    """Delete a file; returns 1, or 0 if there is none."""
    if not path.exists():
        return 0
    path.unlink()
    return 1
