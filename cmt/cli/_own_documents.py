"""`cmt init DIR --from DATA`: a project with your documents, rounds of the newest ones, and
questions on them.
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa

import cmt
from cmt.answering.answer import Answer
from cmt.cli import output
from cmt.cli._new_project import write_project
from cmt.cli.context import CliContext, print_result
from cmt.common.progress import Progress
from cmt.common.secrets import has_secrets
from cmt.config import Column, SourceParams, StreamParams, sections_of
from cmt.errors import CmtError, ConfigError, StreamError
from cmt.sources.connector import Response, Setting
from cmt.sources.network import is_private
from cmt.sources.web import Web
from cmt.stream.admission.ingest import Options, ingest, source_paths
from cmt.stream.admission.report import IngestReport
from cmt.stream.limits import DEFAULT_LIMITS
from cmt.stream.periods import NEWEST_DOCUMENTS
from cmt.stream.readers.detection import detect
from cmt.stream.slices import Slice
from cmt.stream.store import SliceStore
from cmt.text.answers import same_value
from cmt.text.display import counted
from cmt.workspace import Workspace

if TYPE_CHECKING:
    from cmt.questions.plain import PlainQuestion

QUESTIONS = 3
NEWEST_SLICES = 8  # each takes a round, which takes seconds even for one document
_MAX_ASKED = 9  # questions; a small LM answers some of them wrongly
_SHOWN = 3  # reasons why no document was ingested
_NO_EVALUATION = {"evaluation.questions": 0, "evaluation.earlier_questions": 0}


@dataclass
class _Plan:
    """What a new project takes its documents from."""

    stream: dict[str, Any] = field(default_factory=dict)  # values of this section of params.yaml
    sources: list[dict[str, Any]] = field(default_factory=list)
    matched: str = ""  # see `IngestReport`
    notices: list[str] = field(default_factory=list)
    fetched: dict[str, Response] = field(default_factory=dict)  # see `Setting`


def start(
    context: CliContext,
    folder: Path,
    address: str,
    *,
    columns: Mapping[Column, str],
    published_at: str | None,
    as_json: bool,
) -> None:
    """Look at the data, make the project in `folder`, ingest the documents, adapt the newest ones,
    ask about them.

    Prints the result. If no document can be ingested, no project is left. Raises ConfigError,
    StreamError, ModelError.
    """
    if published_at is not None and "://" in address:
        raise ConfigError(
            f"--published-at is for files and folders, not for {address}: leave it out, or "
            "download the documents and name their folder"
        )
    with context.progress as progress:
        # 1. look at the data; params.yaml gets its columns
        progress.stage("look")
        plan = _plan(context, folder, address, columns, published_at)
        existed = folder.exists()
        files = write_project(
            folder, stream=plan.stream, sources=plan.sources, overrides=context.overrides
        )
        # 2. the LM and the documents
        try:
            workspace = cmt.open(params=files[0], overrides=_NO_EVALUATION)
            workspace.pull(on_progress=progress.at)
            progress.stage("ingest")
            summary, problems = _ingest(workspace, plan, published_at, progress)
        except (CmtError, OSError):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not existed:
                folder.rmdir()
            raise
        # 3. rounds of the newest documents, and questions on them
        newest, waiting = _newest(workspace)
        rounds = []
        for slice_ in newest:
            progress.title = slice_.slice_id
            rounds.append(workspace.update(slice_id=slice_.slice_id, progress=progress))
        progress.title = ""
        progress.stage("questions")
        answered = answered_questions(workspace, newest)
    # 4. print the result
    record: dict[str, Any] = {
        "path": folder,
        "files": files,
        "summary": summary,
        "matched": plan.matched,
        "notices": [*plan.notices, *problems],
        "sources": plan.sources,
        "rounds": rounds,
        "waiting": waiting,
    }
    questions = list[dict[str, Any]]()
    for made, answer in answered:
        shown = output.answer_json(answer, None)
        questions.append({"question": made.question, "expected": made.answer, **shown})
    print_result(
        record | {"questions": questions},
        lambda: _write_started(record, answered),
        as_json=as_json,
    )


def _plan(
    context: CliContext,
    folder: Path,
    address: str,
    columns: Mapping[Column, str],
    published_at: str | None,
) -> _Plan:
    """Look at the data. Raises ConfigError, and StreamError if none of it can be ingested."""
    params = StreamParams(**sections_of(context.overrides).get("stream", {}))
    if "://" in address:
        source, fetched = web_source(address, columns)
        return _Plan(sources=[source], fetched=fetched)
    seen = look(folder, address, params, columns=columns, published_at=published_at)
    plan, path = _Plan(matched=seen.matched, notices=[*seen.notices]), Path(address)
    own_path = os.path.relpath(path, folder)  # of params.yaml, so that both can be moved
    mapping = {"columns": {**seen.columns, **columns}} if seen.columns or columns else {}
    # of a folder an edited file becomes a new version, which needs the state of a source
    if path.is_dir() and not seen.questions and published_at is None:
        source = {"name": _source_name(path.absolute().name), "kind": "folder", "address": own_path}
        plan.sources.append(source | mapping)
    else:
        plan.stream = {"source": own_path} | mapping
    return plan


def _ingest(
    workspace: Workspace, plan: _Plan, published_at: str | None, progress: Progress
) -> tuple[str, list[str]]:
    """Ingest the documents; returns a summary and the first problems. Raises StreamError without
    any document.
    """
    if not plan.sources:
        taken = workspace.ingest(published_at=published_at, newest=True)
        return taken.summary(), taken.first_reasons(_SHOWN)
    report = workspace.sync(
        plan.sources[0]["name"], newest=True, fetched=plan.fetched, progress=progress
    )
    problems = report.problems[:_SHOWN]
    if not report.documents:
        raise StreamError("\n  ".join([f"{report.source}: no document can be taken", *problems]))
    if report.undated:
        problems.append(
            f"{counted(report.undated, 'document')} without a date: the time of the file counts; "
            "to correct it, write `date: 2031-02-15` into the front matter, or the date into the "
            "name of the file"
        )
    return report.summary(), problems


def _write_started(
    record: Mapping[str, Any], asked: "Sequence[tuple[PlainQuestion, Answer]]"
) -> None:
    """Print the counts, the questions with their answers, and the next commands."""
    output.write_line(f"{record['path']} has {' and '.join(file.name for file in record['files'])}")
    output.write_line(record["summary"])
    if record["matched"]:
        output.write_line(record["matched"], indent=2)
    output.write_lines(record["notices"], indent=2)
    documents = sum(round_.documents for round_ in record["rounds"])
    seconds = sum(round_.adapt_seconds for round_ in record["rounds"])
    output.write_line(f"{counted(documents, 'document')} adapted in {seconds:.1f} s", style="bold")
    output.write_line(
        "questions on them:" if asked else "no question could be made from them by rule"
    )
    for made, answer in asked:
        output.write_line(made.question, indent=2)
        output.write_short_answer(answer, indent=4)
    question = shlex.quote(asked[0][0].question) if asked else "'…'"
    commands = [f"cd {shlex.quote(str(record['path']))}", f"cmt ask {question}"]
    if record["waiting"]:
        commands.append(f"cmt update --all  # adapts the other {record['waiting']:,}")
    if record["sources"]:
        commands.append(
            "cmt sync && cmt update --all  # ingests and adapts new and changed documents"
        )
    output.write_line("next:")
    output.write_lines(commands, indent=2)


def web_source(
    address: str, columns: Mapping[Column, str]
) -> tuple[dict[str, Any], dict[str, Response]]:
    """An entry of the section `sources` of params.yaml for an address, and what was fetched of it.
    Raises ConfigError, and StreamError if it is not a page.
    """
    # 1. an address that a connector reads
    parts = urlsplit(address)
    host = parts.hostname or parts.path
    if has_secrets(address):
        raise ConfigError(
            "--from holds credentials: write ${NAME} in their place, and set the environment "
            "variable"
        )
    source: dict[str, Any] = {"name": _source_name(host), "kind": "remote", "address": address}
    source |= {"columns": dict(columns)} if columns else {}
    if parts.scheme not in ("http", "https"):
        if parts.scheme in fsspec.available_protocols():
            return source, {}
        raise ConfigError(
            f"--from reads files, folders, pages, feeds and object storage, not {parts.scheme}: "
            "run `cmt init` without --from and add a database to `sources` in params.yaml, see "
            "docs/sources.md"
        )
    # 2. the user may read a private host by naming it; a feed is recognised by its content
    try:
        private = host == "localhost" or is_private(host)
    except ValueError:  # a name, which is not looked up
        private = False
    source |= {"allow_private": True} if private else {}
    fetched = dict[str, Response]()
    if "*" not in address:
        setting = Setting(DEFAULT_LIMITS)
        url = setting.expand(address)
        fetched[url] = page = Web(SourceParams(**source), setting).get(url)
        source["kind"] = "feed" if detect(page.body, parts.path) == "feed" else "remote"
    return source, fetched


def _source_name(name: str) -> str:
    """A valid name of a source for a host or folder."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:64] or "source"


