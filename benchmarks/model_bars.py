"""Bars of the language model and the compressor, on the bundled newspaper; `benchmarks/bench.py` runs them.

The two sides of a ratio take turns within one run, and their medians count.
"""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from functools import cache, partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml
from bars import Bar, spread, timed
from protocol import TRAINED_WAYS, Sample, missing_compressor, trained_rag_ways
from rich.console import Console
from rich.progress import track
from transformers import TrainerCallback

import cmt
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import rag
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.config import Params
from cmt.errors import ModelError, ServiceError
from cmt.evaluation.metrics import mark
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.prompt import pad
from cmt.retrieval.indexer import compress_documents
from cmt.training.step import TrainingStep
from cmt.training.trainer import train, training_attention
from cmt.workspace import Workspace

ROOT = Path(__file__).parents[1]
NEWSPAPER = ROOT / "data/courier"
TRAINED_RAG = ROOT / "data/rag"
BATCHES = (1024, 4096, 16384)  # tokens; the best of each system counts
TRAINED_BATCHES = (1024, 4096)  # forward and backward; 16,384 tokens take more than 20 GB
REPEATS = 3
QUESTIONS, ASKED_AT_ONCE = 160, 32
FIRST_TOKENS = 25  # questions whose first token is timed
TRAINED, COMPILED = 1000, True  # pairs
CLIENTS, ASKED_BY_CLIENT = 16, 6
WIDEST = 16  # tokens a vector


@cache
def workspace() -> Workspace:
    """The project with the shipped compressor."""
    return cmt.open(params=ROOT / "params.yaml")


@cache
def newspaper() -> Sample:
    """All articles, and some of their questions."""
    return Sample.draw(NEWSPAPER, documents=10**6, questions=QUESTIONS, seed=0)


@cache
def compressed() -> TemporaryBank:
    """The articles in the default form."""
    opened = workspace()
    params = opened.params.without_abstention()
    return TemporaryBank.of(params.compressor.path, lm=opened.lm, documents=newspaper().documents, params=params)


def bar_3() -> Iterator[Bar]:
    """Bytes of a bank and of its texts."""
    opened, documents = workspace(), newspaper().documents
    text_bytes = pc.sum(pc.binary_length(documents["text"])).as_py()
    compressor = opened.params.compressor.model_copy(update={"window": WIDEST})

    def widest(**form: Any) -> TemporaryBank:
        stored = opened.params.bank.model_copy(update=form)
        params = opened.params.model_copy(update={"compressor": compressor, "bank": stored})
        return TemporaryBank.of(compressor.path, lm=opened.lm, documents=documents, params=params, as_in_use=True)

    for label, bank, limit in (
        ("text kept, as shipped", compressed(), 3),
        (f"text kept, pq, {WIDEST} tokens a vector", widest(codes="pq"), 3),
        (f"vectors alone, int4, {WIDEST} tokens a vector", widest(keep_text=False, codes="int4"), 8),
    ):
        size = stored_bytes(bank.rows)
        detail = f"{size:,} bytes of files after `optimize`, {text_bytes:,} of text, {bank.rows.num_rows} memories"
        yield Bar(3, f"bytes of a bank ÷ its texts: {label}", size / text_bytes, limit, False, f"{label}: {detail}")


def stored_bytes(rows: pa.Table) -> int:
    """Bytes of the files of a bank of `rows`, with its indexes."""
    with TemporaryDirectory() as folder:
        bank = open_bank(BankLocation(folder), schema=rows.schema)
        bank.upsert(rows)
        bank.optimize(keep=timedelta(milliseconds=1))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def bar_4() -> Iterator[Bar]:
    """Tokens a second of a round's compression and of the whole LM."""
    opened, documents = workspace(), newspaper().documents
    rows = [opened.lm.tokenize(text) for text in documents["text"].to_pylist()]
    tokens = sum(map(len, rows))
    ours: dict[int, list[float]] = {size: [] for size in BATCHES}
    bare: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in track(range(REPEATS), "compression", console=Console(stderr=True)):
        for size in BATCHES:
            ours[size].append(tokens / timed(lambda size=size: compress(documents, size)))  # type: ignore[misc]
            bare[size].append(tokens / timed(lambda size=size: forward(rows, size)))  # type: ignore[misc]
    best = [max(statistics.median(speeds) for speeds in system.values()) for system in (ours, bare)]
    layers = opened.lm.layers / opened.params.compressor.layers
    detail = (
        f"{best[0]:,.0f} tokens of text a second, tokenizing and rows included, beside {best[1]:,.0f} of a bare "
        f"forward of the whole LM, each in the best of batches of {', '.join(map(str, BATCHES))} tokens; Θ has "
        f"1 ÷ {layers:.3g} of its layers"
    )
    yield Bar(4, "compression ÷ bare forward of the LM, tokens a second", best[0] / best[1], 0.7 * layers, True, detail)


