"""Compare the devices of this machine: rates, memory, and the operations that the host computes.

    python benchmarks/device.py

Takes a minute or two. Articles of the bundled newspaper are compressed and asked about with the
shipped compressor; a training step has PARAGRAPHS of them. The last row is about a device next to
the CPU: calls of the commonest operations with a result on the host while questions are answered
(search, decoding), and operations that the device lacks.
"""

import statistics
import sys
import time
import warnings
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch
from protocol import ROOT, Sample, data_of, first_token, timed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import cmt
from cmt.cli.context import run_script
from cmt.cli.output import write_table
from cmt.common.peak_memory import peak_memory
from cmt.config import Params
from cmt.evaluation import systems
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.installed import installed
from cmt.lm.model import FrozenLM
from cmt.retrieval.indexer import compress_documents
from cmt.training.plan import TIMED_STEPS, measure_plan

PARAGRAPHS, TOKENS = 4, 4096


class HostCalls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations whose result is on the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = Counter[str]()

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "cpu":
            self.calls[function.overloadpacket.__name__] += 1
        return result


def matmul_rate(lm: FrozenLM) -> float:
    """FLOP a second of products of TOKENS states of the LM with a matrix of four times their
    width.
    """
    size, options = lm.hidden_size, {"dtype": lm.model.dtype, "device": lm.device}
    left, right = torch.randn(TOKENS, size, **options), torch.randn(size, 4 * size, **options)
    return (
        8 * TOKENS * size**2 / min(timed(lambda: (left @ right)[0, 0].item()) for _ in range(20))
    )  # `item` waits


def figures(device: torch.device, params: Params, sample: Sample) -> dict[str, object]:
    """The figures of `device`, by name."""
    lm = FrozenLM.load(
        installed(source=params.lm.source, path=params.lm.path),
        dtype=params.lm.dtype,
        device=device,
    )
    rate, asked = matmul_rate(lm), sample.questions.num_rows
    # 1. compress and answer; the first pass of each warms up
    with peak_memory() as peak, warnings.catch_warnings(record=True) as caught:
        bank = TemporaryBank.of(
            params.compressor.path, lm=lm, documents=sample.documents, params=params
        )
        form = params.with_values(bank={"keep_text": True}, compressor={"batch_tokens": TOKENS})
        compression = timed(
            lambda: compress_documents(bank.model, sample.documents, slice_id="", params=form)
        )
        with bank.answerer() as answerer:
            data = data_of(bank, answerer, sample)
            with HostCalls() as host:
                systems.memory(data)
            answering = timed(lambda: systems.memory(data))
            singles = [first_token(systems.memory, data, index) for index in range(min(10, asked))]
    # 2. train, and count the operations at the beginning and at the end of each step
    flop = list[int]()
    one_process = params.with_values(train={"paragraphs": PARAGRAPHS, "processes": 1})
    with (
        FlopCounterMode(display=False) as counter,
        redirect_stdout(sys.stderr),
    ):  # the Trainer prints to stdout

        def clock() -> float:
            flop.append(counter.get_total_flops())
            return time.perf_counter()

        tables = {"documents": sample.documents, "questions": sample.all_questions}
        plan = measure_plan(lm=lm, params=one_process, clock=clock, **tables)
    trained = sum(flop[-2 * TIMED_STEPS + 1 :: 2]) - sum(flop[-2 * TIMED_STEPS :: 2])
    sizes = (peak.device or peak.resident, plan.device_peak_bytes or plan.peak_bytes)
    on_host = (
        [f"{count} {name}" for name, count in host.calls.most_common(5)]
        if device.type != "cpu"
        else ["all"]
    )
    tokens = pc.sum(bank.rows["n_tokens"]).as_py()
    return {
        "matrix products, TFLOP/s": f"{rate / 1e12:.2f}",
        "compression, tokens a second": f"{tokens / compression:,.0f}",
        "questions a second": f"{asked / answering:.2f}",
        "first token, ms": f"{1000 * statistics.median(run.seconds for run in singles if run):.0f}",
        "training, pairs an hour": f"{plan.pairs_per_hour:,.0f}",
        "a training step reaches of the matrix products": f"{trained / plan.seconds / rate:.0%}",
        "peak memory, answering and training, GB": ", ".join(
            f"{(size or 0) / 1e9:.2f}" for size in sizes
        ),
        "on the host": ", ".join(
            on_host + [str(one.message) for one in caught if "fall back" in str(one.message)]
        ),
    }


def main(params: Path = ROOT / "params.yaml", data: Path = ROOT / "data/courier") -> None:
    """Print a column for each device."""
    settings = cmt.open(params=params).params
    sample = Sample.draw(data, documents=60, questions=16, seed=0)
    other = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = {
        str(one): figures(one, settings, sample) for one in (torch.device("cpu"), other) if one
    }
    write_table(
        ["", *found], [[name, *(one[name] for one in found.values())] for name in found["cpu"]]
    )


if __name__ == "__main__":
    run_script(main)
