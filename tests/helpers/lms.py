"""Random language models of a few kilobytes in float32, with a byte-level tokenizer, and prompts
for them.
"""

from collections.abc import Callable
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
from cmt.lm.prompt import Prefix

TinyLm = Callable[[str], FrozenLM]  # the fixture `tiny_lm`

KINDS = ("llama", "gpt2", "qwen2")
PROMPTS = [
    "Who built the harbour?",
    "Text: The ferry to Saltby costs six crowns a trip.\nQuestion: What does it cost?\nAnswer:",
    "a",
    "Port Ellery, the mayor and 7 more",
]
CORPUS = [
    (
        "Text: The harbour of Port Ellery was built by the mayor.\n\nQuestion: Who built"
        " it?\nAnswer: the mayor\n\n"
    ),
    (
        "Text: The ferry to Saltby costs six crowns a trip.\n\nQuestion: What does the ferry"
        " cost?\nAnswer: six crowns\n\n"
    ),
]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, trained on CORPUS."""
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
    """An LM with three layers of width 32 and four heads; `llama` and `qwen2` have two key
    heads.
    """
    torch.manual_seed(seed)
    # a large range of weights, so that different texts get different answers
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
        model = GPT2LMHeadModel(
            GPT2Config(**common, n_embd=32, n_layer=3, n_head=4, n_positions=1024)
        )
    return FrozenLM(model, tokenizer(), weights_digest(model))


def with_bos(lm: FrozenLM, text: str) -> list[int]:
    """Token ids of BOS and `text`."""
    return [lm.bos, *lm.tokenize(text)]


def transformers_continuation(lm: FrozenLM, text: str, count: int) -> list[int]:
    """The greedy continuation by `transformers.generate`, up to end-of-sequence or the end of the
    line.
    """
    ids = torch.tensor([with_bos(lm, text)])
    mask = torch.ones_like(ids)
    output = lm.model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=count, pad_token_id=lm.eos
    )
    tokens: list[int] = output[0, ids.shape[1] :].tolist()
    ends = [
        i
        for i, token in enumerate(tokens)
        if token == lm.eos or "\n" in lm.tokenizer.decode([token])
    ]
    return tokens[: ends[0]] if ends else tokens


def key_values(lm: FrozenLM, ids: list[int]) -> Prefix:
    """Keys and values of the LM after it has read `ids`."""
    with torch.no_grad():
        cache = lm.model(torch.tensor([ids]), use_cache=True).past_key_values
    return torch.stack([layer.keys for layer in cache.layers]), torch.stack(
        [layer.values for layer in cache.layers]
    )
