"""Conversion of GGUF files."""

import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cmt.errors import ModelError
from cmt.lm.convert_gguf import convert, quiet_transformers
from tests.helpers.tiny import tiny_model, tiny_tokenizer


def test_the_converted_folder_holds_the_model_and_its_tokenizer(tiny_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    convert(file=tiny_gguf, folder=folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, use_safetensors=True)
    weights, expected = model.state_dict(), tiny_model().state_dict()
    assert model.dtype == torch.bfloat16
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = "hello you"
    assert tokenizer.encode(text, add_special_tokens=False) == tiny_tokenizer().encode(text, add_special_tokens=False)


def test_progress_counts_the_tensors(tiny_gguf: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    convert(file=tiny_gguf, folder=tmp_path / "converted", on_progress=lambda *call: calls.append(call))
    assert calls == [("convert", done, 20) for done in range(1, 21)]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"odd\.gguf cannot be read as a decoder-only LM"):
        convert(file=tmp_path / "odd.gguf", folder=tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("progress_bar", [True, False])
def test_the_logging_of_transformers_is_restored(progress_bar: bool) -> None:
    level, before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    enable, disable = transformers_logging.enable_progress_bar, transformers_logging.disable_progress_bar
    (enable if progress_bar else disable)()
    try:
        with pytest.raises(KeyError), quiet_transformers():
            assert not transformers_logging.is_progress_bar_enabled()
            assert transformers_logging.get_verbosity() == logging.ERROR
            raise KeyError
        assert transformers_logging.is_progress_bar_enabled() == progress_bar
        assert transformers_logging.get_verbosity() == level
    finally:
        (enable if before else disable)()
