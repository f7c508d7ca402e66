"""How far a choice of ψ or of the LM is ahead of the next one."""

from math import inf
from typing import Any

import pytest
import torch

from cmt.lm.decoding import Generation, complete, generate
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt
from cmt.modeling.span_decoding import best_answer_span, choose_windows, window_margin
from tests.lm.test_model import PROMPTS, TinyLm, tokens


def table(*memories: list[float]) -> torch.Tensor:
    """(S, n, 2) where the answer ends as likely as it begins."""
    begins = torch.tensor(memories)
    return torch.stack([begins, begins], 2)


def test_a_quote_leads_by_its_distance_to_another_text() -> None:
    probability = table([-1.0, -9.0, -9.0, -3.0], [-9.0, -1.5, -9.0, -9.0])
    quote = best_answer_span(probability, [[5, 6, 7, 8], [9, 4, 9, 9]])
    assert quote.span.first == 0
    assert quote.margin == pytest.approx(1.0)
    # the same word elsewhere is no other quote: next is the stretch of the first four tokens
    assert best_answer_span(probability, [[5, 6, 7, 8], [9, 5, 9, 9]]).margin == pytest.approx(2.0)
    assert best_answer_span(table([-1.0]), [[5]]).margin == inf


def test_padding_is_no_rival() -> None:
    probability = table([-1.0, -inf])
    assert best_answer_span(probability, [[5]]).margin == inf
    assert window_margin(probability, 1, 1) == inf


def test_windows_lead_by_their_distance_to_the_first_that_is_left_out() -> None:
    probability = table([-1.0, -2.0, -2.5, -8.0])
    assert window_margin(probability, 1, 1) == pytest.approx(1.0)
    assert window_margin(probability, 1, 2) == pytest.approx(0.5)
    assert window_margin(probability, 1, 4) == inf
    assert window_margin(probability, 2, 1) == pytest.approx(
        float(torch.tensor([-1.0, -2.0]).logsumexp(0) - torch.tensor([-2.5, -8.0]).logsumexp(0))
    )


def test_which_memory_comes_first_is_a_choice_too() -> None:
    near, far = table([-1.0, -9.0], [-1.125, -9.0]), table([-1.0, -1.125], [-9.0, -9.0])
    assert window_margin(near, 1, 2) == pytest.approx(0.125)
    assert window_margin(far, 1, 2) == pytest.approx(7.875)
    assert choose_windows(near, 1, 2, 0) != choose_windows(near.flip(0), 1, 2, 0)


def test_writing_leads_by_its_least_sure_token(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    written = generate(lm, lm.prompt([tokens(lm, text) for text in PROMPTS], left=True), max_new_tokens=6)
    for text, ids, margin in zip(PROMPTS, *written, strict=True):
        with torch.no_grad():
            logits = lm.model(torch.tensor([tokens(lm, text) + ids])).logits[0, len(tokens(lm, text)) - 1 :][:6]
        best = logits.topk(2).values
        assert margin == pytest.approx(float((best[:, 0] - best[:, 1]).min()), abs=1e-4)


def test_a_doubtful_prompt_is_completed_alone(tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, sizes = tiny_lm("llama"), list[int]()
    prompt = lm.prompt([tokens(lm, text) for text in PROMPTS], left=True)
    margins = sorted(generate(lm, prompt, max_new_tokens=6).margins)
    plain = complete(lm, PROMPTS, max_new_tokens=6, batch_size=4)

    def counted(lm: FrozenLM, prompt: Prompt, **options: Any) -> Generation:
        sizes.append(len(prompt.embeds))
        return generate(lm, prompt, **options)

    monkeypatch.setattr(FrozenLM, "tolerance", (margins[1] + margins[2]) / 2)
    assert complete(lm, PROMPTS, max_new_tokens=6, batch_size=4, generate=counted) == plain
    assert sizes == [4, 1, 1]
    sizes.clear()
    assert complete(lm, PROMPTS, max_new_tokens=6, batch_size=1, generate=counted) == plain
    assert sizes == [1] * 4
