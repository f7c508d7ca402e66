"""A project of a few kilobytes on its way through rounds, and its content."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers.utils.logging import disable_progress_bar

import cmt
from cmt.bank.bank import Bank
from cmt.bank.location import BankLocation
from cmt.bank.tables import connect, current_table, memory_tables, open_table
from cmt.config import load_params, written_sections
from cmt.lm.model import FrozenLM
from cmt.lm.weights import pull
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.loading import new_memory_model
from cmt.rounds.recompression import recompress
from cmt.workspace import Workspace
from tests.helpers.projects import name_champion, run_steps, save_other_compressor
from tests.helpers.rows import write_lines
from tests.helpers.tiny import write_folder

MONTHS = ("2031-01/0001", "2031-02/0001", "2031-03/0001")
PEOPLE = ("Moss", "Vell", "Tarn", "Oake", "Pryce", "Quill")
THINGS = ("mayor", "ferry", "crane", "mill", "bridge", "clock")
"""Subjects of the documents; each month has one document about each."""


@dataclass(frozen=True)
class Content:
    """The content of a project that two runs of the same commands share."""

    slices: tuple[tuple[str, str], ...]  # ids and digests
    forgotten: tuple[str, ...]
    rounds: tuple[
        tuple[Any, ...], ...
    ]  # id, compressor, number, rows and digest of each committed round
    banks: tuple[tuple[str, str], ...]  # table and digest
    answering: str | None


def build(folder: Path, *, documents: bool = True) -> Path:
    """Write a project after two of its three rounds, the memories of the third staged; returns its
    folder.

    Without `documents` it is empty.
    """
    # 1. A tiny LM, an untrained compressor, the parameters.
    disable_progress_bar()
    folder.mkdir(parents=True)
    sections = {
        "lm": {
            "source": f"path:{write_folder(folder / 'lm-source')}",
            "path": "lm",
            "dtype": "float32",
        },
        "compressor": {"path": "compressor", "layers": 1, "lora_rank": 2, "chunk_tokens": 64},
        "aggregator": {"blocks": 1, "lora_rank": 2},
        "alignment": {"slots": 2},
        "stream": {
            "source": "news",
            "path": "stream",
            "quarantine": "quarantine",
            "clock": "2032-01-01T00:00:00Z",
        },
        "bank": {"uri": "bank"},
        # one by one: with random weights most answers of a batch are near-ties, which would be
        # computed again
        "answering": {"max_new_tokens": 2, "batch_size": 1},
        "evaluation": {"questions": 1, "earlier_questions": 1, "baselines": False},
        "gate": {"canaries": 2},
        "promotion": {"duty_cycle": 1.0},
        "tracking": {"enabled": False},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(written_sections(sections)))
    params = load_params(folder / "params.yaml")
    lm = FrozenLM.load(pull(source=params.lm.source, path=params.lm.path), dtype="float32")
    new_memory_model(lm, CompressorConfig.of(params)).save(params.compressor.path)
    if not documents:
        return folder
    # 2. Three months of news.
    write_news(folder / "news", [document(month, thing) for month in (1, 2, 3) for thing in THINGS])
    write_news(folder / "more", [document(4, thing) for thing in THINGS])
    workspace = cmt.open(params=folder / "params.yaml")
    workspace.ingest()
    for slice_id in MONTHS[:2]:
        workspace.update(slice_id=slice_id)
    # 3. The staged memories of the third, so that a round need not compress.
    attempt = shutil.copytree(folder, folder.with_name(f"{folder.name}-attempt"))
    run_steps(cmt.open(params=attempt / "params.yaml"), MONTHS[2], last="compress")
    staged = Path("rounds") / MONTHS[2].replace("/", "-")
    place = workspace.project.state.relative_to(folder)
    shutil.copytree(
        attempt / place / staged,
        folder / place / staged,
        ignore=lambda _, names: [name for name in names if not name.startswith("memories-")],
    )
    shutil.rmtree(attempt)
    return folder


def with_other_compressor(source: Path, folder: Path) -> Path:
    """A copy of the project whose slices have rounds of two compressors; the other than the one in
    use answers.
    """
    shutil.copytree(source, folder)
    parameters = folder / "params.yaml"
    workspace = cmt.open(params=parameters)
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    save_other_compressor(workspace, folder / "other")
    other = cmt.open(params=parameters, overrides={"compressor.path": "other"})
    for slice_id in other.pending():
        other.update(slice_id=slice_id)
    return folder


def with_champion(source: Path, folder: Path, *, filled: bool) -> Path:
    """A copy of the project, all its rounds run, with another compressor as its champion.

    The champion's bank lacks the last slice; if it is `filled` it answers, and that of the
    compressor before it lacks the last slice.
    """
    shutil.copytree(source, folder)
    parameters = folder / "params.yaml"
    name_champion(folder)
    if filled:
        recompress(cmt.open(params=parameters).project, sleep=lambda _: None)
        cmt.open(params=parameters).update(slice_id=MONTHS[2])
    else:
        cmt.open(params=parameters).update(slice_id=MONTHS[2])
        other = cmt.open(params=parameters, overrides={"compressor.path": "new"})
        for slice_id in MONTHS[:2]:
            other.update(slice_id=slice_id)
    return folder


def document(month: int, thing: str, *, text: str = "", version: int = 0) -> dict[str, Any]:
    """The news of a month about a thing; from the second month on the mayor's document supersedes
    last month's.
    """
    person = PEOPLE[(month + THINGS.index(thing)) % len(PEOPLE)]
    return {
        "doc_id": f"{thing}-{month}",
        "published_at": f"2031-{month:02}-{3 + THINGS.index(thing) + 7 * version:02}T07:00:00Z",
        "text": text or f"{person} has the {thing} of month {month}.",
        "supersedes": f"{thing}-{month - 1}" if thing == "mayor" and month > 1 else None,
    }


def write_news(folder: Path, documents: Sequence[dict[str, Any]]) -> Path:
    """Write documents, and a question about each, as a source; returns its folder."""
    questions = [
        {
            "question_id": f"q-{row['doc_id']}",
            "doc_id": row["doc_id"],
            "asked_at": row["published_at"].replace("T07", "T19"),
            "question": f"Who has the {row['doc_id'].split('-')[0]}?",
            "answers": [row["text"].split()[0]],
        }
        for row in documents
    ]
    folder.mkdir(exist_ok=True)
    write_lines(folder / "documents.jsonl", documents)
    write_lines(folder / "questions.jsonl", questions)
    return folder


def opened(folder: Path) -> Workspace:
    """The project as a new process opens it."""
    return cmt.open(params=folder / "params.yaml")


def content(folder: Path) -> Content:
    """The content of the project."""
    workspace = opened(folder)
    location = BankLocation(workspace.params.bank.uri)
    connection = connect(location.uri)
    tables = [open_table(connection, name) for name in sorted(memory_tables(connection))]
    # not by open_bank, which may set the pointer
    banks = [Bank(location, connection, table) for table in tables if table is not None]
    committed = [
        round_ for round_ in workspace.project.ledger.rounds() if round_.state == "committed"
    ]
    return Content(
        slices=tuple(
            (slice_.slice_id, slice_.digest) for slice_ in workspace.project.store.slices()
        ),
        forgotten=tuple(workspace.project.history.forgotten()),
        rounds=tuple(
            (r.round_id, r.compressor, r.number, r.rows, r.bank_digest) for r in committed
        ),
        banks=tuple((bank.name, bank.digest()) for bank in banks),
        answering=current_table(connection),
    )


def problems(folder: Path) -> list[str]:
    """Everything that `cmt verify` finds."""
    return [problem for part in opened(folder).verify() for problem in part.problems]
