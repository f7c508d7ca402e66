"""Greedy generation: the tokens are those of transformers, and no result depends on the batch."""

from typing import Any

import pytest
import torch

from cmt.lm.copy_mechanism import CopyHypothesis, mix_with_copies, update_hypotheses
from cmt.lm.decoding import DRAFT_TOKENS, Generation, complete, generate
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt
from tests.helpers.lms import (
    KINDS,
    PROMPTS,
    TinyLm,
    build,
    key_values,
    transformers_continuation,
    with_bos,
)

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def all_prompts(lm: FrozenLM) -> Prompt:
    """PROMPTS as one batch."""
    return lm.prompt([with_bos(lm, text) for text in PROMPTS], left=True)


@EVERY_KIND
def test_tokens_are_those_of_transformers_alone_and_in_a_batch(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    expected = [transformers_continuation(lm, text, 12) for text in PROMPTS]
    assert len({tuple(ids) for ids in expected}) == len(PROMPTS)
    for text, ids in zip(PROMPTS, expected, strict=True):
        assert generate(
            lm, lm.prompt([with_bos(lm, text)], left=True), max_new_tokens=12
        ).tokens == [ids]
    assert generate(lm, all_prompts(lm), max_new_tokens=12).tokens == expected


@EVERY_KIND
def test_generation_continues_behind_a_prefix(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    ids = with_bos(lm, PROMPTS[1])
    prompt = lm.prompt([ids[9:]], prefix=key_values(lm, ids[:9]), left=True)
    assert generate(lm, prompt, max_new_tokens=12).tokens == [
        transformers_continuation(lm, PROMPTS[1], 12)
    ]


@EVERY_KIND
@pytest.mark.parametrize("length", [8, 11])
def test_a_shared_text_equals_the_text_before_every_prompt(
    tiny_lm: TinyLm, kind: str, length: int
) -> None:
    lm = tiny_lm(kind)
    words = lm.tokenize("the harbour and the mayor of Port Ellery, Saltby, crowns; ferry")
    shared = lm.decode(words[: length - 2]) + "\n"
    assert all(
        lm.tokenize(shared) + lm.tokenize(text) == lm.tokenize(shared + text) for text in PROMPTS
    )
    expected = complete(lm, [shared + text for text in PROMPTS], max_new_tokens=10, batch_size=2)
    assert complete(lm, PROMPTS, max_new_tokens=10, batch_size=2, shared=shared) == expected
    assert complete(lm, PROMPTS, max_new_tokens=10, batch_size=2) != expected


def test_completions_do_not_depend_on_the_batch_size(tiny_lm: TinyLm) -> None:
    lm, progress = tiny_lm("llama"), list[int]()
    one_by_one = complete(lm, PROMPTS, max_new_tokens=10, batch_size=1)
    assert (
        complete(lm, PROMPTS, max_new_tokens=10, batch_size=3, on_progress=progress.append)
        == one_by_one
    )
    assert progress == [3, 1]
    assert one_by_one == [lm.decode(transformers_continuation(lm, text, 10)) for text in PROMPTS]
    assert complete(lm, [], max_new_tokens=10, batch_size=3) == []


@pytest.mark.parametrize("symbol", ["</s>", "\n", "\n\n"])
def test_generation_ends_with_the_sequence_or_the_line(symbol: str) -> None:
    lm = build("llama")
    (stop,) = lm.tokenizer.encode(symbol)
    prompt = lm.prompt([with_bos(lm, PROMPTS[0])], left=True)
    (tokens,) = generate(lm, prompt, max_new_tokens=12).tokens
    assert len(set(tokens[:4])) == 4
    # from now on the LM generates `symbol` in place of its fourth token
    head = lm.model.get_output_embeddings().weight.data
    head[[stop, tokens[3]]] = head[[tokens[3], stop]]
    assert generate(lm, prompt, max_new_tokens=12).tokens == [tokens[:3]]
    assert complete(lm, [PROMPTS[0]], max_new_tokens=12, batch_size=1) == [lm.decode(tokens[:3])]


def test_ended_rows_do_not_change_the_others() -> None:
    lm = build("llama")
    tokens = generate(lm, all_prompts(lm), max_new_tokens=12).tokens
    lm.eos = tokens[1][2]
    shorter = generate(lm, all_prompts(lm), max_new_tokens=12).tokens
    assert shorter == [ids[: ids.index(lm.eos)] if lm.eos in ids else ids for ids in tokens]
    assert len(shorter[1]) < max(map(len, shorter))


def forwards(lm: FrozenLM, copies: list[CopyHypothesis] | None) -> tuple[list[list[int]], int]:
    """Tokens for all PROMPTS, and how often the LM was run."""
    calls = list[object]()
    handle = lm.backbone.register_forward_hook(lambda *_: calls.append(None))
    try:
        return generate(lm, all_prompts(lm), max_new_tokens=12, copies=copies).tokens, len(calls)
    finally:
        handle.remove()


def without_drafts(lm: FrozenLM, text: str, quote: list[int], probability: float) -> list[int]:
    """Tokens with a copy hypothesis, each from a run of the LM over the whole text so far."""
    tokens, copies = list[int](), [CopyHypothesis([*quote, lm.eos], probability)]
    while len(tokens) < 12:
        with torch.no_grad():
            lm_probability = (
                lm.model(torch.tensor([with_bos(lm, text) + tokens])).logits[:, -1].softmax(-1)
            )
        token = mix_with_copies(lm_probability, copies).argmax(-1)
        update_hypotheses(copies, token, lm_probability)
        if int(token) == lm.eos or "\n" in lm.tokenizer.decode(token):
            break
        tokens.append(int(token))
    return tokens


@EVERY_KIND
@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_a_quote_that_is_read_with_the_prompt_changes_no_token(
    tiny_lm: TinyLm, kind: str, probability: float
) -> None:
    lm = tiny_lm(kind)
    plain = [transformers_continuation(lm, text, 12) for text in PROMPTS]
    # right to the end; right at first; wrong; right and longer than what is read with the prompt
    quotes = [plain[0][:4], [*plain[1][:3], *plain[0][:3]], plain[3][:2], plain[3]]
    assert len(quotes[3]) > DRAFT_TOKENS
    copies = [CopyHypothesis([*quote, lm.eos], probability) for quote in quotes]
    tokens, _ = forwards(lm, copies)
    assert tokens == [
        without_drafts(lm, *row, probability) for row in zip(PROMPTS, quotes, strict=True)
    ]
    alone = [CopyHypothesis([*quotes[1], lm.eos], probability)]
    prompt = lm.prompt([with_bos(lm, PROMPTS[1])], left=True)
    assert generate(lm, prompt, max_new_tokens=12, copies=alone).tokens == [tokens[1]]


def test_a_quote_that_is_the_answer_needs_no_further_run(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    widths = len(set(all_prompts(lm).row_widths()))  # each runs by itself
    quotes = [
        transformers_continuation(lm, text, length)
        for text, length in zip(PROMPTS, (1, 3, 8, 5), strict=True)
    ]
    tokens, runs = forwards(lm, [CopyHypothesis([*quote, lm.eos], 1.0) for quote in quotes])
    assert tokens == quotes
    assert runs == widths
    plain, runs = forwards(lm, [CopyHypothesis([lm.eos], 0.0) for _ in quotes])
    assert runs == widths * 12  # the last token of an answer is not read
    assert max(map(len, plain)) == 12


def test_the_margin_is_the_smallest_lead_of_a_token_and_every_token_is_reported(
    tiny_lm: TinyLm,
) -> None:
    lm = tiny_lm("llama")
    streamed: list[list[int]] = [[] for _ in PROMPTS]
    result = generate(
        lm,
        all_prompts(lm),
        max_new_tokens=6,
        on_token=lambda row, token: streamed[row].append(token),
    )
    assert streamed == result.tokens
    for text, ids, margin in zip(PROMPTS, *result, strict=True):
        with torch.no_grad():
            logits = lm.model(torch.tensor([with_bos(lm, text) + ids])).logits[
                0, len(with_bos(lm, text)) - 1 :
            ][:6]
        best = logits.topk(2).values
        assert margin == pytest.approx(float((best[:, 0] - best[:, 1]).min()), abs=1e-4)


def test_a_row_with_a_near_tie_is_generated_again_alone(
    tiny_lm: TinyLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, sizes = tiny_lm("llama"), list[int]()
    margins = sorted(generate(lm, all_prompts(lm), max_new_tokens=6).margins)
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
