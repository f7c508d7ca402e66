"""What a pull leaves out of a configuration, and the architectures that it refuses before the
download.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, Gemma3TextConfig, OPTConfig

from cmt.errors import ModelError
from cmt.lm._configuration import check_configuration, clean_configuration, unsupported
from cmt.lm._loading import attention_of, check_folder
from cmt.lm.model import FrozenLM, slice_layers
from cmt.lm.weights import pull
from tests.helpers.architectures import REFUSED, RUN, build
from tests.helpers.hub import Hub, serve_hub
from tests.helpers.lms import tokenizer
from tests.helpers.tiny import change_json, write_folder

PAGE = Path(__file__).parents[2] / "docs/models.md"


def test_a_pull_leaves_out_fields_that_name_code_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = write_folder(tmp_path / "original")
    plain = FrozenLM.load(pull(source=f"path:{original}", path=tmp_path / "plain"), dtype="float32")
    change_json(
        original / "config.json",
        auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"},
        _private=1,
        other=2,
    )
    change_json(
        original / "config.json",
        rope_parameters={"rope_theta": 1e4, "rope_type": "default", "_code": "evil"},
    )
    change_json(original / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    before = (original / "config.json").read_bytes()
    pulled = pull(source=f"path:{original}", path=tmp_path / "cleaned")
    left_out = [record.getMessage() for record in caplog.records]
    assert "left out of config.json: _code, _private, auto_map, other" in left_out
    assert "left out of tokenizer_config.json: auto_map" in left_out
    check_folder(pulled)
    assert (original / "config.json").read_bytes() == before
    assert FrozenLM.load(pulled, dtype="float32").digest == plain.digest


def test_a_field_that_sets_others_is_replaced_by_them(tmp_path: Path) -> None:
    config = Gemma3TextConfig(num_hidden_layers=4, sliding_window_pattern=2).to_dict() | {
        "sliding_window_pattern": 2
    }
    del config["layer_types"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert clean_configuration(tmp_path) == {
        "config.json": ["_sliding_window_pattern", "sliding_window_pattern"]
    }
    check_folder(tmp_path)
    kinds = json.loads((tmp_path / "config.json").read_text())["layer_types"]
    assert kinds == ["sliding_attention", "full_attention"] * 2


def test_a_field_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OPTConfig().to_dict()))
    clean_configuration(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(OPTConfig(_remove_final_layer_norm=True).to_dict())
    )
    with pytest.raises(
        ModelError, match="_remove_final_layer_norm of its configuration cannot be kept"
    ):
        clean_configuration(tmp_path)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_architecture_that_cannot_run_is_refused_by_its_configuration(
    kind: str, tmp_path: Path
) -> None:
    config = CONFIG_MAPPING[kind]()
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    started = time.monotonic()
    with pytest.raises(ModelError, match=f"not supported, because .*{REFUSED[kind]}"):
        check_configuration(tmp_path / "config.json")
    assert time.monotonic() - started < 20  # 0.1 s on an idle core


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "its weights are quantised"),
        ({"num_hidden_layers": 10**9}, "it has more than 512 layers"),
        ({"hidden_size": -1}, "is damaged"),
    ],
)
def test_values_that_no_pull_takes(values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "original")
    change_json(folder / "config.json", **values)
    with pytest.raises(ModelError, match=reason):
        pull(source=f"path:{folder}", path=tmp_path / "lm")


def test_weights_that_do_not_fit_the_architecture_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "original")
    change_json(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(
        ModelError, match="is no complete llama: its files lack the weight model.layers.2"
    ):
        pull(source=f"path:{folder}", path=tmp_path / "lm")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of a hub with a mamba as `hub:org/tiny@main`."""
    folder, asked = write_folder(tmp_path / "hub"), list[str]()
    (folder / "config.json").write_text(json.dumps(CONFIG_MAPPING["mamba"]().to_dict()))

    class Recording(Hub):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        do_HEAD = do_GET

    with serve_hub(Recording, folder, monkeypatch):
        yield asked


def test_a_refused_model_of_the_hub_is_not_downloaded(hub: list[str], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not supported, because"):
        pull(source="hub:org/tiny@main", path=tmp_path / "lm")
    assert any("config.json" in path for path in hub) and not any(
        "safetensors" in path for path in hub
    )
    assert not list((tmp_path / "lm").glob("[a-z]*"))


def test_eager_attention_is_used_where_an_architecture_has_no_sdpa() -> None:
    kinds = {kind: attention_of(CONFIG_MAPPING[kind]()) for kind in ("gemma2", "gpt_oss", "llama")}
    assert kinds == {"gemma2": "eager", "gpt_oss": "eager", "llama": "sdpa"}


def test_a_part_of_the_layers_keeps_the_kind_of_each() -> None:
    model = build("gemma3_text")
    model.config.layer_types = model.base_model.config.layer_types = [
        *["sliding_attention"] * 3,
        "full_attention",
    ]
    lm = FrozenLM(model, tokenizer(), "digest")
    assert slice_layers(lm, 2, 2).config.layer_types == ["sliding_attention", "full_attention"]
    assert len(model.config.layer_types) == 4


def test_the_page_lists_the_architectures_of_the_tests() -> None:
    rows = [
        line.split("|")[1:3]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and "`model_type`" not in line
    ]
    named = {
        name: verdict.strip() for names, verdict in rows for name in re.findall(r"`([^`]+)`", names)
    }
    assert {name for name, verdict in named.items() if verdict.startswith("runs")} == set(RUN)
    assert {name for name, verdict in named.items() if not verdict.startswith("runs")} == set(
        REFUSED
    )


def test_embeddings_of_another_size_than_the_states_are_refused() -> None:
    with torch.device("meta"):  # as in opt-350m
        assert unsupported(build("opt", word_embed_proj_dim=32).config) == (
            "its embeddings and its states differ in size"
        )


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "falcon"])
def test_a_supported_configuration_has_no_problem(kind: str) -> None:
    with torch.device("meta"):
        assert unsupported(build(kind).config) is None
