"""Loading of an LM's folder by transformers, which can run code that a config file names.

`auto_map` names code to run, `attn_implementation` a kernel to download, `adapter_config.json`
another model to load; each works from a configuration file, whatever arguments the caller
passes. So a configuration may only hold the fields of its architecture, and every other field is
refused before transformers reads it. `cmt model pull` writes such a configuration
(`cmt.lm._configuration`).
"""

import inspect
from pathlib import Path
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from cmt.common.storage import read_json
from cmt.errors import ModelError
from cmt.lm._quiet import quiet_transformers

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS_INDEX = "model.safetensors.index.json"

# notes of the programs that wrote a configuration, and fields of earlier versions of transformers
_NOTES = """
_model_name_or_path _name_or_path architectures dtype finetuning_task gradient_checkpointing
is_llama_config max_window_layers model_type n_ctx output_past prefix rope_interleaved rope_scaling
rope_theta sliding_window task_specific_params tokenizer_class torch_dtype transformers.js_config
transformers_version unk_token_id unsloth_fixed unsloth_version use_cache use_mrope
use_sliding_window
"""
# settings of generation, which were once part of the configuration; cmt decodes by itself
_GENERATION = """
bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample
early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id
forced_eos_token_id length_penalty max_length min_length no_repeat_ngram_size num_beam_groups
num_beams num_return_sequences output_scores remove_invalid_values repetition_penalty
return_dict_in_generate sep_token_id suppress_tokens temperature top_k top_p typical_p
"""
_CODE = """
attn_implementation auto_map code_revision custom_generate custom_pipelines experts_implementation
quantization_config trust_remote_code use_kernels
"""
# transformers first builds what a configuration names: largest number of layers, and largest other
# number (LMs with a context of a million tokens have a rope_theta of 3.6 · 10⁹)
MAX_LAYERS, LARGEST_NUMBER = 512, 10**10
HARMLESS, FORBIDDEN = frozenset((_NOTES + _GENERATION).split()), frozenset(_CODE.split())


def load_model(folder: Path, *, dtype: Any) -> PreTrainedModel:
    """The model in `folder`, with its weights as `dtype` (a torch type, or "auto": as stored).

    Raises ModelError as `check_folder`, also if the files lack a weight, and what transformers
    raises if a file is missing or damaged.
    """
    check_folder(folder)
    local = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers():
        config = AutoConfig.from_pretrained(folder, **local)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=attention_of(config),
            output_loading_info=True,
            **local,
        )
    if absent := sorted([*loaded["missing_keys"], *loaded["mismatched_keys"]], key=str):
        raise ModelError(
            f"{folder} is no complete {config.model_type}: its files lack the weight {absent[0]}"
        )
    return model


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of the LM with this configuration."""
    classes: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return classes[0] if isinstance(classes, tuple) else classes


def attention_of(config: PreTrainedConfig) -> str:
    """The attention of an LM: sdpa, or eager where its architecture has no sdpa.

    Chosen here, because a configuration can name another one, even a kernel to download.
    """
    return "sdpa" if model_class(config)._supports_sdpa else "eager"


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, a folder that `load_model` has accepted.

    Raises ModelError if it has no end-of-sequence token, and what transformers raises.
    """
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer in {folder} has no end-of-sequence token: set eos_token in its "
            f"{TOKENIZER_CONFIG}, in a copy of the folder (lm.source: path:<folder>)"
        )
    return tokenizer


def check_folder(folder: Path) -> None:
    """Raise ModelError if a file in `folder` names code, kernels or weights elsewhere, or if it is
    no known LM.

    Raises ModelError, too, if this user may not read a file. Raises OSError without a
    configuration.
    """
    _check_rights(folder)
    # 1. the configuration: a known architecture, with its own fields; it and the tokenizer name no
    #    code
    config = read_object(folder / CONFIG)
    kind = architecture(folder / CONFIG, config)
    for file in (folder / CONFIG, folder / TOKENIZER_CONFIG):
        if file.exists() and (names := without_code(read_object(file))[1]):
            raise _refused(file, f"{names[0]!r} can load code, kernels or other weights")
    if unknown := sorted(config.keys() - fields_of(kind) - HARMLESS):
        raise _refused(folder / CONFIG, f"{', '.join(unknown)[:500]} is no field of a {kind}")
    for name, value in config.items():
        most = MAX_LAYERS if "layer" in name else LARGEST_NUMBER
        if isinstance(value, int | float) and not abs(value) <= most:
            raise _refused(folder / CONFIG, f"{name} is above {most:,}, which no LM has")
    # 2. the weights: no files outside the folder
    if (folder / "adapter_config.json").exists():
        raise _refused(
            folder / "adapter_config.json", "it names another model to load: merge the adapter"
        )
    if (folder / WEIGHTS_INDEX).exists():
        shards = read_object(folder / WEIGHTS_INDEX).get("weight_map")
        names_files = isinstance(shards, dict) and all(
            Path(str(name)).name == name for name in shards.values()
        )
        if not names_files:
            raise _refused(folder / WEIGHTS_INDEX, "it names files outside its folder")


def _check_rights(folder: Path) -> None:
    for file in folder.iterdir():
        if not file.is_file():
            continue
        try:
            file.open("rb").close()
        except PermissionError:
            raise ModelError(
                f"{file.resolve()} may not be read by this user: "
                "let its owner give the right (chmod a+r)"
            ) from None


def architecture(file: Path, config: dict[str, Any]) -> str:
    """The `model_type` of the configuration in `file`. Raises ModelError if it is no decoder-only
    LM.
    """
    kind = config.get("model_type")
    if (
        not isinstance(kind, str)
        or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        or kind not in CONFIG_MAPPING
    ):
        raise _refused(
            file, f"its model_type {kind!r} is no decoder-only LM of the installed transformers"
        )
    return kind


def fields_of(kind: str) -> frozenset[str]:
    """The fields that the configuration of an architecture has, also under their common names."""
    config = CONFIG_MAPPING[kind]
    return frozenset(
        {*inspect.signature(config.__init__).parameters, *config().to_dict(), *config.attribute_map}
        - {"self", "kwargs"}
        - FORBIDDEN
    )


def without_code(content: Any) -> tuple[Any, list[str]]:
    """`content` without keys, at any depth, that name code or kernels or are private, and these
    keys, sorted.
    """
    names: list[str] = []
    if isinstance(content, list):
        parts = [without_code(item) for item in content]
        return [part for part, _ in parts], [name for _, found in parts for name in found]
    if not isinstance(content, dict):
        return content, names
    kept = {}
    for key, value in content.items():
        if key in FORBIDDEN or (
            key.startswith("_") and key not in HARMLESS
        ):  # a private key can set an attribute
            names.append(key)
            continue
        kept[key], found = without_code(value)
        names += found
    return kept, sorted(set(names))


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises OSError, and ModelError if it is damaged."""
    try:
        return read_json(file, dict[str, Any])
    except ValueError as error:
        raise ModelError(f"{file} is damaged ({error}): run `cmt model pull` again") from None


def _refused(file: Path, reason: str) -> ModelError:
    return ModelError(
        f"{file} is refused: {reason}. Use an LM without it, or a copy of the folder with the file "
        "corrected (lm.source: path:<folder>)"
    )