def answered_questions(
    workspace: Workspace, slices: Sequence[Slice]
) -> "list[tuple[PlainQuestion, Answer]]":
    """At most QUESTIONS questions on documents of `slices`, each on another one, which the bank
    answers.
    """
    from cmt.questions.readable import readable_questions
    from cmt.questions.word_knowledge import WordKnowledge

    # 1. questions of the source, or made ones
    made = readable_questions(
        pa.concat_tables(map(workspace.project.store.documents, slices)),
        pa.concat_tables(map(workspace.project.store.questions, slices)),
        limit=_MAX_ASKED,
        seed=workspace.params.seed,
        knowledge=WordKnowledge(workspace.project.lm),
    )
    if not made:
        return []
    # 2. keep the questions that the bank answers correctly, the most confident answers first
    answers = workspace.project.active.answerer().answer(
        [question.question for question in made], as_of=[None] * len(made)
    )
    right: list[tuple[PlainQuestion, Answer]] = []
    for question, answer in zip(made, answers, strict=True):
        if answer.known and same_value(question.answer, answer.text):
            right.append((question, answer))
    right.sort(key=lambda pair: (len(pair[0].answer) != len(pair[1].text), -pair[1].confidence))
    # 3. one question for each document
    best_of_document: dict[str, tuple[PlainQuestion, Answer]] = {}
    for question, answer in reversed(right):
        best_of_document[question.doc_id] = (question, answer)
    return list(reversed(best_of_document.values()))[:QUESTIONS]


