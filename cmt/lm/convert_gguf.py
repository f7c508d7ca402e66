"""A GGUF file → a folder that transformers loads by itself: bf16 safetensors, configuration, tokenizer."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError

from cmt.errors import ModelError

OnProgress = Callable[[str, int, int | None], None]
"""Called with the stage (`download`, `convert`), what is done, and the total where it is known."""


def convert(*, file: Path, folder: Path, on_progress: OnProgress | None = None) -> None:
    """Write the model and tokenizer of `file` into `folder`, which is made. ModelError: no decoder-only LM."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        with _reading_once(on_progress), quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(**where)
            unpacked = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=unpacked)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except (OSError, SafetensorError):
        raise  # the disk, not the file
    except Exception as error:  # a damaged or foreign file shows in many ways
        raise ModelError(f"{file} cannot be read as a decoder-only LM in GGUF: {error}") from error


@contextlib.contextmanager
def _reading_once(on_progress: OnProgress | None) -> Iterator[None]:
    """transformers reads the header three times and builds a table of names per module; once will do (13 s → 5 s)."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    def counted(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        every = list(tensors)
        for done, tensor in enumerate(every, start=1):
            yield tensor
            if on_progress:
                on_progress("convert", done, len(every))

    with (
        _replaced(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        _replaced(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        _replaced(reading, "tqdm", counted),
    ):
        yield


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and no advice from transformers; its settings are put back."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
