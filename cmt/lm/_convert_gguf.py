"""Conversion of a GGUF file into a folder that transformers loads: bfloat16 safetensors,
configuration, tokenizer.
"""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    modeling_gguf_pytorch_utils,
)

from cmt.errors import ModelError
from cmt.lm._configuration import unsupported
from cmt.lm._download import OnProgress
from cmt.lm._quiet import quiet_transformers


def convert(*, file: Path, folder: Path, on_progress: OnProgress | None = None) -> None:
    """Write the model and tokenizer of `file` to the new `folder`.

    Raises ModelError if it is no decoder-only LM that cmt can run, or lacks a weight.
    """

    def report_tensors(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        all_tensors = list(tensors)
        for done, tensor in enumerate(all_tensors, start=1):
            yield tensor
            if on_progress:
                on_progress("convert", done, len(all_tensors))

    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    source |= {"local_files_only": True, "trust_remote_code": False}
    try:
        with (
            # transformers reads the header three times and builds a table of names for every
            # module: 13 s instead of 5
            patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
            patch.object(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
            patch.object(modeling_gguf_pytorch_utils, "tqdm", report_tensors),
            quiet_transformers(),
        ):
            if problem := unsupported(AutoConfig.from_pretrained(**source)):
                raise ModelError(
                    f"{file}: not supported, because {problem}; docs/models.md lists what runs"
                )
            tokenizer = AutoTokenizer.from_pretrained(**source)
            model, loaded = AutoModelForCausalLM.from_pretrained(
                **source,
                output_loading_info=True,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                attn_implementation="eager",  # every architecture has it, and only weights are read
            )
            if absent := sorted(loaded["missing_keys"]):  # transformers would draw it at random
                raise ModelError(
                    f"{file} is no complete {model.config.model_type}: "
                    f"it lacks the weight {absent[0]}"
                )
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except (ModelError, OSError, SafetensorError):
        raise  # the caller explains problems of the disk
    except Exception as error:  # transformers and gguf raise many kinds for a foreign file
        raise ModelError(f"{file} cannot be read as a decoder-only LM in GGUF: {error}") from error
