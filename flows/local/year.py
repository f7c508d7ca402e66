"""`make year`: the bundled newspaper month by month through a pipeline that adapts itself.

Months 1 to 3 are adapted with the shipped compressor. A schedule starts `cmt/retrain` on them; the
round of month 4 decides on the challenger; a promotion starts `cmt/recompress`, while `cmt serve`
answers. Months 5 to 8 are adapted with what answers then. At the end all questions of these months
are asked of both compressors. Everything runs on a Prefect server and worker of its own and in
`data/year`; its compressor is never shipped.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import httpx
import numpy as np
import torch
import typer
import yaml

from cmt.cli.context import run_script
from cmt.cli.output import console, write_table
from cmt.common.plots import month_curve
from cmt.common.storage import read_json, write_json
from cmt.config import load_params, written_sections
from cmt.errors import ServiceError
from cmt.evaluation.evaluate import evaluate
from cmt.evaluation.metrics import Floats, paired_bootstrap
from cmt.evaluation.round_records import is_own, read_records
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.champion import read_champion
from cmt.rounds.promotion import DECISION_FILE
from cmt.training.sources import pull_sources
from cmt.workspace import Workspace, open
from flows.local.prefect import LocalPrefect, free_port, local_prefect

ROOT = Path(__file__).parents[2]
YEAR, HOME = ROOT / "data/year", ROOT / ".prefect/year"
UPDATE, RETRAIN, RECOMPRESS = "cmt/online-update", "cmt/retrain", "cmt/recompress"
LEARNED = 3  # months that are trained on; the next one decides
PAIRS = 960  # question-answer pairs of the training, half of them of the base data
SCORED = 50  # questions of the held-out evaluation after the training; the decision asks more


def main(
    base: Annotated[
        str,
        typer.Option(
            help="The base data: replayed in the training, and its held-out articles in the "
            "decision."
        ),
    ] = "hub:rajpurkar/squad",
) -> None:
    """Run the year, print its table, and write metrics/year.json and plots/year.png."""
    started = time.monotonic()
    project = write_project(base)
    months = sorted((YEAR / "news").iterdir())
    with local_prefect(root=ROOT, home=HOME, params=project) as prefect:
        # 1. The first months, the training, and the month that decides.
        for month in months[:LEARNED]:
            prefect.run(UPDATE, source=str(month))
        prefect.schedule(RETRAIN, limit=SCORED)
        prefect.await_run(RETRAIN)
        prefect.run(UPDATE, source=str(months[LEARNED]))
        # 2. The recompression that the promotion starts.
        recompressed = _recompress(prefect, project)
        # 3. The later months.
        for month in months[LEARNED + 1 :]:
            prefect.run(UPDATE, source=str(month))
    # 4. Both compressors on the later months.
    f1, shipped = _f1_by_month(project)
    record = _record(open(params=project), f1, shipped, recompressed)
    record["seconds"] = round(time.monotonic() - started, 1)
    write_json(ROOT / "metrics/year.json", record)
    _show(record)


def write_project(base: str) -> Path:
    """Write the project in `data/year`, and the months of the newspaper as sources; returns its
    params.yaml.
    """
    shutil.rmtree(YEAR, ignore_errors=True)
    params = load_params(ROOT / "params.yaml").model_dump(mode="json")
    source = Path(params["stream"]["source"])
    params["stream"] |= {"source": "news", "path": "stream", "quarantine": "quarantine"}
    params["bank"] |= {"uri": "data/bank"}
    if base.startswith("path:"):  # relative to here, not to the project
        base = f"path:{Path(base.removeprefix('path:')).resolve()}"
    params["train"] |= {
        "source": "stream",
        "mix": {base: 1.0},
        "path": "train",
        "output": "trained",
    }
    params["train"] |= {
        "questions": PAIRS,
        "learning_rate": 3e-4,
        "warmup_steps": 10,
        "unanswerable_per_paragraph": 1,
    }
    params["train"] |= {"window_frequencies": {1: 0.5, 4: 0.5}, "validation_articles": 8}
    params["evaluation"] |= {"questions": 30, "earlier_questions": 10}
    # an interval of so few questions excludes no loss of 1; the recompression may use the whole
    # machine
    params["promotion"] |= {"questions": 250, "max_loss": 3.0, "duty_cycle": 1.0}
    params["tracking"] |= {"enabled": True, "uri": "sqlite:///mlflow.db", "experiment": "year"}
    YEAR.mkdir(parents=True)
    project = YEAR / "params.yaml"
    project.write_text(yaml.safe_dump(written_sections(params)))
    for name, date in (("documents", "published_at"), ("questions", "asked_at")):
        for line in (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            month = YEAR / "news" / json.loads(line)[date][:7]
            month.mkdir(parents=True, exist_ok=True)
            with (month / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    workspace = open(params=project)
    workspace.pull()
    pull_sources(workspace.params.train)
    return project


def _recompress(prefect: LocalPrefect, project: Path) -> dict[str, Any]:
    """Wait for the recompression while questions are answered; zeros if the challenger was
    refused.
    """
    counts: dict[str, Any] = {
        "documents": 0,
        "seconds": 0.0,
        "answered_meanwhile": 0,
        "wrong_version": 0,
    }
    workspace = open(params=project)
    if read_champion(workspace.project.state) is None:
        return counts
    began = time.monotonic()
    with _asking(workspace) as compressors:
        prefect.await_run(RECOMPRESS)
        counts["seconds"] = round(time.monotonic() - began, 1)
        counts["answered_meanwhile"] = len(compressors)
        time.sleep(5)  # some more answers, from the new bank
    known = workspace.project.active.pointer
    first_new = compressors.index(known) if known in compressors else len(compressors)
    counts["wrong_version"] = sum(name != known for name in compressors[first_new:])
    counts["documents"] = sum(slice_.n_documents for slice_ in workspace.project.store.slices())
    return counts


@contextmanager
def _asking(workspace: Workspace) -> Iterator[list[str]]:
    """Ask a server one question after the other meanwhile; yields the compressors that the answers
    name.
    """
    port, stop, compressors = free_port(), Event(), list[str]()
    command = [
        sys.executable,
        "-m",
        "cmt",
        "--params",
        str(workspace.project.root / "params.yaml"),
        "serve",
    ]
    with (HOME / "serve.log").open("wb") as log:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)  # noqa: S603
    questions = workspace.project.store.all_questions()["question"].to_pylist()

    def ask() -> None:
        for question in cycle(questions):
            if stop.is_set():
                return
            try:
                compressors.append(_answered_by(port, question))
            except httpx.ConnectError:  # the server is starting
                time.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield compressors
        finally:
            stop.set()
            wait([asking])
            server.send_signal(signal.SIGINT)
            server.wait(30)
        asking.result()  # raises the error that ended the thread


def _answered_by(port: int, question: str) -> str:
    """The compressor whose bank answers. Raises ConnectError if no server listens, ServiceError if
    it refuses.
    """
    reply = httpx.post(
        f"http://127.0.0.1:{port}/ask", json={"question": question}, timeout=60, trust_env=False
    )
    if reply.is_error:
        raise ServiceError(
            f"the server of the year answered {question!r} with {reply.status_code}: "
            f"{reply.text[:200]}"
        )
    return str(reply.json()["compressor"])


def _f1_by_month(project: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """F1 (n,) in points of questions of each slice: of the compressor that answers, and of the
    shipped one.

    Up to the month that decides these are the questions that its round asked of the shipped
    compressor, later all questions, asked of both. Each compressor gets a process with half of the
    cores.
    """
    workspace = open(params=project)
    rounds = {
        round_.slice_id: round_
        for round_ in reversed(workspace.project.history.all_rounds())
        if round_.questions
    }
    shipped: dict[str, Floats] = {}
    for name in _slices(workspace)[: LEARNED + 1]:
        records = read_records(workspace.project, rounds[name])
        if records is None:
            raise ServiceError(f"the answers of round {name} are gone: run `make year` again")
        shipped[name] = (
            100
            * records.filter(is_own(workspace.project, rounds[name], records))["cmt_f1"].to_numpy()
        )
    folders = list(
        dict.fromkeys(
            [workspace.project.declared.compressor.path, workspace.params.compressor.path]
        )
    )
    threads = max(1, torch.get_num_threads() // len(folders))
    with ProcessPoolExecutor(
        len(folders), get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        later = list(pool.map(_ask_later_months, [project] * len(folders), folders))
    return shipped | later[-1], shipped | later[0]


def _slices(workspace: Workspace) -> list[str]:
    return [slice_.slice_id for slice_ in workspace.project.store.slices()]


def _ask_later_months(project: Path, folder: Path) -> dict[str, Floats]:
    """Ask the compressor in `folder` all questions of the months after the one that decides, from
    all documents.
    """
    workspace = open(params=project)
    store, params = workspace.project.store, workspace.params
    documents = store.all_documents()
    bank = TemporaryBank.of(
        folder, lm=workspace.project.lm, documents=documents, params=params, as_in_use=True
    )
    f1: dict[str, Floats] = {}
    with bank.answerer() as answerer:
        for name in _slices(workspace)[LEARNED + 1 :]:
            evaluation = evaluate(answerer, store.questions(store.slice(name)))
            f1[name] = 100 * evaluation.records["cmt_f1"].to_numpy()
    return f1


def _record(
    workspace: Workspace,
    f1: dict[str, Floats],
    shipped: dict[str, Floats],
    recompressed: dict[str, Any],
) -> dict[str, Any]:
    """The content of metrics/year.json."""
    slices, seed = list(f1), workspace.params.seed
    adapted = {
        round_.slice_id: round_.compressor
        for round_ in workspace.project.history.all_rounds()
        if round_.questions
    }
    months = [
        {
            "slice": name,
            "champion": adapted[name][:12],
            "f1": round(float(f1[name].mean()), 2),
            "f1_shipped": round(float(shipped[name].mean()), 2),
        }
        for name in slices
    ]
    later = slices[LEARNED + 1 :]
    adapted_f1, shipped_f1 = (np.concatenate([of[name] for name in later]) for of in (f1, shipped))
    documents = [
        doc_id
        for name in later
        for doc_id in workspace.project.store.questions(workspace.project.store.slice(name))[
            "doc_id"
        ].to_pylist()
    ]
    gain = paired_bootstrap(adapted_f1, shipped_f1, documents, seed=seed)
    decision = read_json(workspace.project.state / DECISION_FILE, dict[str, Any])
    figures = decision["figures"]
    return {
        "months": months,
        "decision": {
            "promoted": decision["promoted"],
            "gain": round(figures["gain"][0], 2),
            "ci": [round(value, 2) for value in figures["gain"][1:]],
            "base_loss": round(-figures["base_gain"][0], 2),
            "reason": decision["reason"],
        },
        "later": {
            "gain": round(gain.mean, 2),
            "ci": [round(gain.low, 2), round(gain.high, 2)],
            "n": sum(len(f1[name]) for name in later),
        },
        "recompress": recompressed,
    }


def _show(record: dict[str, Any]) -> None:
    """Print the months and the decision, and draw the picture."""
    rows = [
        [month[name] for name in ("slice", "champion", "f1_shipped", "f1")]
        for month in record["months"]
    ]
    write_table(["slice", "adapted by", "F1 shipped", "F1 with retraining"], rows, left=2)
    later = record["later"]
    out = console()
    out.print(f"decision: {record['decision']['reason']}", soft_wrap=True)
    low, high = later["ci"]
    out.print(
        f"later months, {later['n']} questions: {later['gain']:+.1f} F1 ({low:+.1f} to {high:+.1f})"
    )
    out.print(f"metrics/year.json and plots/year.png written; {record['seconds']:.0f} s")
    month_curve(months=record["months"], path=ROOT / "plots/year.png")


if __name__ == "__main__":
    run_script(main)
