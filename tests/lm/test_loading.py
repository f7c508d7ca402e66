"""Loading an LM: a folder's files cannot have code, kernels or other weights loaded."""

import socket
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from cmt.errors import ModelError
from cmt.lm._loading import check_folder, load_model, load_tokenizer
from cmt.lm.model import FrozenLM
from cmt.lm.weights import pull
from tests.helpers.permissions import as_nobody, make_read_only, readable_folder
from tests.helpers.tiny import change_json, tiny_tokenizer, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "original")


def test_weights_that_this_user_may_not_read_are_named_with_the_remedy() -> None:
    """safetensors writes files of mode 0600, to which a pulled folder may link."""
    with readable_folder() as folder:
        make_read_only(write_folder(folder))
        (folder / "model.safetensors").chmod(0o000)
        with (
            as_nobody(),
            pytest.raises(
                ModelError, match=r"model.safetensors may not be read by this user: .*chmod a\+r"
            ),
        ):
            FrozenLM.load(folder)


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("config.json", {"attn_implementation": "evil/kernel"}),
    ("config.json", {"_attn_implementation": "evil/kernel"}),
    ("config.json", {"_attn_implementation_internal": "evil/kernel"}),
    ("config.json", {"_experts_implementation": "evil/kernel"}),
    ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}),
    ("config.json", {"quantization_config": {"quant_method": "evil", "modules": "evil/code"}}),
    ("config.json", {"rope_parameters": {"rope_theta": 1e4, "attn_implementation": "evil/kernel"}}),
    ("config.json", {"model_type": "evil"}),
    ("config.json", {"model_type": "clip"}),
    ("config.json", {"model_type": 5}),
    ("config.json", {"evil_field": 1}),
    ("config.json", {"__class__": "Evil"}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
    ("adapter_config.json", {"base_model_name_or_path": "/evil", "peft_type": "LORA"}),
    ("model.safetensors.index.json", {"weight_map": {"a": "../evil.safetensors"}}),
]


@pytest.mark.parametrize(("name", "values"), HOSTILE)
def test_a_hostile_file_is_refused_before_anything_is_loaded(
    folder: Path, tmp_path: Path, name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    (folder / "modeling_evil.py").write_text("raise RuntimeError('never run')\n")
    change_json(folder / name, **values)
    with pytest.raises(ModelError, match=rf"{name} is refused: .*lm\.source"):
        FrozenLM.load(folder)
    if (
        "model_type" in values
        or "quantization_config" in values
        or name.startswith(("adapter", "model."))
    ):
        with pytest.raises(ModelError, match=rf"{name}(: not supported| is refused)"):
            pull(source=f"path:{folder}", path=tmp_path / "lm")
    else:  # a pull leaves the field out of its own copy
        FrozenLM.load(pull(source=f"path:{folder}", path=tmp_path / "lm"))


@pytest.mark.parametrize(
    "content", ["", "[]", "5", '{"model_type": "llama"', "null", "[" * 100_000]
)
def test_a_damaged_configuration_is_refused_in_one_line(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json is damaged .*cmt model pull") as caught:
        FrozenLM.load(folder)
    assert "\n" not in str(caught.value)


def test_fields_of_the_architecture_and_notes_of_other_programs_are_accepted(folder: Path) -> None:
    change_json(
        folder / "config.json",
        rope_theta=3580165449.0,
        torch_dtype="bfloat16",
        _name_or_path="org/name",
    )
    change_json(
        folder / "config.json",
        is_llama_config=True,
        unk_token_id=0,
        pretraining_tp=1,
        temperature=0.7,
    )
    change_json(folder / "config.json", **{"transformers.js_config": {"dtype": "q4"}})
    model = load_model(folder, dtype="auto")
    assert model.config._attn_implementation == "sdpa"
    assert load_tokenizer(folder).encode("hello") == tiny_tokenizer().encode("hello")


def test_a_tokenizer_without_an_end_of_sequence_token_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(
        ModelError, match=r"no end-of-sequence token: set eos_token in its tokenizer_config\.json"
    ):
        pull(source=f"path:{folder}", path=tmp_path / "lm")


def test_another_architecture_has_its_own_fields(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    check_folder(tmp_path)
    change_json(tmp_path / "config.json", rms_norm_eps=1e-5)
    with pytest.raises(ModelError, match="rms_norm_eps is no field of a gpt2"):
        check_folder(tmp_path)
