"""The frozen LM: with prompts, prefixes and padding it computes what transformers computes without
them.
"""

import importlib
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import cmt.lm
from cmt.errors import ModelError
from cmt.lm.integrity import Record, write_record
from cmt.lm.model import FrozenLM, slice_layers, weights_digest
from cmt.lm.prompt import Prompt
from tests.helpers.architectures import build as build_architecture
from tests.helpers.lms import KINDS, PROMPTS, TinyLm, build, key_values, tokenizer, with_bos
from tests.helpers.tiny import write_folder

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def next_logits(lm: FrozenLM, prompt: Prompt) -> Tensor:
    """Logits (B, V) behind each row's last token."""
    last = prompt.mask.shape[1] - 1 - prompt.mask.flip(1).argmax(1)
    with torch.no_grad():
        return lm.logits(prompt, torch.stack([torch.arange(len(last)), last], 1))


@EVERY_KIND
def test_padding_on_either_side_changes_no_logit(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    rows = [with_bos(lm, text) for text in PROMPTS]
    with torch.no_grad():
        expected = torch.stack([lm.model(torch.tensor([ids])).logits[0, -1] for ids in rows])
    for left in (True, False):
        torch.testing.assert_close(
            next_logits(lm, lm.prompt(rows, left=left)), expected, rtol=1e-4, atol=1e-4
        )


@EVERY_KIND
@pytest.mark.parametrize("left", [True, False])
def test_a_prefix_from_a_text_has_the_effect_of_the_text(
    tiny_lm: TinyLm, kind: str, left: bool
) -> None:
    lm = tiny_lm(kind)
    before = with_bos(lm, PROMPTS[1])
    rows = [lm.tokenize(" the mayor"), lm.tokenize(" six crowns a trip")]
    keys, values = key_values(lm, before)
    prefix = keys.expand(-1, 2, -1, -1, -1), values.expand(-1, 2, -1, -1, -1)
    with torch.no_grad():
        expected = torch.stack(
            [lm.model(torch.tensor([before + ids])).logits[0, -1] for ids in rows]
        )
    logits = next_logits(lm, lm.prompt(rows, prefix=prefix, left=left))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@EVERY_KIND
def test_the_padding_of_a_prefix_changes_no_logit(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    ids = with_bos(lm, PROMPTS[1])
    short = key_values(lm, ids[:9])
    keys, values = (torch.cat([part, torch.full_like(part[..., :3, :], 9.0)], 3) for part in short)
    mask = torch.tensor([[1] * 9 + [0] * 3])
    without_prefix = lm.prompt([ids[9:]], left=True)
    padded = Prompt(without_prefix.embeds, without_prefix.mask, (keys, values), mask)
    plain = lm.prompt([ids[9:]], prefix=short, left=True)
    torch.testing.assert_close(
        next_logits(lm, padded), next_logits(lm, plain), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("cohere", {}),
        ("granite", {"logits_scaling": 8.0}),
        ("gemma2", {"final_logit_softcapping": 3.0}),
    ],
)
def test_logits_are_scaled_as_the_architecture_does(kind: str, scale: dict[str, float]) -> None:
    lm = FrozenLM(build_architecture(kind, **scale), tokenizer(), "digest")
    ids = torch.tensor([[0, 5, 9, 11]])
    with torch.no_grad():
        expected = lm.model(ids).logits[:, -1]
        found = lm.exact_logits(lm.backbone(ids).last_hidden_state[:, -1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            next_logits(lm, lm.prompt([ids[0].tolist()])), expected, rtol=1e-4, atol=1e-4
        )


def test_tokens_that_tie_in_bfloat16_are_told_apart() -> None:
    lm = build("llama")
    lm.model.bfloat16()
    head = lm.model.get_output_embeddings().weight.data
    head.zero_()
    head[7, 0], head[9, 0], head[9, 1] = (
        1.0,
        1.0,
        2.0**-12,
    )  # 9 is better by what bfloat16 rounds away
    states = torch.tensor([[1.0, 1.0] + [0.0] * 30], dtype=torch.bfloat16)
    assert lm.model.get_output_embeddings()(states).argmax() == 7
    assert lm.exact_logits(states).argmax() == 9


def test_offsets_and_token_texts_cut_the_text_into_its_tokens(tiny_lm: TinyLm) -> None:
    lm, text = tiny_lm("llama"), "The ferry to Saltby costs six crowns."
    texts = lm.token_texts(lm.tokenize(text))
    assert "".join(texts) == text
    assert [text[first:last] for first, last in lm.offsets(text)] == texts


def test_the_tokens_of_sentencepiece_keep_the_blanks_between_words() -> None:
    words = ["<s>", "</s>", "<0x0A>", "▁The", "▁ferry", "▁costs", "▁six", "."]
    inner = Tokenizer(models.WordLevel(dict(zip(words, range(8), strict=True)), unk_token="<0x0A>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("▁|\\."), "merged_with_next")
    steps = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    inner.decoder = decoders.Sequence(steps)  # as in Llama 2, Mistral and Phi-3
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    lm = FrozenLM(build("llama").model, tokenizer, "digest")
    assert lm.token_texts([3, 4, 5, 6, 7, 2]) == [" The", " ferry", " costs", " six", ".", "\n"]


@EVERY_KIND
def test_the_digest_covers_every_weight(kind: str) -> None:
    lm = build(kind)
    assert weights_digest(lm.model) == lm.digest == build(kind).digest
    assert build(kind, seed=1).digest != lm.digest
    for parameter in list(lm.model.parameters())[::7]:
        parameter.data.flatten()[-1] += 1.0
        assert weights_digest(lm.model) != lm.digest
        parameter.data.flatten()[-1] -= 1.0


def test_a_folder_is_loaded_with_its_digest(tmp_path: Path) -> None:
    lm = FrozenLM.load(write_folder(tmp_path / "lm"), dtype="bfloat16")
    assert lm.model.dtype == torch.bfloat16
    assert lm.digest == weights_digest(lm.model)
    assert (lm.layers, lm.kv_heads, lm.head_size, lm.hidden_size) == (2, 1, 32, 64)
    assert not lm.model.training and not any(
        parameter.requires_grad for parameter in lm.model.parameters()
    )
    write_record(tmp_path / "lm", Record("path:lm", "", "as it was pulled", {}))
    assert FrozenLM.load(tmp_path / "lm", dtype="float32").digest == "as it was pulled"


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [
        (["avx2", "avx512_f", "avx512_bf16"], torch.bfloat16),
        (["avx2", "avx512_f", "amx_bf16"], torch.bfloat16),
        (
            ["avx2", "avx512_f", "avx512_vnni"],
            torch.float32,
        ),  # 4 times slower in bfloat16, as measured
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
    explicit = FrozenLM.load(
        tmp_path / "lm", dtype="bfloat16"
    )  # an explicit type is used everywhere
    assert explicit.model.dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "lm"
    if damage == "cut":
        weights = write_folder(folder) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"lm is not a usable LM .*run `cmt model pull` again"):
        FrozenLM.load(folder)


@EVERY_KIND
def test_sliced_layers_are_new_modules_around_the_same_weights(tiny_lm: TinyLm, kind: str) -> None:
    lm = tiny_lm(kind)
    decoder = slice_layers(lm, 1, 2)
    weights = {tensor.data_ptr() for tensor in lm.model.parameters()}
    assert {tensor.data_ptr() for tensor in decoder.parameters()} <= weights
    assert not set(decoder.modules()) & set(lm.model.modules())
    ids = torch.tensor([with_bos(lm, PROMPTS[0])])
    with torch.no_grad():
        expected = lm.backbone(input_ids=ids).last_hidden_state
        torch.testing.assert_close(
            slice_layers(lm, 0, lm.layers)(input_ids=ids).last_hidden_state, expected
        )


def test_an_lm_without_a_list_of_layers_is_refused() -> None:
    lm = build("llama")
    lm.layers = 5
    with pytest.raises(ModelError, match="LlamaModel has no list of 5 layers"):
        slice_layers(lm, 0, 2)


@pytest.mark.parametrize(("before", "after"), [(None, "false"), ("true", "true")])
def test_tokenizers_start_no_threads_unless_the_user_wants_them(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {} if before is None else {"TOKENIZERS_PARALLELISM": before}
    monkeypatch.setattr(os, "environ", environment)
    importlib.reload(cmt.lm)
    assert environment == {"TOKENIZERS_PARALLELISM": after}
