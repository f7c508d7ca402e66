"""Θ, ψ and π together: what they are saved as, what they refuse, and the prompt that they make."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmt.config import AggregatorParams, AlignmentParams, CompressorParams, ObjectiveParams, SelectionParams
from cmt.errors import ModelError
from cmt.lm.decoding import generate
from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.prompt import Prompt
from cmt.modeling.checkpoint import CONFIG, WEIGHTS, CompressorConfig, checkpoint_digest
from cmt.modeling.model import MemoryModel, RetrievedMemory
from cmt.modeling.span_decoding import TokenSpan, best_answer_span, choose_windows
from tests.helpers.lms import KINDS, build

TinyLm = Callable[[str], FrozenLM]
TEXTS = ["The harbour was built by the mayor of Port Ellery.", "The ferry costs six crowns.", "a mayor"]
QUESTIONS = ["Who built it?", "What does the ferry to Saltby cost, and who says so?"]
HOW = SelectionParams(windows=2, neighbours=1)
WINDOW = CompressorParams().window


def design(
    *, published: bool = False, kind: str = "windows", layers: int = 2, psi: str = "windows"
) -> CompressorConfig:
    return CompressorConfig(
        CompressorParams.model_validate({"kind": kind, "layers": layers, "lora_rank": 2, "memory_tokens": 3}),
        AggregatorParams.model_validate(
            {"kind": "attention" if published else psi, "blocks": 2, "lora_rank": 2, "heads": 2}
        ),
        AlignmentParams(kind="prefix" if published else "text", slots=3),
        ObjectiveParams(),
    )


DESIGNS = {
    "windows": design(),
    "whole": design(psi="none"),
    "published windows": design(published=True),
    "published tokens": design(published=True, kind="tokens"),
}
EVERY_DESIGN = pytest.mark.parametrize("made", DESIGNS.values(), ids=DESIGNS)


def model(lm: FrozenLM, made: CompressorConfig) -> MemoryModel:
    """One that is past its start, where adapters, reader and highlight are zero."""
    torch.manual_seed(5)
    fresh = MemoryModel(lm, made)
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return fresh.eval()


def selected(
    theta: MemoryModel, texts: Sequence[str], *, priors: Sequence[float] = (0.0, -1.0, -2.0)
) -> list[RetrievedMemory]:
    ids = [theta.lm.tokenize(text) for text in texts]
    with torch.no_grad():
        code = theta.encode(ids)
    vectors = [code.vectors[row, :count] for row, count in enumerate(code.vector_mask.sum(1).tolist())]
    return [RetrievedMemory(*parts) for parts in zip(vectors, ids, priors, strict=False)]


def read(theta: MemoryModel, questions: Sequence[str], memories: list[list[RetrievedMemory]]) -> list[list[int]]:
    asked = [theta.lm.tokenize(" " + question) for question in questions]
    with torch.no_grad():
        prompt = theta.read(theta.encode(asked), asked, memories, HOW).prompt
    return generate(theta.lm, prompt, max_new_tokens=8).tokens


@EVERY_DESIGN
@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_as_it_was_saved(tiny_lm: TinyLm, tmp_path: Path, made: CompressorConfig, kind: str) -> None:
    lm = tiny_lm(kind)
    before = model(lm, made)
    digest = before.save(tmp_path, dtype=torch.float32)
    after = MemoryModel.load(tmp_path, lm=lm)
    assert after.digest == digest == checkpoint_digest(tmp_path)
    assert after.config == made
    memories = [selected(before, TEXTS)] * 2
    assert read(after, QUESTIONS, memories) == read(before, QUESTIONS, memories)
    assert {file.name for file in tmp_path.iterdir()} == {WEIGHTS, CONFIG}


@EVERY_DESIGN
@pytest.mark.parametrize("kind", KINDS)
def test_folded_it_computes_the_same_and_leaves_the_lm_alone(
    tiny_lm: TinyLm, made: CompressorConfig, kind: str
) -> None:
    lm = tiny_lm(kind)
    digest, plain = weights_digest(lm.model), model(lm, made)
    memories = [selected(plain, TEXTS)] * 2
    ids = [lm.tokenize(text) for text in TEXTS]
    with torch.no_grad():
        before, said = plain.encode(ids), read(plain, QUESTIONS, memories)
        folded = plain.merge_lora()
        after = folded.encode(ids)
    assert not [name for name, _ in folded.named_parameters() if "lora_" in name]
    torch.testing.assert_close(after.states, before.states, rtol=1e-4, atol=1e-4)
    assert read(folded, QUESTIONS, memories) == said
    assert weights_digest(lm.model) == digest


def test_its_digest_is_of_weights_and_design_and_of_nothing_else(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm, made = tiny_lm("llama"), design()
    digest = model(lm, made).save(tmp_path / "a")
    assert model(lm, made).save(tmp_path / "b") == digest
    assert MemoryModel.load(tmp_path / "a", lm=lm).save(tmp_path / "c") == digest
    (tmp_path / "a/card.md").write_text("# A card")
    assert MemoryModel.load(tmp_path / "a", lm=lm).digest == digest
    elsewhere = made.compressor.model_copy(update={"path": Path("elsewhere")})
    moved = CompressorConfig(elsewhere, made.aggregator, made.alignment, made.objective)
    assert model(lm, moved).save(tmp_path / "d") == digest
    other = model(lm, made)
    other.log_temperature.data += 1.0
    assert other.save(tmp_path / "e") != digest
    assert model(lm, design(layers=1)).save(tmp_path / "f") != digest


def test_what_only_self_matching_trains_is_not_saved_without_it(tiny_lm: TinyLm, tmp_path: Path) -> None:
    made = design(published=True)
    mac = CompressorConfig(made.compressor, made.aggregator, made.alignment, ObjectiveParams(alpha=0.0, beta=0.0))
    alone = {"compressor.to_key.weight", "log_temperature"}
    assert (
        model(tiny_lm("llama"), made).trained_tensors().keys() - model(tiny_lm("llama"), mac).trained_tensors().keys()
        == alone
    )
    model(tiny_lm("llama"), mac).save(tmp_path)
    assert MemoryModel.load(tmp_path, lm=tiny_lm("llama")).temperature == pytest.approx(math.exp(3))


def test_it_writes_fewer_vectors_for_a_multiple_of_its_window(tiny_lm: TinyLm, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    digest = model(lm, design()).save(tmp_path)
    narrow, wide = MemoryModel.load(tmp_path, lm=lm), MemoryModel.load(tmp_path, lm=lm, window=3 * WINDOW)
    assert MemoryModel.load(tmp_path, lm=lm, window=WINDOW).digest == digest
    assert (wide.window, narrow.window) == (3 * WINDOW, WINDOW)
    assert wide.digest != digest
    places = "aggregator.place.weight"
    before, after = (theta.trained_tensors()[places].unflatten(0, (-1, 2)) for theta in (narrow, wide))
    assert all(torch.equal(after[place], before[place // 3]) for place in range(3 * WINDOW))
    memories = [selected(theta, [" ".join(TEXTS)])[0] for theta in (narrow, wide)]
    whole = len(memories[0].tokens) // (3 * WINDOW)
    three = memories[0].vectors[: 3 * whole].unflatten(0, (-1, 3)).mean(1)
    assert whole
    torch.testing.assert_close(memories[1].vectors[:whole], three)
    assert len(read(wide, QUESTIONS, [selected(wide, TEXTS)] * 2)) == 2
    assert MemoryModel.load(tmp_path, lm=lm, window=3 * WINDOW).digest == wide.digest
    with pytest.raises(
        ModelError, match=f"has a vector for {WINDOW} tokens: set compressor.window to {WINDOW} or to a"
    ):
        MemoryModel.load(tmp_path, lm=lm, window=3 * WINDOW - 1)


def test_a_compressor_of_another_lm_is_refused(tiny_lm: TinyLm, tmp_path: Path) -> None:
    model(tiny_lm("llama"), design()).save(tmp_path)
    other = build("llama", seed=1)
    expected = f"for the LM {tiny_lm('llama').digest[:12]}, lm.source is {other.digest[:12]}: set lm.source back"
    with pytest.raises(ModelError, match=expected):
        MemoryModel.load(tmp_path, lm=other)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_file_that_was_cut_in_half_is_refused(tiny_lm: TinyLm, tmp_path: Path, name: str) -> None:
    model(tiny_lm("llama"), design()).save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"is damaged .*restore the folder or run `cmt train`"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("record", ["[]", "{}", '{"lm_digest": "a", "design": {}}', '{"lm_digest": 1, "design": 2}'])
def test_a_config_of_something_else_is_refused(tiny_lm: TinyLm, tmp_path: Path, record: str) -> None:
    model(tiny_lm("llama"), design()).save(tmp_path)
    (tmp_path / CONFIG).write_text(record)
    with pytest.raises(ModelError, match="is damaged"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_compressor_says_how_to_get_one(tiny_lm: TinyLm, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=rf"no compressor in .*none \({CONFIG} is missing\): run `cmt train`"):
        MemoryModel.load(tmp_path / "none", lm=tiny_lm("llama"))
    model(tiny_lm("llama"), design()).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="run `cmt train`, or set compressor.path"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


def test_weights_of_another_design_are_refused(tiny_lm: TinyLm, tmp_path: Path) -> None:
    model(tiny_lm("llama"), design()).save(tmp_path)
    record = json.loads((tmp_path / CONFIG).read_text())
    record["design"]["alignment"]["slots"] = 4
    (tmp_path / CONFIG).write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"1 tensors differ, alignment\.slots first"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


def test_a_tensor_too_few_is_refused(tiny_lm: TinyLm, tmp_path: Path) -> None:
    model(tiny_lm("llama"), design()).save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    del weights["compressor.to_key.weight"]
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match=r"1 tensors differ, compressor\.to_key\.weight first"):
        MemoryModel.load(tmp_path, lm=tiny_lm("llama"))


@EVERY_DESIGN
def test_nothing_of_the_lm_is_saved_or_trained(tiny_lm: TinyLm, tmp_path: Path, made: CompressorConfig) -> None:
    lm = tiny_lm("llama")
    theta = model(lm, made)
    theta.save(tmp_path)
    names = set(load_file(tmp_path / WEIGHTS))
    assert names == {name for name, parameter in theta.named_parameters() if parameter.requires_grad}
    frozen = {tensor.data_ptr() for tensor in lm.model.parameters()}
    assert not frozen & {tensor.data_ptr() for tensor in theta.trained_tensors().values()}
    assert not any("base_layer" in name or "embed" in name for name in names)


def test_texts_are_encoded_in_their_order_however_grouped(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"), design())
    rows = [theta.lm.tokenize(text) for text in [*TEXTS, *QUESTIONS]]
    with torch.no_grad():
        all_at_once, by_two = theta.encode(rows, group=8), theta.encode(rows, group=2)
        alone = [theta.encode([row]) for row in rows]
    torch.testing.assert_close(by_two.key, all_at_once.key)
    torch.testing.assert_close(by_two.vectors, all_at_once.vectors)
    torch.testing.assert_close(by_two.key, torch.cat([code.key for code in alone]))
    assert by_two.mask.sum(1).tolist() == [len(row) for row in rows]


@EVERY_DESIGN
def test_the_order_of_memories_does_not_change_an_answer(tiny_lm: TinyLm, made: CompressorConfig) -> None:
    theta = model(tiny_lm("llama"), made)
    memories = selected(theta, TEXTS)
    answers = read(theta, QUESTIONS, [memories] * 2)
    assert any(answers)
    assert read(theta, QUESTIONS, [[memories[2], memories[0], memories[1]]] * 2) == answers


@EVERY_DESIGN
def test_the_batch_of_a_question_does_not_change_its_answer(tiny_lm: TinyLm, made: CompressorConfig) -> None:
    theta = model(tiny_lm("llama"), made)
    memories = [selected(theta, TEXTS), selected(theta, TEXTS[1:2])]
    together = read(theta, QUESTIONS, memories)
    assert together == [read(theta, [q], [m])[0] for q, m in zip(QUESTIONS, memories, strict=True)]


@EVERY_DESIGN
def test_memories_change_answers(tiny_lm: TinyLm, made: CompressorConfig) -> None:
    theta = model(tiny_lm("llama"), made)
    assert read(theta, QUESTIONS, [selected(theta, TEXTS[:1])] * 2) != read(
        theta, QUESTIONS, [selected(theta, TEXTS[1:2])] * 2
    )


@EVERY_DESIGN
def test_a_question_without_memories_can_be_read(tiny_lm: TinyLm, made: CompressorConfig) -> None:
    theta = model(tiny_lm("llama"), made)
    memories: list[list[RetrievedMemory]] = [[], selected(theta, TEXTS)]
    assert read(theta, QUESTIONS, memories)[1] == read(theta, QUESTIONS[1:], memories[1:])[0]
    assert read(theta, QUESTIONS[:1], [[]])[0] == read(theta, QUESTIONS, memories)[0]


def test_tokens_of_all_memories_and_none_share_one_probability(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"), design())
    asked = [theta.lm.tokenize(" " + question) for question in QUESTIONS]
    memories = [selected(theta, TEXTS), selected(theta, TEXTS[:1])]
    with torch.no_grad():
        code = theta.encode(asked)
        begins = theta.read(code, asked, memories, HOW).begins
        unlikely = [selected(theta, TEXTS, priors=(0.0, -99.0, -99.0)), memories[1]]
        again = theta.read(code, asked, unlikely, HOW).begins
    assert begins is not None
    assert again is not None
    assert all(0 < total < 1 for total in begins.sum((1, 2)).tolist())
    assert not begins[1, 1:].any()
    assert again[0, 0].sum() > begins[0, 0].sum()  # what the selection believes counts
    assert again[0, 1].sum() < 1e-6


@EVERY_DESIGN
def test_news_are_read_beside_what_they_supersede_and_other_memories_as_before(
    tiny_lm: TinyLm, made: CompressorConfig
) -> None:
    theta = model(tiny_lm("llama"), made)
    asked = [theta.lm.tokenize(" " + question) for question in QUESTIONS]
    plain = [selected(theta, TEXTS), []]
    before = theta.lm.tokenize("The harbour was dug by the mayor of Saltby.")
    news = [[replace(plain[0][0], superseded_tokens=before), *plain[0][1:]], []]
    with torch.no_grad():
        code = theta.encode(asked)
        was, now = (theta.read(code, asked, memories, HOW).begins for memories in (plain, news))
    if made.aggregator.kind != "windows":
        assert was is None
        assert now is None
        return
    assert was is not None
    assert now is not None
    assert not torch.allclose(now[0, 0], was[0, 0], rtol=0.1)
    torch.testing.assert_close(now.sum(2), was.sum(2))
    torch.testing.assert_close(now[0, 1:], was[0, 1:])


@pytest.mark.parametrize("left", [True, False])
def test_the_prompt_has_the_right_tokens_lit_at_the_right_places(tiny_lm: TinyLm, left: bool) -> None:
    lm = tiny_lm("llama")
    theta = model(lm, design())
    texts = [[list(range(20, 30)), list(range(40, 46))], [list(range(60, 63))]]
    begins = torch.arange(1.0, 41.0).view(2, 2, 10) / 100  # (B, S, n)
    probability = torch.stack([begins, 2 * begins], -1)
    runs = [[TokenSpan(1, 0, 5), TokenSpan(0, 4, 9)], [TokenSpan(0, 0, 2)]]
    tails = [theta.prompts.question_tokens([5, 6]), theta.prompts.question_tokens([7])]
    mark, line = lm.tokenize("Text:"), lm.tokenize("\n")
    ids = [
        [lm.bos, *mark, *range(40, 46), *line, *range(24, 30), *line, *tails[0]],
        [lm.bos, *mark, *range(60, 63), *line, *tails[1]],
    ]
    dark = [0.0] * (1 + len(mark))
    lights = [
        [*dark, *begins[0, 1, :6].tolist(), 0.0, *begins[0, 0, 4:].tolist(), *[0.0] * (1 + len(tails[0]))],
        [*dark, *begins[1, 0, :3].tolist(), *[0.0] * (1 + len(tails[1]))],
    ]
    with torch.no_grad():
        theta.get_parameter("alignment.highlight").copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 32))
        question = theta.encode([[5, 6], [7]])
        prompt = theta.prompts.text_prompt(question, runs, texts, probability, tails, left=left)
    assert prompt.prefix is not None
    assert prompt.prefix[0].shape[:4] == (3, 2, 2, 3)
    for row in range(2):
        real = prompt.mask[row].bool()
        assert real.sum() == len(ids[row])
        assert real[-len(ids[row]) :].all() if left else real[: len(ids[row])].all()
        lit = prompt.embeds[row][real] - lm.embed(torch.tensor(ids[row]))
        torch.testing.assert_close(lit, torch.tensor(lights[row])[:, None].expand(-1, 32), rtol=0, atol=1e-6)


def test_the_question_stands_in_its_frame(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"), design())
    text = theta.lm.tokenizer.decode(theta.prompts.question_tokens(theta.lm.tokenize(" Who built it?")))
    assert text == "Question: Who built it?\nAnswer:"


def test_what_answers_is_quoted_between_question_and_answer(tiny_lm: TinyLm) -> None:
    theta = model(tiny_lm("llama"), design())
    encode = theta.lm.tokenize
    text = theta.lm.tokenizer.decode(
        theta.prompts.question_tokens(encode(" Who built it?"), encode(" by the mayor of"))
    )
    assert text == "Question: Who built it?\nQuote: by the mayor of\nAnswer:"


def test_the_quote_is_the_likeliest_stretch_of_one_memory() -> None:
    probability, texts = torch.full((2, 20, 2), -9.0), [list(range(20)), list(range(20))]
    probability[0, 4, 0] = probability[1, 2, 1] = 0.0  # begins in one memory, ends in the other
    probability[1, 1, 0] = probability[0, 3, 1] = -0.5  # ends before it begins
    assert best_answer_span(probability, texts).span == TokenSpan(1, 1, 2)
    probability[0, 8, 1] = 0.0
    assert best_answer_span(probability, texts).span == TokenSpan(0, 4, 8)
    probability[0, 8, 1], probability[0, 19, 1] = -9.0, 0.0
    assert best_answer_span(probability, texts).span == TokenSpan(0, 4, 19)
    probability[0, 4, 0], probability[0, 3, 0] = -9.0, 0.0  # more than LONGEST_QUOTE tokens before
    probability[0, 3, 1] = -9.0
    assert best_answer_span(probability, texts).span == TokenSpan(1, 1, 2)
    assert best_answer_span(torch.zeros(1, 1, 2), [[5]]).span == TokenSpan(0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "best", "neighbours", "runs"),
    [
        ([[0, 9, 0, 0, 0]], 1, 0, [(0, 1, 1)]),
        ([[0, 9, 0, 0, 0]], 1, 2, [(0, 0, 3)]),
        ([[0, 9, 0, 0, 8]], 2, 0, [(0, 1, 1), (0, 4, 4)]),  # in the order of the text
        ([[0, 8, 0, 0, 9]], 2, 0, [(0, 1, 1), (0, 4, 4)]),
        ([[0, 9, 0, 8, 0]], 2, 1, [(0, 0, 4)]),  # that touch: one run
        ([[1, 8, 0], [0, 0, 9]], 2, 1, [(1, 1, 2), (0, 0, 2)]),  # the memory with the best one first
        ([[1, 2, None], [None, None, None]], 9, 3, [(0, 0, 1)]),
        ([[None, None]], 3, 1, []),
    ],
)
def test_the_best_windows_are_chosen_with_their_neighbours(
    scores: list[list[float | None]], best: int, neighbours: int, runs: list[tuple[int, int, int]]
) -> None:
    table: Tensor = torch.tensor([[float("-inf") if s is None else float(s) for s in row] for row in scores])
    tokens = table.repeat_interleave(3, 1).unsqueeze(-1).expand(-1, -1, 2)
    found = choose_windows(tokens, 3, best, neighbours)
    assert found == [TokenSpan(memory, 3 * first, 3 * last + 2) for memory, first, last in runs]


def test_a_run_ends_where_its_memory_ends() -> None:
    believed = torch.tensor([[0.0, 0.0, 0.0, 9.0, float("-inf"), float("-inf")]]).unsqueeze(-1).expand(-1, -1, 2)
    assert choose_windows(believed, 3, 1, 1) == [TokenSpan(0, 0, 3)]


@EVERY_DESIGN
def test_the_published_parts_read_through_a_prefix_alone(tiny_lm: TinyLm, made: CompressorConfig) -> None:
    theta = model(tiny_lm("llama"), made)
    asked = [theta.lm.tokenize(" " + question) for question in QUESTIONS]
    with torch.no_grad():
        prompt: Prompt = theta.read(theta.encode(asked), asked, [selected(theta, TEXTS)] * 2, HOW).prompt
    texts = [[theta.lm.bos, *theta.prompts.question_tokens(ids)] for ids in asked]
    alone = theta.lm.prompt(texts, left=True)
    assert prompt.prefix is not None
    if made.aggregator.kind == "attention":
        torch.testing.assert_close(prompt.embeds, alone.embeds)
    else:
        assert prompt.mask.sum() > alone.mask.sum()
