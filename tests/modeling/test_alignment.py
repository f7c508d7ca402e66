"""π: prefixes start near zero and depend on the question; prompts have a layout, padding and
highlights.
"""

import pytest
import torch

from cmt.modeling._alignment import TextAlignment
from cmt.modeling.compressor import Encoding
from cmt.modeling.published import PrefixAlignment
from cmt.modeling.span_decoding import TokenSpan
from tests.helpers.lms import TinyLm
from tests.helpers.models import make_config, make_model


def question() -> Encoding:
    torch.manual_seed(1)
    states, mask = torch.randn(2, 4, 32), torch.ones(2, 4, dtype=torch.long)
    return Encoding(states, mask, states, mask, states.mean(1), states.mean(1))


@pytest.mark.parametrize("published", [False, True])
def test_a_new_prefix_is_near_zero(tiny_lm: TinyLm, published: bool) -> None:
    lm = tiny_lm("llama")
    torch.manual_seed(0)
    prefix = (
        PrefixAlignment(lm)(torch.randn(2, 8, 32))
        if published
        else TextAlignment(lm, 8).prefix(question())
    )
    for part in prefix:
        # after RMSNorm the 32 inputs have size one; their weighted sum has this deviation
        assert part.std().item() == pytest.approx(0.004 * 32**0.5, rel=0.2)


def test_keys_and_values_depend_on_layer_and_question(tiny_lm: TinyLm) -> None:
    keys, values = TextAlignment(tiny_lm("llama"), 3).prefix(question())
    parts = [part for layer in (*keys, *values) for part in layer]
    assert not any(torch.allclose(a, b) for i, a in enumerate(parts) for b in parts[:i])


def test_question_and_quote_follow_their_labels(tiny_lm: TinyLm) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    question, quote = (model.lm.tokenize(text) for text in (" Who built it?", " by the mayor of"))
    text, quoted = (
        model.lm.tokenizer.decode(model.prompts.question_tokens(question, *end))
        for end in ((), (quote,))
    )
    assert text == "Question: Who built it?\nAnswer:"
    assert quoted == "Question: Who built it?\nQuote: by the mayor of\nAnswer:"


@pytest.mark.parametrize("left", [True, False])
def test_each_token_is_highlighted_by_its_own_probability(tiny_lm: TinyLm, left: bool) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, make_config())
    texts = [[list(range(20, 30)), list(range(40, 46))], [list(range(60, 63))]]
    begins = torch.arange(1.0, 41.0).view(2, 2, 10) / 100  # (B, S, n)
    probability = torch.stack([begins, 2 * begins], -1)
    spans = [[TokenSpan(1, 0, 5), TokenSpan(0, 4, 9)], [TokenSpan(0, 0, 2)]]
    tails = [model.prompts.question_tokens([5, 6]), model.prompts.question_tokens([7])]
    label, line_break = lm.tokenize("Text:"), lm.tokenize("\n")
    ids = [
        [lm.bos, *label, *range(40, 46), *line_break, *range(24, 30), *line_break, *tails[0]],
        [lm.bos, *label, *range(60, 63), *line_break, *tails[1]],
    ]
    before = [0.0] * (1 + len(label))
    highlights = [
        [
            *before,
            *begins[0, 1, :6].tolist(),
            0.0,
            *begins[0, 0, 4:].tolist(),
            *[0.0] * (1 + len(tails[0])),
        ],
        [*before, *begins[1, 0, :3].tolist(), *[0.0] * (1 + len(tails[1]))],
    ]
    with torch.no_grad():
        model.get_parameter("alignment.highlight").copy_(
            torch.tensor([[-1.0], [1.0]]).expand(2, 32)
        )
        question = model.encode([[5, 6], [7]])
        prompt = model.prompts.text_prompt(question, spans, texts, probability, tails, left=left)
    assert prompt.prefix is not None
    assert prompt.prefix[0].shape[:4] == (3, 2, 2, 3)
    for row in range(2):
        real = prompt.mask[row].bool()
        assert real.sum() == len(ids[row])
        assert real[-len(ids[row]) :].all() if left else real[: len(ids[row])].all()
        added = prompt.embeds[row][real] - lm.embed(torch.tensor(ids[row]))
        torch.testing.assert_close(
            added, torch.tensor(highlights[row])[:, None].expand(-1, 32), rtol=0, atol=1e-6
        )


def test_without_probabilities_the_embeddings_are_those_of_the_tokens(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, make_config(aggregator="none"))
    with torch.no_grad():
        question = model.encode([[5, 6]])
        prompt = model.prompts.text_prompt(
            question, [[TokenSpan(0, 1, 2)]], [[[20, 21, 22]]], None, [[9]], left=True
        )
    ids = [lm.bos, *lm.tokenize("Text:"), 21, 22, *lm.tokenize("\n"), 9]
    torch.testing.assert_close(
        prompt.embeds[0][prompt.mask[0].bool()], lm.embed(torch.tensor(ids)), rtol=0, atol=0
    )
