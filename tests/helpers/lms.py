"""Random language models of some kilobytes in float32, with a byte-level tokenizer trained on the spot."""

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from cmt.lm.model import FrozenLM, weights_digest

KINDS = ("llama", "gpt2", "qwen2")
CORPUS = [
    "Text: The harbour of Port Ellery was built by the mayor.\n\nQuestion: Who built it?\nAnswer: the mayor\n\n",
    "Text: The ferry to Saltby costs six crowns a trip.\n\nQuestion: What does the ferry cost?\nAnswer: six crowns\n\n",
]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def build(kind: str, seed: int = 0) -> FrozenLM:
    """Three layers of 32 with four heads; `llama` and `qwen2` share two key heads among them."""
    torch.manual_seed(seed)
    # weights so far apart that different texts get different answers
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer()),
        "initializer_range": 0.3,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "attn_implementation": "eager",
    }
    grouped: dict[str, Any] = common | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    }
    model: PreTrainedModel
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**grouped))
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**grouped))
    else:
        model = GPT2LMHeadModel(GPT2Config(**common, n_embd=32, n_layer=3, n_head=4, n_positions=1024))
    return FrozenLM(model, tokenizer(), weights_digest(model))
