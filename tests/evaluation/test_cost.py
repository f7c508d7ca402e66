"""Costs: their JSON, and the tokens that the LM reads."""

import json

from cmt.evaluation.cost import Cost, TokenMeter
from cmt.lm.model import FrozenLM


def test_costs_are_rounded_in_json_and_unknown_ones_are_null() -> None:
    unknown = dict.fromkeys(("adapt_seconds", "peak_bytes"))
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
