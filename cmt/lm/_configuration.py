"""The configuration of an LM before it is used: whether cmt can run the architecture, and what a
pull leaves out.

A published configuration often has fields that name code (`auto_map`), kernels or other weights.
`cmt model pull` writes its own copy without them; `cmt.lm._loading` then refuses every field that
an architecture does not have.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from cmt.common.storage import write_json
from cmt.errors import ModelError
from cmt.lm._loading import (
    CONFIG,
    HARMLESS,
    MAX_LAYERS,
    TOKENIZER_CONFIG,
    architecture,
    attention_of,
    fields_of,
    model_class,
    read_object,
    without_code,
)
from cmt.lm._quiet import quiet_transformers
from cmt.text.display import first_line

# kinds of layers that keep keys and values of one shape
LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention"}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads")
# arguments of a decoder by which memories reach it
READ_BY = {"inputs_embeds", "attention_mask", "past_key_values"}


def check_configuration(file: Path) -> None:
    """Raise ModelError if cmt cannot run the LM with this configuration; reads no weights and takes
    under a second.
    """
    content = read_object(file)
    kind = architecture(file, content)
    if content.get("quantization_config"):
        raise ModelError(
            f"{file}: not supported, because its weights are quantised: use the original weights"
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict(_clean(kind, content)[0])
        problem = unsupported(config)
    except ModelError:
        raise
    except Exception as error:  # each architecture checks its values in its own way
        raise ModelError(
            f"{file} is damaged: it is no configuration of a {kind} ({first_line(error)})"
        ) from error
    if problem:
        raise ModelError(
            f"{file}: not supported, because {problem}; docs/models.md lists what runs"
        )


def unsupported(config: PreTrainedConfig) -> str | None:
    """Why cmt cannot run an LM with this configuration; None if it can.

    The LM reads soft tokens behind a prefix of keys and values (layers, kv heads, P, head size),
    and Θ and ψ are parts of its list of layers.
    """
    return (
        _problem_of_kind(config)
        or _problem_of_layers(config)
        or _problem_of_attention(config)
        or _problem_of_decoder(config)
    )


def _problem_of_kind(config: PreTrainedConfig) -> str | None:
    if config.is_encoder_decoder:
        return "it is an encoder–decoder"
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "it is an encoder, which reads a text from both sides"
    if config.sub_configs:
        parts = ", ".join(config.sub_configs)
        return f"its configuration has the parts {parts}: use a model that is only a language model"
    return None


def _problem_of_layers(config: PreTrainedConfig) -> str | None:
    if model_class(config)._is_stateful:
        return (
            "its layers keep other states than keys and values "
            "(linear attention or a state-space model)"
        )
    if getattr(config, "is_heterogeneous", False):
        return "its layers differ in size"
    if absent := [name for name in SIZES if not isinstance(getattr(config, name, None), int)]:
        return f"its configuration has no {absent[0]}"
    if config.num_hidden_layers > MAX_LAYERS:
        return f"it has more than {MAX_LAYERS} layers"
    kinds = {str(kind) for kind in config.to_dict().get("layer_types") or ()}
    if other := sorted(kinds - LAYER_TYPES):
        return (
            f"it has layers of the kind {', '.join(other)}, "
            "which keep other states than keys and values"
        )
    return None


def _problem_of_attention(config: PreTrainedConfig) -> str | None:
    values = config.to_dict()
    if values.get("kv_lora_rank"):
        return "it has multi-head latent attention, whose keys and values differ in size"
    if values.get("num_kv_shared_layers") or values.get("hidden_size_per_layer_input"):
        return "its layers share keys and values, or read the ids of tokens"
    if values.get("global_head_dim", values.get("head_dim")) != values.get("head_dim"):
        return "its layers differ in the size of their heads"
    if values.get("alibi") or config.model_type in ("bloom", "mpt"):
        return "its positions are biases of the attention (ALiBi), which do not count memories"
    return None


def _problem_of_decoder(config: PreTrainedConfig) -> str | None:
    """A missing argument, embeddings of another size, or no list of layers."""
    with torch.device("meta"), quiet_transformers():
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_of(config))
    accepted = inspect.signature(model.base_model.forward).parameters
    if missing := sorted(READ_BY - accepted.keys()):
        return f"its decoder takes no {missing[0]}"
    if model.get_input_embeddings().weight.shape[1] != config.hidden_size:
        return "its embeddings and its states differ in size"
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == config.num_hidden_layers:
            return None
    return f"its decoder has no list of {config.num_hidden_layers} layers"


def clean_configuration(folder: Path) -> dict[str, list[str]]:
    """Rewrite the configuration of LM and tokenizer in `folder`, a copy of cmt's own, with only
    known fields.

    A field that is left out but sets known ones, such as a pattern of layers, is replaced by these.
    Returns the names that were left out of each file. Raises ModelError if the model would be
    another one without them.
    """
    content = read_object(folder / CONFIG)
    files = {CONFIG: _clean(architecture(folder / CONFIG, content), content)}
    if (folder / TOKENIZER_CONFIG).exists():
        files[TOKENIZER_CONFIG] = without_code(read_object(folder / TOKENIZER_CONFIG))
    for file, (cleaned, names) in files.items():
        if names:
            write_json(folder / file, cleaned)
    return {file: names for file, (_, names) in files.items() if names}


def _clean(kind: str, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The known fields of `content`, a configuration of a `kind`, and the sorted names of the
    others.
    """
    # 1. leave out names of code, private fields, and fields that the architecture does not have
    stripped, names = without_code(
        {name: value for name, value in content.items() if name != "quantization_config"}
    )
    cleaned = {
        name: value for name, value in stripped.items() if name in fields_of(kind) | HARMLESS
    }
    names += stripped.keys() - cleaned.keys()
    if not names:
        return cleaned, names
    # 2. keep what they set in known fields
    cleaned |= _set_by_removed(kind, content, stripped, cleaned)
    return cleaned, sorted(set(names))


def _set_by_removed(
    kind: str,
    content: Mapping[str, Any],
    stripped: Mapping[str, Any],
    cleaned: Mapping[str, Any],
) -> dict[str, Any]:
    """The known fields that removed ones set, such as the kind of each layer by a pattern.

    `stripped`: `content` without names of code; `cleaned`: its known fields only. Raises ModelError
    if the model depends on a removed field.
    """
    config = CONFIG_MAPPING[kind]
    # 1. compare the configurations with and without the removed fields
    parameters = inspect.signature(config.__init__).parameters
    private = {name for name in parameters if name.startswith("_")} & content.keys()
    before = config.from_dict(dict(stripped) | {name: content[name] for name in private})
    after = config.from_dict(dict(cleaned))
    then, now = before.to_dict(), after.to_dict()
    changed = {}
    for name in now.keys() & then.keys() & fields_of(kind):
        if not name.startswith("_") and now[name] != then[name]:
            changed[name] = then[name]
    # 2. refuse a model that depends on a removed field
    if changed:
        now = config.from_dict(dict(cleaned) | changed).to_dict()
    lost = [name for name in changed if now[name] != then[name]]
    lost += [name for name in private if vars(before).get(name) != vars(after).get(name)]
    if lost:
        raise ModelError(
            f"not supported, because the field {min(lost)} of its configuration cannot be kept"
        )
    return changed
