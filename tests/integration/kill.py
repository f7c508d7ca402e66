"""`make kill`: SIGKILL `cmt update --all` at random moments, repeat it, and compare with an undisturbed run.

A moment is a stage, drawn with WEIGHTS so that short stages are hit as well, and a share of the time that the stage
takes undisturbed. The stream is the bundled one with a few articles per month; LM and compressor are the project's.

Every update is a process of its own. It is forked from a server that has imported torch and transformers and has run
nothing, because importing them takes longer than a tiny update.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

import cmt
from cmt.errors import BankError
from cmt.workspace import Workspace
from tests.helpers.banks import problems

ROOT = Path(__file__).parents[2]
ARTICLES, QUESTIONS = 5, 2  # articles per month, questions per article
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["cmt.lm.model", "cmt.modeling.model"])  # not lancedb, which does not survive a fork
WEIGHTS = {"start": 4, "open": 3, "compress": 4, "choose": 4, "bank": 4, "evaluate": 4, "canaries": 4, "decide": 4}
# The line on stderr that reports the end of a stage.
DONE = re.compile(r"(?:\S+ )?(load|open|compress|choose|bank|evaluate|canaries|decide): ")
AFTER = dict(pairwise(("load", "open", "compress", "choose", "bank", "evaluate", "canaries", "decide")))


@dataclass
class Update:
    """A running `cmt update --all`, a process in its own session."""

    params: Path
    stage: str = "start"
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        reader, writer = PROCESSES.Pipe(duplex=False)
        self.stderr = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        arguments = ["--params", str(self.params), "update", "--all"]
        self.process = PROCESSES.Process(target=run_cmt, args=(arguments, writer))
        self.process.start()
        writer.close()

    def stages(self) -> Iterator[str]:
        """Yield each stage when it begins, until the command ends or is killed."""
        yield self.stage
        for line in self.stderr:
            self.lines.append(line)
            if match := DONE.match(line):
                self.stage = AFTER.get(match[1], "open")
                yield self.stage

    def finish(self) -> None:
        """Wait for the end of the command; exit with its output if it fails."""
        for _ in self.stages():
            pass
        self.process.join()
        if self.process.exitcode != 0:
            sys.exit(f"cmt update failed:\n{''.join(self.lines)}")

    def kill(self) -> str:
        """SIGKILL the process; returns the stage that was hit, "" if the command had already ended."""
        self.process.kill()
        for _ in self.stages():  # lines that were written before the kill
            pass
        self.process.join()
        return self.stage if self.process.exitcode == -signal.SIGKILL else ""


def run_cmt(arguments: list[str], stderr: Connection) -> None:
    """Run `cmt` with `arguments` in this process, its stderr in a pipe."""
    from cmt.cli.main import main

    os.setsid()
    os.chdir(ROOT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.argv = ["cmt", *arguments]
    main()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        params = write_project(Path(folder), options.params)
        workspace = cmt.open(params=params)
        workspace.pull()
        workspace.ingest()
        durations = undisturbed(params)
        expected = outcome(workspace)
        print(f"undisturbed: {len(expected['rounds'])} rounds, {expected['rows']} rows", flush=True)
        delete_bank(workspace)
        source = random.Random(options.seed)
        hits = kill_and_repeat(params, kills=options.kills, source=source, durations=durations, expected=expected)
        result = outcome(workspace)
    for name in [name for name in result if result[name] != expected[name]]:
        print(f"{name}: undisturbed {expected[name]}, with kills {result[name]}")
    counts = ", ".join(f"{hits[stage]} {stage}" for stage in (*WEIGHTS, "end") if hits[stage])
    print(f"{hits.total()} kills: {counts} – {'digest equal' if result == expected else 'DIFFERENT'}")
    sys.exit(int(result != expected))


def write_project(folder: Path, base: Path) -> Path:
    """Write a project with LM and compressor of `base` and its own stream, bank and state; returns its params.yaml."""
    params = cmt.load_params(base).model_dump(mode="json")
    write_stream(Path(params["stream"]["source"]), folder / "news")
    params["stream"] |= {"source": "news", "path": "stream", "quarantine": "quarantine", "period": "month"}
    params["bank"] |= {"uri": "bank"}
    params["evaluation"] |= {"baselines": False, "earlier_questions": 10}
    params["tracking"] |= {"enabled": False}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder / "params.yaml"


def write_stream(source: Path, to: Path) -> None:
    """Write a few articles per month, those that take part in a supersession first, and questions on them."""
    documents, questions = (read_lines(source / f"{name}.jsonl") for name in ("documents", "questions"))
    linked = {row["doc_id"] for row in documents if row["supersedes"]} | {row["supersedes"] for row in documents}
    months = defaultdict(list)
    for document in sorted(documents, key=lambda row: row["doc_id"] not in linked):
        months[document["published_at"][:7]].append(document)
    selected = [document for month in months.values() for document in month[:ARTICLES]]
    asked = defaultdict(list)
    for question in questions:
        asked[question["doc_id"]].append(question)
    to.mkdir()
    write_lines(to / "documents.jsonl", selected)
    write_lines(to / "questions.jsonl", [row for document in selected for row in asked[document["doc_id"]][:QUESTIONS]])


def undisturbed(params: Path) -> dict[str, float]:
    """Run all rounds; returns the seconds of each stage in its shortest round."""
    seconds: dict[str, list[float]] = defaultdict(list)
    began, before, update = time.perf_counter(), "", Update(params)
    for stage in update.stages():
        now = time.perf_counter()
        if before:
            seconds[before].append(now - began)
        began, before = now, stage
    update.finish()
    return {stage: min(measured) for stage, measured in seconds.items()}


def kill_and_repeat(
    params: Path, *, kills: int, source: random.Random, durations: dict[str, float], expected: dict[str, Any]
) -> Counter[str]:
    """Kill updates until `kills` of them hit a stage, then finish one; returns the number of hits per stage."""
    workspace, hits = cmt.open(params=params), Counter[str]()
    while hits.total() < kills:
        left = len(expected["rounds"]) - committed(workspace)
        if not left:
            if outcome(workspace) != expected:
                return hits
            delete_bank(workspace)
            continue
        [target] = source.choices(list(WEIGHTS), list(WEIGHTS.values()))
        passed, delay = source.randrange(min(left, 3)), source.random() * durations[target]
        if target == "compress" and staged(workspace) and left > 1:
            passed = max(1, passed)  # the memories of the first round are already staged
        if stage := kill_in(Update(params), target=target, passed=passed, delay=delay, workspace=workspace):
            done = committed(workspace)
            hits["end" if done == len(expected["rounds"]) else stage] += 1
            print(f"kill {hits.total()}: {stage}, {done} rounds committed", flush=True)
    Update(params).finish()
    return hits


def kill_in(update: Update, *, target: str, passed: int, delay: float, workspace: Workspace) -> str:
    """Kill `delay` seconds into the stage `target`, after `passed` complete rounds; returns the stage that was hit."""
    rounds = 0
    for stage in update.stages():
        if stage == target and (rounds >= passed or target == "start"):
            time.sleep(delay)
            hit = update.kill()
            return "choose" if hit == "compress" and staged(workspace) else hit
        rounds += stage == "decide"
    update.finish()
    return ""


def staged(workspace: Workspace) -> bool:
    """Whether memories of an interrupted round are staged; they are not compressed again."""
    return any((workspace.state / "rounds").rglob("memories-*"))


def committed(workspace: Workspace) -> int:
    """Number of committed rounds."""
    try:
        return sum(round_.state == "committed" for round_ in workspace.ledger.rounds())
    except BankError:
        return 0


def outcome(workspace: Workspace) -> dict[str, Any]:
    """The state of bank and ledger that kills must not change, read as a new process does."""
    reopened = Workspace(workspace.params, workspace.root)
    bank, rounds = reopened.open_bank(), reopened.ledger.rounds()
    return {
        "digest": bank.digest(),
        "rows": bank.count_rows(),
        "problems": problems(bank),
        "rounds": [
            (r.round_id, r.number, r.state, r.judgement, r.canaries, r.documents, r.rows, r.bank_digest, r.scores)
            for r in rounds
        ],
    }


def delete_bank(workspace: Workspace) -> None:
    """Delete bank and state."""
    for place in (Path(workspace.params.bank.uri), workspace.state):
        shutil.rmtree(place)
    for name in ("_connection", "ledger"):
        workspace.__dict__.pop(name, None)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