def compress(documents: pa.Table, batch_tokens: int) -> None:
    """Compress `documents` as a round does."""
    params = workspace().params
    compress_documents(
        workspace().model,
        documents,
        slice_id="bench",
        keep_text=params.bank.keep_text,
        number_format=params.bank.codes,
        batch_tokens=batch_tokens,
    )


@torch.no_grad()
def forward(rows: Sequence[Sequence[int]], batch_tokens: int) -> None:
    """The LM without its output layer over token ids, in batches of similar length."""
    lm = workspace().lm
    for batch in batches(rows, batch_tokens):
        ids, mask = pad(batch, left=False, device=lm.device)
        lm.backbone(inputs_embeds=lm.embed(ids), attention_mask=mask, use_cache=False)


def batches(rows: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[Sequence[int]]]:
    """The rows in batches of similar length: at most `batch_tokens` tokens with padding, or one longer row."""
    batch: list[Sequence[int]] = []
    for row in sorted(rows, key=len):
        if batch and len(row) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def bar_5() -> Iterator[Bar]:
    """Questions a second of an evaluation, and of RAG with the best text."""
    asked, golds = (newspaper().questions[name].to_pylist() for name in ("question", "answers"))
    with compressed().answerer() as answerer:
        ways = systems(answerer)
        replies: dict[str, list[str]] = {name: [] for name in ways}
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for ask in ways.values():
            ask(asked[:8], 16)  # warm up
        for first in track(range(0, len(asked), ASKED_AT_ONCE), "questions", console=Console(stderr=True)):
            questions = asked[first : first + ASKED_AT_ONCE]
            for name, ask in ways.items():
                began = time.perf_counter()
                replies[name] += ask(questions, 16)
                speeds[name].append(len(questions) / (time.perf_counter() - began))
    f1 = {name: 100 * float(mark(texts, golds).f1.mean()) for name, texts in replies.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    detail = "; ".join(
        f"{name}: {medians[name]:.2f} questions a second ({spread(speeds[name])}), F1 {f1[name]:.1f}" for name in ways
    )
    for name, limit in (("stored", 4.0), ("expanded", 1.0)):
        ratio = medians[name] / medians["RAG top-1"]
        yield Bar(5, f"questions a second, {name} memories ÷ RAG", ratio, limit, True, detail)


def bar_6() -> Iterator[Bar]:
    """Time to the first token of a single question, of RAG with one, three and ten whole texts, and of trained RAG."""
    asked = newspaper().questions["question"].to_pylist()[:FIRST_TOKENS]
    with compressed().answerer() as answerer, for_trained_rag().answerer() as trained:
        ways = systems(answerer, (1, 3, 10)) | trained_rag(trained)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for question in track(asked, "first tokens", console=Console(stderr=True)):
            for name, ask in ways.items():
                seconds[name].append(timed(lambda ask=ask, question=question: ask([question], 1)))  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    detail = "; ".join(f"{name}: {1000 * medians[name]:.0f} ms ({spread(seconds[name], 1000)})" for name in ways)
    limits = {"stored": (0.35, 0.15, 0.05), "expanded": (1.3, 0.6, 0.25)}
    for name, of_ways in limits.items():
        for top_k, limit in zip((1, 3, 10), of_ways, strict=True):
            ratio = medians[name] / medians[f"RAG top-{top_k}"]
            yield Bar(6, f"first token, {name} memories ÷ RAG top-{top_k}", ratio, limit, False, detail)
    ratio = medians["stored"] / medians[f"trained RAG, {TRAINED_WAYS[-1]}"]
    yield Bar(6, f"first token, stored memories ÷ trained RAG, {TRAINED_WAYS[-1]}", ratio, 0.5, False, detail)


def systems(answerer: Answerer, depths: Sequence[int] = (1,)) -> dict[str, Callable[[Sequence[str], int], list[str]]]:
    """Name of a system → function (questions, max_new_tokens) → answers: stored and expanded memories, RAG by BM25."""

    def theirs(top_k: int) -> Callable[[Sequence[str], int], list[str]]:
        def ask(questions: Sequence[str], max_new_tokens: int) -> list[str]:
            predictions = rag(
                answerer.lm,
                answerer.bank,
                questions,
                [None] * len(questions),
                top_k=top_k,
                max_new_tokens=max_new_tokens,
                batch_size=answerer.params.answering.batch_size,
            )
            return [prediction.text for prediction in predictions or ()]

        return ask

    counts = {"stored": 0, "expanded": answerer.params.selection.expanded_memories}
    ours = {name: asked_with(answerer, answerer.params, count) for name, count in counts.items()}
    return ours | {f"RAG top-{top_k}": theirs(top_k) for top_k in depths}


def asked_with(answerer: Answerer, params: Params, expanded: int) -> Callable[[Sequence[str], int], list[str]]:
    """A system as in `systems`: `answerer` with `params` and `expanded` memories."""

    def ask(questions: Sequence[str], max_new_tokens: int) -> list[str]:
        options = with_options(params, expanded, max_new_tokens)
        system = Answerer(model=answerer.model, lm=answerer.lm, bank=answerer.bank, params=options)
        return [answer.text for answer in system.answer(questions, as_of=[None] * len(questions))]

    return ask


@cache
def for_trained_rag() -> TemporaryBank:
    """The articles in the form that RAG with a trained prefix searches."""
    opened = workspace()
    if reason := missing_compressor(TRAINED_RAG, opened.lm):
        raise ModelError(f"{reason}: bar 6 compares with RAG with a trained prefix")
    params = opened.params.without_abstention()
    return TemporaryBank.of(TRAINED_RAG, lm=opened.lm, documents=newspaper().documents, params=params)


def trained_rag(answerer: Answerer) -> dict[str, Callable[[Sequence[str], int], list[str]]]:
    """Ways to answer questions by RAG with a trained prefix, as `systems`."""
    ways = trained_rag_ways(answerer.params)
    return {f"trained RAG, {name}": asked_with(answerer, ways[name], 0) for name in TRAINED_WAYS}


def with_options(params: Params, expanded: int, max_new_tokens: int) -> Params:
    """`params` with these options of reading and answering."""
    selection = params.selection.model_copy(update={"expanded_memories": expanded})
    answering = params.answering.model_copy(update={"max_new_tokens": max_new_tokens})
    return params.model_copy(update={"selection": selection, "answering": answering})


def bar_7() -> Iterator[Bar]:
    """Answers a second of `cmt serve` for many clients and for one."""
    asked = newspaper().questions["question"].to_pylist()
    with TemporaryDirectory() as folder, served(Path(folder)) as port:
        clients: dict[int, list[float]] = {1: [], CLIENTS: []}
        seconds = {}
        post(port, asked[0])  # warm up
        for count, latencies in clients.items():
            questions = asked[: count * ASKED_BY_CLIENT]
            began = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                latencies += pool.map(lambda question: timed(lambda: post(port, question)), questions)
            seconds[count] = (time.perf_counter() - began) / len(questions)
    rate = seconds[1] / seconds[CLIENTS]
    slowest, median = (float(np.quantile(clients[CLIENTS], share)) for share in (0.99, 0.5))
    detail = (
        f"{1 / seconds[CLIENTS]:.1f} answers a second for {CLIENTS} clients, {1 / seconds[1]:.1f} for one; with "
        f"{CLIENTS}, half of the answers take {median:.2f} s and 99 of 100 at most {slowest:.2f} s"
    )
    yield Bar(7, f"`cmt serve`: {CLIENTS} clients ÷ 1, answers a second", rate, 4, True, detail)
    yield Bar(7, f"`cmt serve`: slowest of 100 answers ÷ median, {CLIENTS} clients", slowest / median, 3, False, detail)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Port of a `cmt serve` on a project in `folder` whose bank holds the newspaper."""
    # 1. the project, with rounds that ask no questions
    raw: dict[str, Any] = yaml.safe_load((workspace().root / "params.yaml").read_text(encoding="utf-8"))
    for section, name in (("lm", "path"), ("compressor", "path")):
        raw.setdefault(section, {})[name] = str(getattr(getattr(workspace().params, section), name))
    raw["stream"] = raw.get("stream", {}) | {"source": str(NEWSPAPER), "path": "stream", "quarantine": "quarantine"}
    raw |= {"bank": {"uri": "bank"}, "gate": {"canaries": 0}, "tracking": {"enabled": False}}
    raw["evaluation"] = {"questions": 1, "earlier_questions": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    project = cmt.open(params=folder / "params.yaml")
    project.ingest()
    for slice_id in project.pending():
        project.update(slice_id=slice_id)
    # 2. the server
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", "cmt", "--params", str(folder / "params.yaml"), "serve", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + 120
        while not listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"`{' '.join(command)}` does not answer: run it by hand to see why")
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait()


def listens(port: int) -> bool:
    """Whether a server is ready."""
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def post(port: int, question: str) -> None:
    """Ask the server. Raises ServiceError if it refuses."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", "/ask", json.dumps({"question": question}), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise ServiceError(f"the server answered {question!r} with {reply.status}: {content[:200]!r}")
    finally:
        connection.close()


def bar_11() -> Iterator[Bar]:
    """Tokens a second of compiled training steps, and of the whole LM forward and backward over the same texts."""
    opened, sample = workspace(), newspaper()
    clock = StepClock()
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):  # the Trainer prints its summary to stdout
        values = {"output": Path(folder), "questions": TRAINED, "compile": COMPILED}
        params = opened.params.model_copy(update={"train": opened.params.train.model_copy(update=values)})
        train(
            lm=opened.lm, documents=sample.documents, questions=sample.all_questions, params=params, callbacks=[clock]
        )
    steady = range(len(clock.seconds) // 2, len(clock.seconds))  # compiled by then
    ours = [sum(map(len, clock.rows[step])) / clock.seconds[step] for step in steady]
    bare = []
    with training_attention(opened.lm):
        for step in track(steady, "forward and backward", console=Console(stderr=True)):
            rows = clock.rows[step]
            bare.append(sum(map(len, rows)) / min(timed(partial(train_bare, rows, size)) for size in TRAINED_BATCHES))
    trained, bare_rate = (f"{statistics.median(rates):,.0f} ({spread(rates)})" for rates in (ours, bare))
    detail = (
        f"{trained} tokens of paragraphs and questions a second in training steps of {params.train.paragraphs} "
        f"paragraphs, beside {bare_rate} through all layers of the frozen LM forward and backward"
    )
    ratio = statistics.median(ours) / statistics.median(bare)
    yield Bar(11, "training ÷ bare forward and backward of the LM, tokens a second", ratio, 0.5, True, detail)


class StepClock(TrainerCallback):  # type: ignore[misc] # transformers is not followed
    """Records the texts and the seconds of each training step."""

    def __init__(self) -> None:
        self.rows: list[list[list[int]]] = []
        """Token ids of the paragraphs and questions of each step."""
        self.seconds: list[float] = []

    def on_train_begin(self, *_: Any, model: TrainingStep, **_kwargs: Any) -> None:
        """Begin to record."""
        model.register_forward_pre_hook(self._record, with_kwargs=True)

    def on_step_begin(self, *_: Any, **_kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **_kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._began)

    def _record(self, _model: TrainingStep, _arguments: Any, step: dict[str, Any]) -> None:
        self.rows.append([*step["documents"], *(question.question for question in step["questions"])])


def train_bare(rows: Sequence[Sequence[int]], batch_tokens: int) -> None:
    """The LM without its output layer forward and backward to its input, in batches of similar length."""
    lm = workspace().lm
    for batch in batches(rows, batch_tokens):
        ids, mask = pad(batch, left=False, device=lm.device)
        inputs = lm.embed(ids).detach().requires_grad_()
        lm.backbone(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state.sum().backward()


MODEL_BARS: dict[int, Callable[[], Iterator[Bar]]] = {
    3: bar_3,
    4: bar_4,
    5: bar_5,
    6: bar_6,
    7: bar_7,
    11: bar_11,
}
