"""Costs: peak memory, and the tokens that the LM reads."""

import json

import numpy as np
import pytest

from cmt.evaluation.cost import Cost, TokenMeter, peak_memory
from cmt.lm.model import FrozenLM

MB = 2**20


@pytest.mark.parametrize("block", [50_000, 200 * MB])
def test_peak_memory_does_not_include_an_earlier_block(block: int) -> None:
    with peak_memory() as large:
        blocks = [np.ones(block, dtype=np.uint8) for _ in range(200 * MB // block)]
        above = np.ones(50_000, dtype=np.uint8)  # allocated after them: without trimming, small blocks stay resident
        del blocks
    with peak_memory() as small:
        np.ones(MB, dtype=np.uint8)
    del above
    if large.resident is None or small.resident is None:
        assert large.resident is small.resident is None
    else:
        assert large.resident - small.resident > 150 * MB


def test_costs_are_rounded_in_json_and_unknown_ones_are_null() -> None:
    unknown = dict.fromkeys(("adapt_seconds", "peak_bytes", "peak_device_bytes"))
    cost = Cost(**unknown, seconds_per_question=0.123456, stored_bytes=7, tokens_per_question=12.34)
    known = {"seconds_per_question": 0.1235, "stored_bytes": 7, "tokens_per_question": 12.3}
    assert json.loads(json.dumps(cost.to_json())) == unknown | known


def test_the_meter_counts_the_tokens_of_every_prompt_and_its_shared_head(lm: FrozenLM) -> None:
    meter, prompts = TokenMeter(), ["Who?", "Where is the ferry?"]
    meter.complete(lm)(prompts, max_new_tokens=2, batch_size=2)
    without_head = meter.tokens_read
    assert without_head == sum(1 + len(lm.tokenize(prompt)) for prompt in prompts)
    meter.complete(lm)(prompts, max_new_tokens=2, batch_size=2, shared="Answer: ")
    assert meter.tokens_read - without_head == without_head + 2 * len(lm.tokenize("Answer: "))
