"""Bars of the language model and the compressor, on the bundled newspaper; `benchmarks/bench.py`
runs them.
"""

import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from protocol import (
    ROOT,
    TRAINED_RAG,
    TRAINED_WAYS,
    Bar,
    Sample,
    data_of,
    first_token,
    spread,
    timed,
    trained_rag_ways,
)
from rich.console import Console
from rich.progress import track

import cmt
from cmt.answering.answerer import Answerer
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.errors import ServiceError
from cmt.evaluation import systems
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.metrics import mark
from cmt.evaluation.systems import SystemRun
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.workspace import Workspace

NEWSPAPER = ROOT / "data/courier"
QUESTIONS, ASKED_AT_ONCE = 160, 32
FIRST_TOKENS = 25  # questions whose first token is timed
CLIENTS, ASKED_BY_CLIENT = 16, 6
WIDEST = 16  # tokens a vector
Way = tuple[systems.System, ComparisonData]


@cache
def workspace() -> Workspace:
    """The project with the shipped compressor."""
    return cmt.open(params=ROOT / "params.yaml")


@cache
def newspaper() -> Sample:
    """All articles, and some of their questions."""
    return Sample.draw(NEWSPAPER, documents=10**6, questions=QUESTIONS, seed=0)


@cache
def compressed(folder: Path | None = None) -> TemporaryBank:
    """The articles, compressed by the shipped compressor or the one in `folder`."""
    params, documents = workspace().params.without_abstention(), newspaper().documents
    return TemporaryBank.of(
        folder or params.compressor.path,
        lm=workspace().project.lm,
        documents=documents,
        params=params,
    )


def bar_3() -> Iterator[Bar]:
    """Bytes of a bank and of its texts."""
    opened, documents = workspace(), newspaper().documents
    text_bytes = pc.sum(pc.binary_length(documents["text"])).as_py()

    def widest(**form: Any) -> TemporaryBank:
        params = opened.params.with_values(compressor={"window": WIDEST}, bank=form)
        folder = params.compressor.path
        return TemporaryBank.of(
            folder, lm=opened.project.lm, documents=documents, params=params, as_in_use=True
        )

    for label, bank, limit in (
        ("text kept, as shipped", compressed(), 4.5),
        (f"text kept, pq, {WIDEST} tokens a vector", widest(codes="pq"), 3.5),
        (
            f"vectors only, int4, {WIDEST} tokens a vector",
            widest(keep_text=False, codes="int4"),
            12.5,
        ),
    ):
        size = stored_bytes(bank.rows)
        detail = (
            f"{size:,} bytes of files after `optimize`, {text_bytes:,} of text, "
            f"{bank.rows.num_rows} memories"
        )
        yield Bar(
            3,
            f"bytes of a bank ÷ its texts: {label}",
            size / text_bytes,
            limit,
            False,
            f"{label}: {detail}",
        )


def stored_bytes(rows: pa.Table) -> int:
    """Bytes of the files of a bank of `rows`, with its indexes."""
    with TemporaryDirectory() as folder:
        bank = open_bank(BankLocation(folder), schema=rows.schema)
        bank.upsert(rows)
        bank.optimize(keep=timedelta(milliseconds=1))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def bar_5() -> Iterator[Bar]:
    """Questions a second of an evaluation, and of RAG with the best text."""
    runs = defaultdict[str, list[SystemRun]](list)
    with compressed().answerer() as answerer:
        ways = ways_of(answerer)
        for system, data in ways.values():
            system(replace(data, asked=data.asked.slice(0, 8)))  # warm up
        starts = range(0, newspaper().questions.num_rows, ASKED_AT_ONCE)
        for first in track(starts, "questions", console=Console(stderr=True)):
            for name, (system, data) in ways.items():
                if run := system(replace(data, asked=data.asked.slice(first, ASKED_AT_ONCE))):
                    runs[name].append(run)
    golds, details, medians = newspaper().questions["answers"].to_pylist(), [], {}
    for name, parts in runs.items():
        speeds = [len(run.predictions) / run.seconds for run in parts if run.predictions]
        medians[name] = statistics.median(speeds)
        f1 = 100 * float(
            mark([answer.text for run in parts for answer in run.predictions], golds).f1.mean()
        )
        details.append(
            f"{name}: {medians[name]:.2f} questions a second ({spread(speeds)}), F1 {f1:.1f}"
        )
    ratio = medians["CMT"] / medians["RAG top-1"]
    yield Bar(5, "questions a second, CMT ÷ RAG top-1", ratio, 0.7, True, "; ".join(details))


