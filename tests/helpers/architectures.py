"""A tiny LM of each architecture that docs/models.md lists, with random weights."""

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from cmt.lm._loading import model_class
from tests.helpers.lms import tokenizer

RUN = (
    "apertus", "arcee", "cohere", "cohere2", "cwm", "diffllama", "ernie4_5", "exaone4",
    "falcon", "gemma",
    "gemma2", "gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox",
    "gpt_oss", "gptj",
    "granite", "granitemoe", "helium", "llama", "ministral3", "mistral", "mixtral",
    "nemotron", "olmo", "olmo2",
    "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen2", "qwen3", "qwen3_moe",
    "seed_oss", "smollm3",
    "stablelm", "starcoder2",
)  # fmt: skip
"""Architectures that go from `cmt model pull` to `cmt ask`."""

REFUSED = {
    "bamba": "linear attention or a state-space model",
    "bart": "encoder–decoder",
    "bert": "encoder, which reads a text from both sides",
    "bloom": "ALiBi",
    "deepseek_v3": "latent attention",
    "falcon_mamba": "linear attention or a state-space model",
    "gemma3": "parts text_config",
    "gemma3n_text": "share keys and values",
    "gemma4_text": "its layers differ in size",
    "jamba": "linear attention or a state-space model",
    "lfm3": "layers of the kind conv",
    "mamba": "linear attention or a state-space model",
    "minicpm3": "latent attention",
    "openai-gpt": "its decoder takes no past_key_values",
    "qwen3_next": "linear attention or a state-space model",
    "rwkv": "linear attention or a state-space model",
}
"""Architectures that `cmt model pull` refuses → a part of the reason."""

_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "sliding_window": 64, "n_embd": 64, "n_layer": 4,
    "n_head": 4, "n_positions": 1024,
    "ffn_dim": 96, "word_embed_proj_dim": 64, "rotary_dim": 8, "n_inner": 96,
    "attention_types": [[["global"], 4]],
    "num_layers": 4, "num_heads": 4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip


def build(kind: str, **changes: Any) -> PreTrainedModel:
    """Four layers of width 64; only the sizes that the architecture names itself are set, then
    `changes`.
    """
    config = CONFIG_MAPPING[kind]
    default = config()
    names = (
        {*inspect.signature(config.__init__).parameters} | default.to_dict().keys()
    ) - default.attribute_map.keys()
    sizes = {name: value for name, value in _SIZES.items() if name in names}
    tiny = config(**{"vocab_size": len(tokenizer())} | sizes | changes)
    torch.manual_seed(0)
    model: PreTrainedModel = model_class(tiny)(tiny)
    return model


def write(
    kind: str,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard: str = "1GB",
    **changes: Any,
) -> Path:
    """Write LM, as `dtype`, and tokenizer as safetensors of at most `shard`; returns `folder`."""
    build(kind, **changes).to(dtype=dtype).save_pretrained(folder, max_shard_size=shard)
    tokenizer().save_pretrained(folder)
    return folder
