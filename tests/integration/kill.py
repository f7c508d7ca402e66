"""`make kill`: SIGKILL `cmt update --all` at random moments, go on each time, and end as if nothing had happened.

A moment is a stage, drawn by WEIGHTS so that short stages are hit as well, and a share of the time that the stage took
undisturbed. The stream is the bundled one with a few articles a month; LM and compressor are the project's own.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import cmt
from cmt.errors import BankError
from cmt.workspace import Workspace

ROOT = Path(__file__).parents[2]
ARTICLES, QUESTIONS = 5, 2  # articles a month; questions an article
WEIGHTS = {"start": 4, "open": 3, "compress": 4, "bank": 4, "evaluate": 4, "decide": 4}
# a line on stderr says that a stage is done
DONE = re.compile(r"(?:\S+ )?(load|open|compress|bank|evaluate|decide): ")
AFTER = {"load": "open", "open": "compress", "compress": "bank", "bank": "evaluate", "evaluate": "decide"}


@dataclass
class Update:
    """`cmt update --all` at work, in a process group of its own."""

    params: Path
    stage: str = "start"
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "cmt", "--params", str(self.params), "update", "--all"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def stages(self) -> Iterator[str]:
        """Each stage when it begins, until the command ends or is killed."""
        assert self.process.stderr
        yield self.stage
        for line in self.process.stderr:
            self.lines.append(line)
            if done := DONE.match(line):
                self.stage = AFTER.get(done[1], "open")
                yield self.stage

    def finish(self) -> None:
        """Let it go through; its error is the end of this run, too."""
        for _ in self.stages():
            pass
        if self.process.wait() != 0:
            sys.exit(f"cmt update failed:\n{''.join(self.lines)}")

    def kill(self) -> str:
        """SIGKILL the group; the stage that was hit, "" when the command had ended before."""
        os.killpg(self.process.pid, signal.SIGKILL)
        for _ in self.stages():  # whose lines were still on their way
            pass
        return self.stage if self.process.wait() == -signal.SIGKILL else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    how = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        params = write_project(Path(folder), how.params)
        workspace = cmt.open(params=params)
        workspace.pull()
        workspace.ingest()
        durations = undisturbed(params)
        expected = outcome(workspace)
        print(f"undisturbed: {len(expected['rounds'])} rounds, {expected['rows']} rows", flush=True)
        fresh(workspace)
        source = random.Random(how.seed)
        hit = kill_and_go_on(params, kills=how.kills, source=source, durations=durations, end=expected)
        found = outcome(workspace)
    for name in [name for name in found if found[name] != expected[name]]:
        print(f"{name}: undisturbed {expected[name]}, with kills {found[name]}")
    counts = ", ".join(f"{hit[stage]} {stage}" for stage in (*WEIGHTS, "end") if hit[stage])
    print(f"{hit.total()} kills: {counts} – {'digest equal' if found == expected else 'DIFFERENT'}")
    sys.exit(int(found != expected))


def write_project(folder: Path, base: Path) -> Path:
    """A project with the base's LM and compressor, a stream, a bank and a state of its own; its params.yaml."""
    params = cmt.load_params(base).model_dump(mode="json")
    write_stream(Path(params["stream"]["source"]), folder / "news")
    params["stream"] |= {"source": "news", "path": "stream", "quarantine": "quarantine", "period": "month"}
    params["bank"] |= {"uri": "bank"}
    params["evaluation"] |= {"baselines": False, "earlier_questions": 10}
    params["tracking"] |= {"enabled": False}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder / "params.yaml"


def write_stream(source: Path, to: Path) -> None:
    """A few articles of each month, those that supersede each other first, and questions on them."""
    documents, questions = (read_lines(source / f"{name}.jsonl") for name in ("documents", "questions"))
    stories = {d["doc_id"] for d in documents if d["supersedes"]} | {d["supersedes"] for d in documents}
    months = defaultdict(list)
    for document in sorted(documents, key=lambda d: d["doc_id"] not in stories):
        months[document["published_at"][:7]].append(document)
    kept = [document for month in months.values() for document in month[:ARTICLES]]
    asked = defaultdict(list)
    for question in questions:
        asked[question["doc_id"]].append(question)
    to.mkdir()
    write_lines(to / "documents.jsonl", kept)
    write_lines(to / "questions.jsonl", [q for d in kept for q in asked[d["doc_id"]][:QUESTIONS]])


def undisturbed(params: Path) -> dict[str, float]:
    """Seconds that each stage takes when nobody disturbs it, in its shortest round."""
    seconds: dict[str, list[float]] = defaultdict(list)
    began, before, update = time.perf_counter(), "", Update(params)
    for stage in update.stages():
        now = time.perf_counter()
        if before:
            seconds[before].append(now - began)
        began, before = now, stage
    update.finish()
    return {stage: min(found) for stage, found in seconds.items()}


def kill_and_go_on(
    params: Path, *, kills: int, source: random.Random, durations: dict[str, float], end: dict[str, Any]
) -> Counter[str]:
    """Kill until enough kills have hit, then let one go through; how many hit which stage."""
    workspace, hit = cmt.open(params=params), Counter[str]()
    while hit.total() < kills:
        left = len(end["rounds"]) - committed(workspace)
        if not left:
            if outcome(workspace) != end:
                return hit
            fresh(workspace)
            continue
        [target] = source.choices(list(WEIGHTS), list(WEIGHTS.values()))
        passed, delay = source.randrange(min(left, 3)), source.random() * durations[target]
        if target == "compress" and staged(workspace) and left > 1:
            passed = max(1, passed)  # the first round has its memories already
        if stage := kill_in(Update(params), target=target, passed=passed, delay=delay, workspace=workspace):
            done = committed(workspace)
            hit["end" if done == len(end["rounds"]) else stage] += 1
            print(f"kill {hit.total()}: {stage}, {done} rounds committed", flush=True)
    Update(params).finish()
    return hit


def kill_in(update: Update, *, target: str, passed: int, delay: float, workspace: Workspace) -> str:
    """Kill `delay` seconds into the stage `target` of the round after `passed` others; the stage that was hit."""
    rounds = 0
    for stage in update.stages():
        if stage == target and (rounds >= passed or target == "start"):
            time.sleep(delay)
            hit = update.kill()
            return "bank" if hit == "compress" and staged(workspace) else hit
        rounds += stage == "decide"
    update.finish()
    return ""


def staged(workspace: Workspace) -> bool:
    """Whether memories lie ready to be banked: those of an interrupted round are not compressed again."""
    return any((workspace.state / "rounds").rglob("memories-*"))


def committed(workspace: Workspace) -> int:
    """Rounds that are done."""
    try:
        return sum(round_.state == "committed" for round_ in workspace.ledger.rounds())
    except BankError:
        return 0


def outcome(workspace: Workspace) -> dict[str, Any]:
    """What must not depend on kills."""
    fresh_look = Workspace(workspace.params, workspace.root)
    bank, rounds = fresh_look.stored_bank, fresh_look.ledger.rounds()
    return {
        "digest": bank.digest(),
        "rows": bank.count_rows(),
        "problems": bank.verify(),
        "rounds": [(r.round_id, r.number, r.state, r.documents, r.rows, r.bank_digest, r.scores) for r in rounds],
    }


def fresh(workspace: Workspace) -> None:
    """Away with bank and state."""
    for place in (Path(workspace.params.bank.uri), workspace.state):
        shutil.rmtree(place)
    for name in ("stored_bank", "ledger"):
        workspace.__dict__.pop(name, None)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
