"""The frozen language model: loaded once, read by everybody, changed by nobody.

Everything that is to be read comes as soft tokens (B, T, D), optionally behind a key/value prefix in every layer;
that is the only door through which a memory can reach the LM (method §2, π).
"""

import copy
import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel

from cmt.errors import ModelError
from cmt.lm.convert_gguf import quiet_transformers
from cmt.lm.prompt import Prefix, Prompt, pad

TIE_TOLERANCE = {torch.bfloat16: 0.02, torch.float32: 1e-3}  # logits


class FrozenLM:
    """A decoder-only LM of transformers whose weights never get a gradient."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, digest: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.digest = digest
        config = model.config
        self.hidden_size: int = config.hidden_size
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.bos: int = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.eos: int = tokenizer.eos_token_id

    @classmethod
    def load(cls, folder: Path, *, dtype: str = "auto") -> "FrozenLM":
        """The LM in `folder` (safetensors and tokenizer), with weights of `dtype` (`config.LmParams`).

        ModelError when it is missing or damaged.
        """
        try:
            with quiet_transformers():
                model = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=fast_dtype() if dtype == "auto" else getattr(torch, dtype),
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    attn_implementation="sdpa",
                )
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds for a damaged folder
            raise ModelError(f"{folder} is not a usable LM ({error}): run `cmt model pull` again") from error
        record = Path(folder) / "lm.json"
        digest = json.loads(record.read_text())["digest"] if record.exists() else weights_digest(model)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, digest)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def tolerance(self) -> float:
        """A token whose lead is below this may be another one in another batch."""
        return TIE_TOLERANCE[self.model.dtype]

    @property
    def backbone(self) -> nn.Module:
        """The decoder without its output layer."""
        decoder: nn.Module = self.model.base_model
        return decoder

    def weights_digest(self) -> str:
        """sha256 of the weights as they are in memory now: for ever what it was at first (method §6 h).

        It is `digest` where they have the type in which they were pulled.
        """
        return weights_digest(self.model)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """First and last character (excluded) of each token of `text`."""
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [(first, last) for first, last in coded["offset_mapping"]]

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (…, D) of token ids (…)."""
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def logits(self, prompt: Prompt, positions: Tensor) -> Tensor:
        """Next-token logits (N, V) at `positions` (N, 2) = (row, column): only these go through the output layer."""
        hidden = self.read(prompt, self.cache(prompt.prefix))
        scores: Tensor = self.model.get_output_embeddings()(hidden[positions[:, 0], positions[:, 1]])
        return scores

    def exact_logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits (B, V) of states (B, D) in float32.

        In bfloat16 the two best of 49,000 often tie, and which one wins would depend on the batch.
        """
        head = self.model.get_output_embeddings()
        return F.linear(hidden.float(), self._output_weight, None if head.bias is None else head.bias.float())

    @cached_property
    def _output_weight(self) -> Tensor:
        weight: Tensor = self.model.get_output_embeddings().weight.detach().float()
        return weight

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens and outer spaces."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        texts: list[str] = self.tokenizer.batch_decode([[token] for token in ids])
        return texts

    def prompt(self, rows: Sequence[Sequence[int]], *, prefix: Prefix | None = None, left: bool = False) -> Prompt:
        """Token ids of several lengths as one padded prompt."""
        ids, mask = pad(rows, left=left, device=self.device)
        return Prompt(self.embed(ids), mask, prefix)

    def cache(self, prefix: Prefix | None) -> DynamicCache:
        """Keys and values of what stands before a text: a prefix, or nothing."""
        cache = DynamicCache()
        if prefix is not None:
            # unbind, not indexing: its backward is one stack instead of a zero-filled tensor a layer
            for layer, (keys, values) in enumerate(zip(prefix[0].unbind(), prefix[1].unbind(), strict=True)):
                cache.update(keys.to(self.model.dtype), values.to(self.model.dtype), layer)
        return cache

    def read(self, prompt: Prompt, cache: DynamicCache) -> Tensor:
        """Hidden states (B, T, D) of the text; its positions go on from the real ones of the prefix."""
        places = (prompt.whole_mask.cumsum(1) - 1).clamp(min=0)
        hidden: Tensor = self.backbone(
            inputs_embeds=prompt.embeds.to(self.model.dtype),
            attention_mask=prompt.whole_mask,
            position_ids=places[:, -prompt.embeds.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


def slice_layers(lm: FrozenLM, first: int, count: int) -> nn.Module:
    """A decoder of the LM's layers `first` … `first + count` and its final norm: new modules, the same weights."""
    shared = {id(tensor): tensor for tensor in lm.backbone.parameters()}
    decoder = copy.deepcopy(lm.backbone, shared)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == lm.layers:
            decoder.set_submodule(name, module[first : first + count])
            return decoder
    raise ModelError(f"{type(lm.backbone).__name__} has no list of {lm.layers} layers: it cannot be cut for Θ")


def fast_dtype() -> torch.dtype:
    """The type to compute with here: bfloat16, or float32 where it has no instructions and is many times slower."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        there = torch.cpu.get_capabilities()
        fast = any(there.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def weights_digest(model: nn.Module) -> str:
    """sha256 over (name, type, shape, bytes) of every weight, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# one thread pool for the tokenizer and torch: forked loaders would otherwise warn
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