def look(
    folder: Path,
    address: str,
    params: StreamParams,
    *,
    columns: Mapping[Column, str],
    published_at: str | None,
) -> IngestReport:
    """A dry run. Raises StreamError if it would take no document."""
    # a sync gives the time of the file to documents without a date
    undated = f"{params.now():%Y-%m-%d}" if Path(address).is_dir() else None
    seen = ingest(
        SliceStore(folder / "data/stream", folder / "data/quarantine"),
        source_paths([address]),
        columns=columns,
        published_at=published_at or undated,
        options=Options(params, dry_run=True),
    )
    if not seen.accepted:
        advice = "Parameters of the new project come first: cmt --set stream.day_first=true init …"
        reasons = [f"{reason}." for reason in seen.first_reasons(_SHOWN)]
        lines = [f"{address}: no document can be taken.", *reasons, advice]
        raise StreamError("\n  ".join(lines))
    return seen


def _newest(workspace: Workspace) -> tuple[list[Slice], int]:
    """The newest slices, at most NEWEST_SLICES and about NEWEST_DOCUMENTS; the number of documents
    in the others.
    """
    slices = [slice_ for slice_ in workspace.project.store.slices() if slice_.n_documents]
    count, size, most = 1, slices[-1].n_documents, min(len(slices), NEWEST_SLICES)
    while count < most and (size := size + slices[-count - 1].n_documents) <= NEWEST_DOCUMENTS:
        count += 1
    return slices[-count:], sum(slice_.n_documents for slice_ in slices[:-count])
