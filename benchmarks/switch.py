"""Questions over HTTP while another compressor takes over: what fails, what is from neither, and how long it takes.

    python benchmarks/switch.py
    python benchmarks/switch.py --questions 400 --clients 8

A project in a temporary folder adapts the first months of the newspaper with the shipped compressor; a copy of it with
a digest of its own becomes the champion, and `cmt recompress` fills its bank but for the last slice. Then QUESTIONS are
asked of `cmt serve` by CLIENTS at once, and as many again while the rest of the recompression runs in another process
and the pointer moves. Writes metrics/switch.json = {"questions", "failed", "from_neither", "back", "p99_before",
"p99_during", "ratio"}: "back" counts answers of the old compressor after one of the new one to the same client, and the
times are seconds.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml

import cmt
from cmt.cli.context import run_script
from cmt.config import load_params
from cmt.errors import ServiceError
from cmt.modeling.champion import Champion, Promoted, keep_compressor, write_champion
from cmt.modeling.checkpoint import checkpoint_digest, digest_in_use
from cmt.workspace import Workspace

ROOT = Path(__file__).parents[1]
UNTIL = "2031-03"
"""The last month that is ingested."""
PORT = 8571
START_SECONDS = 180


@dataclass(frozen=True)
class Reply:
    """What came back for a question."""

    seconds: float
    compressor: str
    """"" if it failed."""


def main(
    questions: Annotated[int, typer.Option(min=1, help="Asked before, and asked while the pointer moves.")] = 200,
    clients: Annotated[int, typer.Option(min=1, help="At once.")] = 4,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = ROOT / "metrics/switch.json",
) -> None:
    """Measure answers before and while another compressor takes over."""
    with tempfile.TemporaryDirectory() as name:
        workspace = _project(Path(name))
        texts = workspace.store.all_questions()["question"].to_pylist()
        asked = [texts[number % len(texts)] for number in range(questions)]
        old = workspace.compressor_digest[:12]
        command = [sys.executable, "-m", "cmt", "--params", str(Path(name) / "params.yaml")]
        server = subprocess.Popen([*command, "serve", "--port", str(PORT)], stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            _await_server()
            before = _ask(asked, clients)
            moving = subprocess.Popen([*command, "--set", "promotion.duty_cycle=1", "recompress"])  # noqa: S603
            during = _ask(asked, clients)
            while moving.poll() is None:
                during = [mine + more for mine, more in zip(during, _ask(asked[:clients], clients), strict=True)]
            during = [mine + more for mine, more in zip(during, _ask(asked[:clients], clients), strict=True)]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
        new = cmt.open(params=Path(name) / "params.yaml").compressor_digest[:12]
        if moving.returncode or new == old:
            raise ServiceError("the recompression failed")
    replies = [reply for client in during for reply in client]
    p99 = [float(np.percentile([r.seconds for r in rows], 99)) for rows in (sum(before, []), replies)]
    result = {
        "questions": len(replies),
        "failed": sum(not reply.compressor for reply in replies),
        "from_neither": sum(reply.compressor not in (old, new, "") for reply in replies),
        "back": sum(a.compressor == new and b.compressor == old for rows in during for a, b in pairwise(rows)),
        "p99_before": round(p99[0], 3),
        "p99_during": round(p99[1], 3),
        "ratio": round(p99[1] / p99[0], 2),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


def _project(folder: Path) -> Workspace:
    """The newspaper's first months, adapted, and a champion whose bank lacks the last of them."""
    params = load_params(ROOT / "params.yaml").model_dump(mode="json")
    params["stream"] |= {"path": "stream", "quarantine": "quarantine"}
    params["bank"] |= {"uri": "data/bank"}
    params["tracking"] |= {"enabled": False}
    params["gate"] |= {"canaries": 0}
    params["evaluation"] |= {"questions": 0, "earlier_questions": 0}
    source = Path(params["stream"]["source"])
    params["stream"]["source"] = "news"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    # 1. The months.
    (folder / "news").mkdir()
    for name, date in (("documents", "published_at"), ("questions", "asked_at")):
        lines = (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        first = [line for line in lines if json.loads(line)[date][:7] <= UNTIL]
        (folder / "news" / f"{name}.jsonl").write_text("\n".join(first) + "\n", encoding="utf-8")
    workspace = cmt.open(params=folder / "params.yaml")
    workspace.ingest()
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    # 2. The champion, with all months but the last.
    old = workspace.params.compressor.path
    new = Path(shutil.copytree(old, folder / "new"))
    with (new / "config.json").open("a") as file:
        file.write("\n")
    (new / "SHA256SUMS").unlink()
    champion = cmt.open(params=folder / "params.yaml", overrides={"compressor.path": str(new)})
    for slice_id in champion.pending()[:-1]:
        champion.update(slice_id=slice_id)
    write_champion(workspace.state, Champion(_promoted(workspace, new), _promoted(workspace, old)))
    return workspace


def _promoted(workspace: Workspace, folder: Path) -> Promoted:
    """The compressor in `folder`, kept by the project."""
    keep_compressor(workspace.state, folder)
    bank = digest_in_use(folder, window=workspace.params.compressor.window)[:12]
    return Promoted(checkpoint_digest(folder), bank)


def _ask(questions: Sequence[str], clients: int) -> list[list[Reply]]:
    """The replies to each client, who share `questions`."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda start: [_reply(q) for q in questions[start::clients]], range(clients)))


def _reply(question: str) -> Reply:
    began, compressor = time.perf_counter(), ""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request("POST", "/ask", json.dumps({"question": question}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status == 200:
            compressor = json.loads(response.read())["compressor"]
    except OSError:
        pass
    finally:
        connection.close()
    return Reply(time.perf_counter() - began, compressor)


def _await_server() -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _reply("Are you there?").compressor:
        if time.monotonic() > deadline:
            raise ServiceError(f"no answer on port {PORT} within {START_SECONDS} s")
        time.sleep(0.5)


if __name__ == "__main__":
    run_script(main)
