"""The frozen LM: what it says with prompts, prefixes and padding is what transformers says without them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cmt.errors import ModelError
from cmt.lm.decoding import complete, generate
from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.prompt import Prefix, Prompt, pad
from tests.helpers.lms import KINDS, build
from tests.helpers.tiny import write_folder

TinyLm = Callable[[str], FrozenLM]
EVERY = pytest.mark.parametrize("kind", KINDS)
PROMPTS = [
    "Who built the harbour?",
    "Text: The ferry to Saltby costs six crowns a trip.\nQuestion: What does it cost?\nAnswer:",
    "a",
    "Port Ellery, the mayor and 7 more",
]


def tokens(lm: FrozenLM, text: str) -> list[int]:
    return [lm.bos, *lm.tokenize(text)]


def theirs(lm: FrozenLM, text: str, count: int) -> list[int]:
    """What transformers itself writes, up to our stops."""
    ids = torch.tensor([tokens(lm, text)])
    mask = torch.ones_like(ids)
    made = lm.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count, pad_token_id=lm.eos)
    written: list[int] = made[0, ids.shape[1] :].tolist()
    ends = [i for i, symbol in enumerate(written) if symbol == lm.eos or "\n" in lm.tokenizer.decode([symbol])]
    return written[: ends[0]] if ends else written


def next_logits(lm: FrozenLM, prompt: Prompt) -> Tensor:
    """(B, V) behind each row's last real token."""
    last = prompt.mask.shape[1] - 1 - prompt.mask.flip(1).argmax(1)
    with torch.no_grad():
        return lm.logits(prompt, torch.stack([torch.arange(len(last)), last], 1))


def read_by_transformers(lm: FrozenLM, ids: list[int]) -> Prefix:
    """The keys and values that the LM has after reading `ids`."""
    with torch.no_grad():
        cache = lm.model(torch.tensor([ids]), use_cache=True).past_key_values
    return torch.stack([layer.keys for layer in cache.layers]), torch.stack([layer.values for layer in cache.layers])


