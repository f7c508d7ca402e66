"""Where the time of an answer goes, on the bundled newspaper with the shipped compressor.

    python benchmarks/answer_time.py

The questions are asked in batches of `answering.batch_size`, after some that build what is built on first use. A part
is timed by itself; "the rest" is what lies between them.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Annotated, Any
from unittest.mock import patch

import typer
from model_bars import compressed, newspaper
from rich.console import Console
from rich.table import Table

from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.cli.context import run_script
from cmt.lm.model import FrozenLM
from cmt.modeling.aggregator import SpanReader
from cmt.modeling.compressor import Compressor
from cmt.modeling.prompt_builder import PromptBuilder

WARM = 32  # questions that are not timed
PARTS: dict[str, tuple[type, str]] = {
    "search": (Bank, "search"),
    "Θ: questions and expanded memories": (Compressor, "forward"),
    "ψ": (SpanReader, "forward"),
    "π: the prompt": (PromptBuilder, "text_prompt"),
    "LM: prompt and quote": (FrozenLM, "read"),
    "LM: output layer": (FrozenLM, "exact_logits"),
}


@contextmanager
def timers() -> Iterator[dict[str, float]]:
    """Seconds by part while the context is open."""
    seconds: dict[str, float] = defaultdict(float)

    def timing(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - began

        return timed

    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            stack.enter_context(patch.object(owner, name, timing(part, getattr(owner, name))))
        yield seconds


def measured() -> dict[str, float]:
    """Seconds of all questions by part, "the rest" among them."""
    asked = newspaper().questions["question"].to_pylist()
    with compressed().answerer() as answerer:
        ask(answerer, asked[:WARM])
        with timers() as seconds:
            began = time.perf_counter()
            ask(answerer, asked[WARM:])
            total = time.perf_counter() - began
    return {**seconds, "the rest: further tokens, choices, rows": total - sum(seconds.values())}


def ask(answerer: Answerer, questions: list[str]) -> None:
    """Answer `questions` as of now."""
    answerer.answer(questions, as_of=[None] * len(questions))


def main(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Print the seconds and the share of each part."""
    seconds = measured()
    if as_json:
        typer.echo(json.dumps(seconds))
        return
    total, questions = sum(seconds.values()), len(newspaper().questions) - WARM
    table = Table("part", "ms a question", "share", title=f"{1000 * total / questions:.0f} ms a question")
    for part, took in seconds.items():
        table.add_row(part, f"{1000 * took / questions:.0f}", f"{took / total:.0%}")
    Console().print(table)


if __name__ == "__main__":
    run_script(main)
