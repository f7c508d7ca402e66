"""The frozen language model.

Its input is soft tokens (B, T, D), optionally behind a key/value prefix in every layer. A memory
reaches the LM in no other way (docs/method.md#alignment).
"""

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from cmt.errors import ModelError
from cmt.lm._loading import load_model, load_tokenizer
from cmt.lm.integrity import RECORD, files_digest, read_record
from cmt.lm.prompt import Prefix, Prompt, pad

TIE_TOLERANCE = {
    torch.bfloat16: 0.02,
    torch.float32: 1e-3,
}  # largest difference in logits between batches


class FrozenLM:
    """A decoder-only LM of transformers without gradients.

    D is its hidden size, V its vocabulary. `digest` identifies the pulled weights; compressors name
    it. `files_digest` also covers configuration and tokenizer; it is the key of recorded answers.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, digest: str, files_digest: str = ""
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.device: torch.device = model.device
        self.backbone: nn.Module = model.base_model
        """The decoder without its output layer."""
        self.tokenizer = tokenizer
        self.digest, self.files_digest = digest, files_digest or digest
        config = model.config
        self.hidden_size: int = config.hidden_size
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = (
            getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        )
        if getattr(config, "multi_query", False):
            self.kv_heads = (
                config.num_kv_heads if getattr(config, "new_decoder_architecture", False) else 1
            )
        self.head_size: int = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.bos: int = (
            tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        )
        self.eos: int = tokenizer.eos_token_id

    @classmethod
    def load(
        cls, folder: Path, *, dtype: str = "auto", device: torch.device | None = None
    ) -> "FrozenLM":
        """Load the LM in `folder` (safetensors and tokenizer) to `device`; None: to the GPU if
        there is one.

        `dtype` is `auto` (`fast_dtype`) or the name of a torch type. `weights.installed` checks the
        files before. Raises ModelError if the folder is missing or damaged, or if
        `loading.check_folder` refuses it.
        """
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = load_model(
                folder, dtype=fast_dtype(device) if dtype == "auto" else getattr(torch, dtype)
            )
            tokenizer = load_tokenizer(folder)
            record = read_record(folder) if (folder / RECORD).exists() else None
        except ModelError:
            raise
        except Exception as error:  # transformers raises many kinds for a damaged folder
            raise ModelError(
                f"{folder} is not a usable LM ({error}): run `cmt model pull` again"
            ) from error
        if record is None:
            return cls(model.to(device), tokenizer, weights_digest(model))
        return cls(model.to(device), tokenizer, record.digest, files_digest(record.files))

    @property
    def tolerance(self) -> float:
        """Lead in logits below which a token is a near-tie: another batch could choose another
        token.
        """
        return TIE_TOLERANCE[self.model.dtype]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Half-open range of characters of each token of `text`."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [(first, last) for first, last in encoded["offset_mapping"]]

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (…, D) of token ids (…)."""
        return self.model.get_input_embeddings()(ids)

    def logits(self, prompt: Prompt, positions: Tensor) -> Tensor:
        """Next-token logits (N, V) at `positions` (N, 2) = (row, column); no others go through the
        output layer.
        """
        hidden = self.read(prompt, self.cache(prompt.prefix))  # (B, T, D)
        return self._scaled(
            self.model.get_output_embeddings()(hidden[positions[:, 0], positions[:, 1]])
        )

    def exact_logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits (B, V) in float32 of hidden states (B, D)."""
        # in bfloat16 the two best of 49,000 tokens often tie, and the winner would depend on the
        # batch
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias.float()
        return self._scaled(F.linear(hidden.float(), self._output_weight, bias))

    def _scaled(self, logits: Tensor) -> Tensor:
        """`logits` behind the output layer: Cohere multiplies them, Granite divides them, Gemma 2
        bounds them.
        """
        factor, divisor, bound = (
            getattr(self.model.config, name, None)
            for name in ("logit_scale", "logits_scaling", "final_logit_softcapping")
        )
        if factor or divisor:
            logits = logits * ((factor or 1.0) / (divisor or 1.0))
        return bound * torch.tanh(logits / bound) if bound else logits

    @cached_property
    def _output_weight(self) -> Tensor:
        return self.model.get_output_embeddings().weight.detach().float()

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens and outer spaces."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """Text of each token in the middle of a text, with the blank in front of a word."""
        # behind a line break, because decoders of SentencePiece leave out a blank at the beginning
        # of a text
        line_break = self.tokenize("\n")[-1:]
        texts = self.tokenizer.batch_decode([[*line_break, token] for token in ids])
        return [text.removeprefix("\n") for text in texts]

    def prompt(
        self, rows: Sequence[Sequence[int]], *, prefix: Prefix | None = None, left: bool = False
    ) -> Prompt:
        """Padded prompt of token ids of several lengths, `prefix` in front; `left` pads on the
        left, for generation.
        """
        ids, mask = pad(rows, left=left, device=self.device)  # (B, T)
        return Prompt(self.embed(ids), mask, prefix)

    def cache(self, prefix: Prefix | None) -> DynamicCache:
        """A new cache with `prefix` in it, or an empty one."""
        cache = DynamicCache()
        if prefix is not None:
            # unbind has one stack as its backward, indexing a zero-filled tensor for every layer
            for layer, (keys, values) in enumerate(
                zip(prefix[0].unbind(), prefix[1].unbind(), strict=True)
            ):
                cache.update(keys.to(self.model.dtype), values.to(self.model.dtype), layer)
        return cache

    def read(self, prompt: Prompt, cache: DynamicCache) -> Tensor:
        """Hidden states (B, T, D) of the prompt; `cache` has its prefix and is extended. Padding
        has no position.
        """
        positions = (prompt.whole_mask.cumsum(1) - 1).clamp(min=0)  # (B, P + T)
        return self.backbone(
            inputs_embeds=prompt.embeds.to(self.model.dtype),
            attention_mask=prompt.whole_mask,
            position_ids=positions[:, -prompt.embeds.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state


def slice_layers(lm: FrozenLM, first: int, count: int) -> nn.Module:
    """A decoder of `count` layers of the LM from layer `first` on, with the LM's final norm.

    Its modules are new and share the weights. Raises ModelError if the decoder has no list of
    layers.
    """
    shared = {id(tensor): tensor for tensor in lm.backbone.parameters()}
    decoder = copy.deepcopy(lm.backbone, shared)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == lm.layers:
            decoder.set_submodule(name, module[first : first + count])
            # decoders read the kind of each layer by its place in the list
            config: Any = decoder.config
            if kinds := getattr(config, "layer_types", None):
                config.layer_types = kinds[first : first + count]
            if first and hasattr(decoder, "embedding_multiplier"):
                setattr(decoder, "embedding_multiplier", 1.0)  # noqa: B010 - the inputs are states, not embeddings
            return decoder
    raise ModelError(
        f"{type(lm.backbone).__name__} has no list of {lm.layers} layers: Θ and ψ cannot use its "
        "layers"
    )


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` has instructions for it, else float32, which is then several times
    faster.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every weight, in the order of the names.

    Equal to `FrozenLM.digest` while the weights are unmodified and in their stored type
    (docs/method.md#checks, h).
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