@EVERY
def test_it_writes_what_transformers_writes(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    expected = [theirs(lm, text, 12) for text in PROMPTS]
    assert len({tuple(ids) for ids in expected}) == len(PROMPTS)
    for text, ids in zip(PROMPTS, expected, strict=True):
        assert generate(lm, lm.prompt([tokens(lm, text)], left=True), max_new_tokens=12).tokens == [ids]


@EVERY
def test_a_batch_of_several_lengths_writes_what_each_writes_alone(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    together = generate(lm, lm.prompt([tokens(lm, text) for text in PROMPTS], left=True), max_new_tokens=12).tokens
    assert together == [theirs(lm, text, 12) for text in PROMPTS]


@EVERY
def test_padding_on_either_side_changes_no_logit(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    rows = [tokens(lm, text) for text in PROMPTS]
    with torch.no_grad():
        expected = torch.stack([lm.model(torch.tensor([ids])).logits[0, -1] for ids in rows])
    for left in (True, False):
        torch.testing.assert_close(next_logits(lm, lm.prompt(rows, left=left)), expected, rtol=1e-4, atol=1e-4)


@EVERY
@pytest.mark.parametrize("left", [True, False])
def test_a_prefix_of_read_text_is_as_good_as_the_text(tiny_lm: TinyLm, kind: str, left: bool) -> None:
    lm = tiny_lm(kind)
    before, rows = tokens(lm, PROMPTS[1]), [lm.tokenize(" the mayor"), lm.tokenize(" six crowns a trip")]
    keys, values = read_by_transformers(lm, before)
    prefix = keys.expand(-1, 2, -1, -1, -1), values.expand(-1, 2, -1, -1, -1)
    with torch.no_grad():
        expected = torch.stack([lm.model(torch.tensor([before + ids])).logits[0, -1] for ids in rows])
    found = next_logits(lm, lm.prompt(rows, prefix=prefix, left=left))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@EVERY
def test_writing_goes_on_behind_a_prefix(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    ids = tokens(lm, PROMPTS[1])
    prompt = lm.prompt([ids[9:]], prefix=read_by_transformers(lm, ids[:9]), left=True)
    assert generate(lm, prompt, max_new_tokens=12).tokens == [theirs(lm, PROMPTS[1], 12)]


@EVERY
def test_the_padding_of_a_prefix_is_not_read(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    ids = tokens(lm, PROMPTS[1])
    short = read_by_transformers(lm, ids[:9])
    keys, values = (torch.cat([part, torch.full_like(part[..., :3, :], 9.0)], 3) for part in short)
    mask = torch.tensor([[1] * 9 + [0] * 3])
    padded = lm.prompt([ids[9:]], left=True)
    padded = Prompt(padded.embeds, padded.mask, (keys, values), mask)
    plain = lm.prompt([ids[9:]], prefix=short, left=True)
    torch.testing.assert_close(next_logits(lm, padded), next_logits(lm, plain), rtol=1e-4, atol=1e-4)
    assert generate(lm, padded, max_new_tokens=6).tokens == generate(lm, plain, max_new_tokens=6).tokens


@EVERY
@pytest.mark.parametrize("length", [3, 8, 11])
def test_a_shared_text_is_read_as_if_it_stood_before_every_prompt(tiny_lm: TinyLm, kind: str, length: int) -> None:
    lm = tiny_lm(kind)
    words = lm.tokenize("the harbour and the mayor of Port Ellery, Saltby, crowns; ferry")
    shared = lm.decode(words[: length - 2]) + "\n"
    assert all(lm.tokenize(shared) + lm.tokenize(text) == lm.tokenize(shared + text) for text in PROMPTS)
    alone = complete(lm, [shared + text for text in PROMPTS], max_new_tokens=10, batch_size=2)
    assert complete(lm, PROMPTS, max_new_tokens=10, batch_size=2, shared=shared) == alone
    assert complete(lm, PROMPTS, max_new_tokens=10, batch_size=2) != alone


def test_completions_do_not_depend_on_the_batch_size(tiny_lm: TinyLm) -> None:
    lm, heard = tiny_lm("llama"), list[int]()
    one_by_one = complete(lm, PROMPTS, max_new_tokens=10, batch_size=1)
    assert complete(lm, PROMPTS, max_new_tokens=10, batch_size=3, on_progress=heard.append) == one_by_one
    assert heard == [3, 1]
    assert one_by_one == [lm.decode(theirs(lm, text, 10)) for text in PROMPTS]
    assert complete(lm, [], max_new_tokens=10, batch_size=3) == []


def test_a_contrast_of_zero_is_none(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    prompt = lm.prompt([tokens(lm, text) for text in PROMPTS], left=True)
    against = lm.prompt([tokens(lm, "Answer:")] * len(PROMPTS), left=True)
    plain = generate(lm, prompt, max_new_tokens=10).tokens
    assert generate(lm, prompt, max_new_tokens=10, against=against, alpha=0.0).tokens == plain
    assert generate(lm, prompt, max_new_tokens=10, against=against, alpha=2.0).tokens != plain


def test_the_contrast_is_that_of_training(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    ids, other = tokens(lm, PROMPTS[1]), tokens(lm, "Answer:")
    prompt, against = (lm.prompt([row], left=True) for row in (ids, other))
    written = generate(lm, prompt, max_new_tokens=4, against=against, alpha=1.5).tokens
    expected: list[int] = []
    for _ in range(4):
        with torch.no_grad():
            with_text, without = (lm.model(torch.tensor([row + expected])).logits[0, -1] for row in (ids, other))
        expected.append(int((2.5 * with_text - 1.5 * without).argmax()))
    assert written == [expected]


@pytest.mark.parametrize("symbol", ["</s>", "\n", "\n\n"])
def test_writing_ends_with_the_sequence_or_the_line(symbol: str) -> None:
    lm = build("llama")
    (stop,) = lm.tokenizer.encode(symbol)
    prompt = lm.prompt([tokens(lm, PROMPTS[0])], left=True)
    (written,) = generate(lm, prompt, max_new_tokens=12).tokens
    assert len(set(written[:4])) == 4
    # from now on it says `symbol` where it said its fourth token
    head = lm.model.get_output_embeddings().weight.data
    head[[stop, written[3]]] = head[[written[3], stop]]
    assert generate(lm, prompt, max_new_tokens=12).tokens == [written[:3]]
    assert complete(lm, [PROMPTS[0]], max_new_tokens=12, batch_size=1) == [lm.decode(written[:3])]


def test_rows_that_have_ended_do_not_hold_up_or_change_the_others() -> None:
    lm = build("llama")
    rows = [tokens(lm, text) for text in PROMPTS]
    written = generate(lm, lm.prompt(rows, left=True), max_new_tokens=12).tokens
    lm.eos = written[1][2]
    shorter = generate(lm, lm.prompt(rows, left=True), max_new_tokens=12).tokens
    assert shorter == [ids[: ids.index(lm.eos)] if lm.eos in ids else ids for ids in written]
    assert len(shorter[1]) < max(map(len, shorter))


def test_no_more_is_written_than_asked_for(tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    prompt = lm.prompt([tokens(lm, PROMPTS[0])], left=True)
    read = list[object]()
    handle = lm.backbone.register_forward_hook(lambda *_: read.append(None))
    try:
        assert [len(generate(lm, prompt, max_new_tokens=count).tokens[0]) for count in (1, 3)] == [1, 3]
    finally:
        handle.remove()
    assert len(read) == 4  # the last token of an answer is not read again


def test_padding_is_masked_and_lengths_are_few() -> None:
    ids, mask = pad([[5, 6, 7], [8] * 9], left=False, device="cpu")
    assert ids.shape == (2, 16)
    assert ids[0].tolist() == [5, 6, 7] + [0] * 13
    assert mask[0].tolist() == [1] * 3 + [0] * 13
    ids, mask = pad([[5, 6, 7]], left=True, device="cpu")
    assert ids.tolist() == [[0] * 5 + [5, 6, 7]]
    assert mask.tolist() == [[0] * 5 + [1] * 3]


def test_no_weight_wants_a_gradient(tiny_lm: TinyLm) -> None:
    assert not any(parameter.requires_grad for parameter in tiny_lm("llama").model.parameters())
    assert not tiny_lm("llama").model.training


@EVERY
def test_the_digest_is_of_every_weight(kind: str) -> None:
    lm = build(kind)
    assert lm.weights_digest() == lm.digest == build(kind).digest
    assert build(kind, seed=1).digest != lm.digest
    for parameter in list(lm.model.parameters())[::7]:
        parameter.data.flatten()[-1] += 1.0
        assert lm.weights_digest() != lm.digest
        parameter.data.flatten()[-1] -= 1.0


def test_a_folder_is_loaded_with_its_digest(tmp_path: Path) -> None:
    lm = FrozenLM.load(write_folder(tmp_path / "lm"), dtype="bfloat16")
    assert lm.model.dtype == torch.bfloat16
    assert lm.digest == lm.weights_digest() == weights_digest(lm.model)
    assert (lm.layers, lm.kv_heads, lm.head_size, lm.hidden_size) == (2, 1, 32, 64)
    (tmp_path / "lm/lm.json").write_text('{"digest": "as it was pulled"}')
    assert FrozenLM.load(tmp_path / "lm", dtype="float32").digest == "as it was pulled"


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [
        (["avx2", "avx512_f", "avx512_bf16"], torch.bfloat16),
        (["avx2", "avx512_f", "amx_bf16"], torch.bfloat16),
        (["avx2", "avx512_f", "avx512_vnni"], torch.float32),  # 4 times slower in bfloat16, as measured
        (["avx2"], torch.float32),
        (["neon"], torch.float32),
    ],
)
def test_a_cpu_that_is_slow_in_bfloat16_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instructions: list[str], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    lm = FrozenLM.load(write_folder(tmp_path / "lm"))
    assert lm.model.dtype == dtype
    again = FrozenLM.load(tmp_path / "lm", dtype="bfloat16")  # asked for, it is done everywhere
    assert again.model.dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_folder_that_is_no_lm_is_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "lm"
    if damage == "cut":
        weights = write_folder(folder) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"lm is not a usable LM .*run `cmt model pull` again"):
        FrozenLM.load(folder)


def test_tokens_that_tie_in_bfloat16_are_told_apart() -> None:
    lm = build("llama")
    lm.model.bfloat16()
    head = lm.model.get_output_embeddings().weight.data
    head.zero_()
    head[7, 0], head[9, 0], head[9, 1] = 1.0, 1.0, 2.0**-12  # 9 is better by what bfloat16 rounds away
    states = torch.tensor([[1.0, 1.0] + [0.0] * 30], dtype=torch.bfloat16)
    assert lm.model.get_output_embeddings()(states).argmax() == 7
    assert lm.exact_logits(states).argmax() == 9
