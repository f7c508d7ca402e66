"""Θ, ψ and π together: saving and loading, encoding, and the prompt for the LM."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cmt.config import CompressorParams, ObjectiveParams
from cmt.errors import ModelError
from cmt.lm.model import weights_digest
from cmt.modeling.checkpoint import WEIGHTS, CompressorConfig, checkpoint_digest
from cmt.modeling.loading import load_memory_model
from cmt.modeling.model import MemoryModel
from cmt.modeling.span_decoding import neighbours_at
from tests.helpers.lms import KINDS, TinyLm
from tests.helpers.models import (
    CONFIGS,
    EVERY_CONFIG,
    QUESTIONS,
    SELECTION,
    TEXTS,
    answer_tokens,
    make_config,
    make_model,
    read,
    retrieved_memories,
)

WINDOW = CompressorParams().window
EXPANDABLE = replace(make_config(), windows=(1, WINDOW))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        *((config, "llama") for config in CONFIGS.values()),
        *((CONFIGS["windows"], kind) for kind in KINDS[1:]),
    ],
    ids=[*CONFIGS, *KINDS[1:]],
)
def test_a_loaded_model_answers_like_the_saved_one_also_with_merged_adapters(
    tiny_lm: TinyLm, tmp_path: Path, config: CompressorConfig, kind: str
) -> None:
    lm = tiny_lm(kind)
    lm_digest, saved = weights_digest(lm.model), make_model(lm, config)
    digest = saved.save(tmp_path, dtype=torch.float32)
    memories = [retrieved_memories(saved, TEXTS)] * 2
    ids = [lm.tokenize(text) for text in TEXTS]
    loaded, merged = (load_memory_model(tmp_path, lm=lm, merged=flag) for flag in (False, True))
    assert loaded.digest == digest == checkpoint_digest(tmp_path)
    assert loaded.config == config
    assert not [name for name, _ in merged.named_parameters() if "lora_" in name]
    with torch.no_grad():
        answers, states = answer_tokens(saved, QUESTIONS, memories), saved.encode(ids).states
        for model in (loaded, merged):
            torch.testing.assert_close(model.encode(ids).states, states, rtol=1e-4, atol=1e-4)
            assert answer_tokens(model, QUESTIONS, memories) == answers
    assert weights_digest(lm.model) == lm_digest


def test_parameters_that_only_self_matching_trains_are_not_saved_without_it(
    tiny_lm: TinyLm, tmp_path: Path
) -> None:
    lm, config = tiny_lm("llama"), make_config(published=True)
    mac = replace(config, objective=ObjectiveParams(alpha=0.0, beta=0.0))
    names, mac_names = (make_model(lm, c).trained_tensors().keys() for c in (config, mac))
    assert names - mac_names == {"compressor.to_key.weight", "log_temperature"}
    make_model(lm, mac).save(tmp_path)
    assert load_memory_model(tmp_path, lm=lm).temperature == pytest.approx(math.exp(3))


def test_a_multiple_of_the_window_gives_fewer_vectors(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    digest = make_model(lm, make_config()).save(tmp_path)
    narrow = load_memory_model(tmp_path, lm=lm)
    wide = load_memory_model(tmp_path, lm=lm, window=3 * WINDOW)
    assert load_memory_model(tmp_path, lm=lm, window=WINDOW).digest == digest
    assert (wide.window, narrow.window) == (3 * WINDOW, WINDOW)
    assert wide.digest != digest
    memories = [retrieved_memories(model, [" ".join(TEXTS)])[0] for model in (narrow, wide)]
    full_windows = len(memories[0].tokens) // (3 * WINDOW)
    mean_of_three = memories[0].vectors[: 3 * full_windows].unflatten(0, (-1, 3)).mean(1)
    assert full_windows
    torch.testing.assert_close(memories[1].vectors[:full_windows], mean_of_three)
    assert len(answer_tokens(wide, QUESTIONS, [retrieved_memories(wide, TEXTS)] * 2)) == 2
    assert load_memory_model(tmp_path, lm=lm, window=3 * WINDOW).digest == wide.digest
    with pytest.raises(
        ModelError,
        match=f"has a vector for {WINDOW} tokens: set compressor.window to {WINDOW}, to a",
    ):
        load_memory_model(tmp_path, lm=lm, window=3 * WINDOW - 1)


@pytest.mark.parametrize("window", [1, WINDOW // 2, 2 * WINDOW])
def test_a_model_reads_at_other_windows_with_the_same_weights(
    tiny_lm: TinyLm, tmp_path: Path, window: int
) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, make_config())
    model.save(tmp_path, dtype=torch.float32)
    loaded = load_memory_model(tmp_path, lm=lm, window=window)
    assert loaded.window == loaded.content.window == window
    texts = [lm.tokenize(text) for text in TEXTS]
    torch.testing.assert_close(
        model.encode(texts, window=window).vectors, loaded.encode(texts).vectors
    )
    # ψ reads windows of any size: with shared or averaged scores of positions
    memories = retrieved_memories(loaded, TEXTS)
    (question,) = [loaded.encode([lm.tokenize(QUESTIONS[0])])]
    vectors, mask, ids = loaded._stack_memories([memories], window)
    scores = [other.aggregator(question, vectors, mask, ids) for other in (model, loaded)]
    torch.testing.assert_close(*scores)


def test_expanded_memories_are_read_as_with_a_vector_for_each_token(
    tiny_lm: TinyLm, tmp_path: Path
) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, EXPANDABLE)
    model.save(tmp_path, dtype=torch.float32)
    narrow = load_memory_model(tmp_path, lm=lm, window=1)
    output = read(model, [retrieved_memories(model, TEXTS)] * 2, expanded=len(TEXTS))
    neighbours = neighbours_at(SELECTION.neighbour_windows, WINDOW, 1)
    tokens_shown = SELECTION.model_copy(update={"neighbour_windows": neighbours})
    asked = [lm.tokenize(" " + question) for question in QUESTIONS]
    with torch.no_grad():
        memories = [retrieved_memories(narrow, TEXTS)] * 2
        expected = narrow.decode(
            narrow.score(narrow.encode(asked), asked, memories, expanded=0), tokens_shown
        )
    assert output.begins is not None and expected.begins is not None
    length = min(output.begins.shape[2], expected.begins.shape[2])
    torch.testing.assert_close(output.begins[..., :length], expected.begins[..., :length])
    assert output.spans == expected.spans
    torch.testing.assert_close(output.prompt.embeds, expected.prompt.embeds)


def test_a_text_is_encoded_once_while_it_is_remembered(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    trained = make_model(lm, EXPANDABLE)
    trained.save(tmp_path, dtype=torch.float32)
    loaded = load_memory_model(tmp_path, lm=lm, merged=True)
    memories = [retrieved_memories(trained, TEXTS)] * 2

    def begins(model: MemoryModel) -> tuple[torch.Tensor, int]:
        """Probabilities, and the number of texts that Θ encoded for them, the questions among
        them.
        """
        rows = list[int]()
        handle = model.compressor.register_forward_hook(
            lambda _module, inputs, _output: rows.append(len(inputs[0]))
        )
        output = read(model, memories, expanded=len(TEXTS))
        handle.remove()
        assert output.begins is not None
        return output.begins, sum(rows)

    (first, encoded), (second, encoded_again) = begins(loaded), begins(loaded)
    assert encoded == len(QUESTIONS) + len(TEXTS)  # both questions read the same texts
    assert encoded_again == len(QUESTIONS)
    assert second.equal(first)
    # a model that is trained remembers nothing
    before, _ = begins(trained)
    with torch.no_grad():
        trained.compressor.scale.mul_(2)
    after, encoded_after = begins(trained)
    assert encoded_after == encoded
    assert not after.equal(before)


def test_the_texts_read_last_are_remembered(
    tiny_lm: TinyLm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny_lm("llama")
    make_model(lm, EXPANDABLE).save(tmp_path, dtype=torch.float32)
    texts = [lm.tokenize(text)[:6] for text in TEXTS]
    monkeypatch.setattr("cmt.modeling.model.REMEMBERED_BYTES", 2 * 6 * lm.hidden_size * 4)
    model = load_memory_model(tmp_path, lm=lm, merged=True)
    encoded = list[int]()
    model.compressor.register_forward_hook(
        lambda _module, inputs, _output: encoded.append(len(inputs[0]))
    )
    with torch.no_grad():
        for text in (0, 1, 0, 2, 0, 1):
            model._token_states([texts[text]])
    assert encoded == [1, 1, 1, 1]  # 0 and 1, then 2 in place of 1, then 1


def test_of_many_memories_the_likeliest_are_expanded(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, EXPANDABLE)
    memories = [
        retrieved_memories(model, TEXTS, priors=(-29.0, 0.0, -1.0)),
        retrieved_memories(model, TEXTS[:1]),
    ]
    output = read(model, memories, expanded=2)
    assert output.begins is not None and output.margins is not None
    assert (output.begins.sum(2) > 0).tolist() == [[False, True, True], [True, False, False]]
    assert all(math.isfinite(margin) for margin in output.margins)
    # a compressor that was not trained at a window of one expands none
    model = make_model(lm, make_config())
    memories = [retrieved_memories(model, TEXTS)] * 2
    plain, expanded = (read(model, memories, expanded=count) for count in (0, 2))
    assert plain.spans == expanded.spans
    torch.testing.assert_close(plain.prompt.embeds, expanded.prompt.embeds)


@EVERY_CONFIG
def test_no_tensor_of_the_lm_is_saved_or_trained(
    tiny_lm: TinyLm, tmp_path: Path, config: CompressorConfig
) -> None:
    lm = tiny_lm("llama")
    model = make_model(lm, config)
    model.save(tmp_path)
    names = set(load_file(tmp_path / WEIGHTS))
    assert names == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    frozen = {tensor.data_ptr() for tensor in lm.model.parameters()}
    assert not frozen & {tensor.data_ptr() for tensor in model.trained_tensors().values()}
    assert not any("base_layer" in name or "embed" in name for name in names)


def test_encodings_are_in_the_order_of_the_input_for_every_batch_size(tiny_lm: TinyLm) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    rows = [model.lm.tokenize(text) for text in [*TEXTS, *QUESTIONS]]
    with torch.no_grad():
        one_batch, by_two = model.encode(rows, group=8), model.encode(rows, group=2)
        alone = [model.encode([row]) for row in rows]
    torch.testing.assert_close(by_two.key, one_batch.key)
    torch.testing.assert_close(by_two.vectors, one_batch.vectors)
    torch.testing.assert_close(by_two.key, torch.cat([encoding.key for encoding in alone]))
    assert by_two.mask.sum(1).tolist() == [len(row) for row in rows]


@EVERY_CONFIG
def test_an_answer_depends_on_its_memories_and_neither_on_their_order_nor_on_the_batch(
    tiny_lm: TinyLm, config: CompressorConfig
) -> None:
    model = make_model(tiny_lm("llama"), config)
    memories = retrieved_memories(model, TEXTS)
    answers = answer_tokens(model, QUESTIONS, [memories] * 2)
    assert any(answers)
    assert answer_tokens(model, QUESTIONS, [[memories[2], memories[0], memories[1]]] * 2) == answers
    assert answer_tokens(model, QUESTIONS, [memories[:1]] * 2) != answer_tokens(
        model, QUESTIONS, [memories[1:2]] * 2
    )
    for batch in ([memories, memories[1:2]], [[], memories]):
        alone = [answer_tokens(model, [q], [m])[0] for q, m in zip(QUESTIONS, batch, strict=True)]
        assert answer_tokens(model, QUESTIONS, batch) == alone


def test_tokens_of_all_memories_and_nowhere_share_one_probability(tiny_lm: TinyLm) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    memories = [retrieved_memories(model, TEXTS), retrieved_memories(model, TEXTS[:1])]
    unlikely = [retrieved_memories(model, TEXTS, priors=(0.0, -99.0, -99.0)), memories[1]]
    begins, with_priors = read(model, memories).begins, read(model, unlikely).begins
    assert begins is not None and with_priors is not None
    assert all(0 < total < 1 for total in begins.sum((1, 2)).tolist())
    assert not begins[1, 1:].any()
    assert with_priors[0, 0].sum() > begins[0, 0].sum()  # the prior of a memory counts
    assert with_priors[0, 1].sum() < 1e-6


@EVERY_CONFIG
def test_a_superseded_document_changes_the_scores_of_its_update_only(
    tiny_lm: TinyLm, config: CompressorConfig
) -> None:
    model = make_model(tiny_lm("llama"), config)
    plain = [retrieved_memories(model, TEXTS), []]
    superseded = model.lm.tokenize("The harbour was dug by the mayor of Saltby.")
    updated = [[replace(plain[0][0], superseded_tokens=superseded), *plain[0][1:]], []]
    before, after = read(model, plain).begins, read(model, updated).begins
    if config.aggregator.kind != "windows":
        assert before is None and after is None
        return
    assert before is not None and after is not None
    assert not torch.allclose(after[0, 0], before[0, 0], rtol=0.1)
    torch.testing.assert_close(after.sum(2), before.sum(2))
    torch.testing.assert_close(after[0, 1:], before[0, 1:])


@pytest.mark.parametrize(
    "replaced", [[(1, 0)], [(1, 0), (1, 0)]]
)  # by one earlier memory, and by two with its value
def test_a_memory_is_read_without_the_value_of_another_one(
    tiny_lm: TinyLm, replaced: list[tuple[int, int]]
) -> None:
    model = make_model(tiny_lm("llama"), make_config())
    fare = "The ferry costs six crowns."
    memories = retrieved_memories(model, [fare, f"{fare} It is slow, wet and old."])
    old, new = memories
    asked = [model.lm.tokenize(" What does the ferry cost?")]
    with torch.no_grad():
        question = model.encode(asked)
        scored = model.score(question, asked, [memories], expanded=SELECTION.expanded_memories)
        spans = [scored.spans(0)[0], scored.span_without(0, 1, 0)]
        before = model.decode(scored, SELECTION).begins
        scored.adjust(0, [0.0, 0.0], replaced)
        after = model.decode(scored, SELECTION).begins
    assert before is not None and after is not None
    torch.testing.assert_close(
        after.sum(2), before.sum(2)
    )  # the memory answers as surely as before
    value, second = (
        model.lm.decode(memory.tokens[span.first : span.last + 1]).strip()
        for memory, span in zip((old, new), spans, strict=True)
    )
    assert value and value.lower() not in second.lower()


@EVERY_CONFIG
def test_only_the_published_parts_read_through_a_prefix_alone(
    tiny_lm: TinyLm, config: CompressorConfig
) -> None:
    model = make_model(tiny_lm("llama"), config)
    prompt = read(model, [retrieved_memories(model, TEXTS)] * 2).prompt
    asked = [model.lm.tokenize(" " + question) for question in QUESTIONS]
    rows = [[model.lm.bos, *model.prompts.question_tokens(ids)] for ids in asked]
    question_alone = model.lm.prompt(rows, left=True)
    assert prompt.prefix is not None
    if config.aggregator.kind == "attention":
        torch.testing.assert_close(prompt.embeds, question_alone.embeds)
    else:
        assert prompt.mask.sum() > question_alone.mask.sum()


def test_whole_memories_are_read_in_the_order_of_their_priors(tiny_lm: TinyLm) -> None:
    model = make_model(tiny_lm("llama"), make_config(aggregator="none"))
    output = read(
        model, [retrieved_memories(model, TEXTS, priors=(-1.0, -2.0, 0.0))], questions=QUESTIONS[:1]
    )
    assert [span.memory for span in output.spans[0]] == [2, 0, 1]
    assert output.answer_spans is None and output.margins is None