def bar_6() -> Iterator[Bar]:
    """Time to the first token of a single question, of RAG with one, three and ten whole texts, and
    of trained RAG, if `make rag` has trained it.
    """
    seconds = defaultdict[str, list[float]](list)
    with ExitStack() as stack:
        ways = ways_of(stack.enter_context(compressed().answerer()), (1, 3, 10))
        if TRAINED_RAG.is_dir():
            ways |= trained_ways(stack.enter_context(compressed(TRAINED_RAG).answerer()))
        else:
            Console(stderr=True).print("trained RAG is left out of bar 6: run `make rag` first")
        for index in track(range(FIRST_TOKENS), "first tokens", console=Console(stderr=True)):
            for name, (system, data) in ways.items():
                if run := first_token(system, data, index):
                    seconds[name].append(run.seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    detail = "; ".join(
        f"{name}: {1000 * medians[name]:.0f} ms ({spread(seconds[name], 1000)})" for name in ways
    )
    limits = {
        "RAG top-1": 1.0,
        "RAG top-3": 0.5,
        "RAG top-10": 0.25,
        f"trained RAG, {TRAINED_WAYS[-1]}": 0.5,
    }
    for name, limit in limits.items():
        if name in medians:
            ratio = medians["CMT"] / medians[name]
            yield Bar(6, f"first token, CMT ÷ {name}", ratio, limit, False, detail)


def ways_of(answerer: Answerer, depths: Sequence[int] = (1,)) -> dict[str, Way]:
    """CMT, and RAG by BM25 for each of the `depths`, the number of texts in the prompt."""
    data = data_of(compressed(), answerer, newspaper())
    named: dict[str, systems.System] = {"CMT": systems.memory}
    named |= {
        f"RAG top-{top_k}": partial(systems.rag, retriever="bm25", top_k=top_k) for top_k in depths
    }
    return {name: (system, data) for name, system in named.items()}


def trained_ways(answerer: Answerer) -> dict[str, Way]:
    """RAG with a trained prefix, by its best searches."""
    data = data_of(compressed(TRAINED_RAG), answerer, newspaper())
    ways = trained_rag_ways(answerer.params)
    return {
        f"trained RAG, {name}": (
            systems.memory,
            replace(data, answerer=replace(answerer, params=ways[name])),
        )
        for name in TRAINED_WAYS
    }


def bar_7() -> Iterator[Bar]:
    """Answers a second of `cmt serve` for many clients and for one."""
    asked = newspaper().questions["question"].to_pylist()
    clients: dict[int, list[float]] = {1: [], CLIENTS: []}
    seconds = {}
    with TemporaryDirectory() as folder, served(Path(folder)) as server:
        ask(server, asked[0])  # warm up
        for count, latencies in clients.items():
            questions = asked[: count * ASKED_BY_CLIENT]
            began = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                latencies += pool.map(
                    lambda question: timed(partial(ask, server, question)), questions
                )
            seconds[count] = (time.perf_counter() - began) / len(questions)
    rate = seconds[1] / seconds[CLIENTS]
    slowest, median = (float(np.quantile(clients[CLIENTS], share)) for share in (0.99, 0.5))
    detail = (
        f"{1 / seconds[CLIENTS]:.1f} answers a second for {CLIENTS} clients, "
        f"{1 / seconds[1]:.1f} for one; with "
        f"{CLIENTS}, half of the answers take {median:.2f} s and 99 of 100 at most {slowest:.2f} s"
    )
    yield Bar(7, f"`cmt serve`: {CLIENTS} clients ÷ 1, answers a second", rate, 1.3, True, detail)
    yield Bar(
        7,
        f"`cmt serve`: slowest of 100 answers ÷ median, {CLIENTS} clients",
        slowest / median,
        3,
        False,
        detail,
    )


@contextmanager
def served(folder: Path) -> Iterator[httpx.Client]:
    """A client of a `cmt serve` on a project in `folder` whose bank holds the newspaper."""
    # 1. the project, with rounds that ask no questions
    raw: dict[str, Any] = yaml.safe_load(
        (workspace().project.root / "params.yaml").read_text(encoding="utf-8")
    )
    for section in ("lm", "compressor"):
        raw.setdefault(section, {})["path"] = str(getattr(workspace().params, section).path)
    raw["stream"] = raw.get("stream", {}) | {
        "source": str(NEWSPAPER),
        "path": "stream",
        "quarantine": "quarantine",
    }
    raw |= {"bank": {"uri": "bank"}, "gate": {"canaries": 0}, "tracking": {"enabled": False}}
    raw["evaluation"] = {"questions": 1, "earlier_questions": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    project = cmt.open(params=folder / "params.yaml")
    project.ingest()
    for slice_id in project.pending():
        project.update(slice_id=slice_id)
    # 2. the server
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "cmt",
        "--params",
        str(folder / "params.yaml"),
        "serve",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False
        ) as client:
            deadline = time.monotonic() + 120
            while not listens(client):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise ServiceError(
                        f"`{' '.join(command)}` does not answer: run it by hand to see why"
                    )
                time.sleep(0.2)
            yield client
    finally:
        server.terminate()
        server.wait()


def listens(server: httpx.Client) -> bool:
    """Whether a server is ready."""
    try:
        return server.get("/healthz").is_success
    except httpx.TransportError:
        return False


def ask(server: httpx.Client, question: str) -> None:
    """Ask the server. Raises ServiceError if it refuses."""
    reply = server.post("/ask", json={"question": question})
    if not reply.is_success:
        raise ServiceError(
            f"the server answered {question!r} with {reply.status_code}: {reply.text[:200]!r}"
        )


MODEL_BARS: dict[int, Callable[[], Iterator[Bar]]] = {3: bar_3, 5: bar_5, 6: bar_6, 7: bar_7}
