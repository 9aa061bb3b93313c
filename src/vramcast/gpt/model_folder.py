"""A Hugging Face folder read as a model: a reference GPT where vramcast wrote it, what `AutoModelForCausalLM` makes of it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from vramcast.errors import InputError, ModelConfigError
from vramcast.gpt.gpt2_format import from_gpt2, gpt2_config, has_biases, reference_config
from vramcast.gpt.model import ReferenceGPTForCausalLM, register
from vramcast.gpt.run_folder import WEIGHTS
from vramcast.gpt.tokenizer import load_tokenizer, vocabulary_sha256
from vramcast.models import ModelConfig, load_model, model_from_fields
from vramcast.models.strict_json import read_object
from vramcast.record.building import ModelBuilder, quiet_transformers

MARK = "vramcast"
"""Key of config.json that says which vocabulary a model was trained with and, of a reference GPT, its own configuration."""
_SIZES = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "tie_word_embeddings")


def read_config(folder: Path, flag: str = "model") -> ModelConfig:
    """The architecture in a folder, as it is forecast and trained; `flag` named the folder.

    A reference GPT that was trained on elsewhere, as the GPT-2 its folder describes, has biases afterwards: it is one with biases now.

    Raises:
        ModelConfigError: no config.json, or one that is not usable.
    """
    # Absolute, or a folder called like a preset would be taken for the preset.
    config = load_model(folder.absolute(), offline=True, field=flag)
    if "gpt" not in _mark(folder):
        return config
    _check_sizes(folder, config)
    if config.fields["bias"] or not has_biases(_biases(folder)):
        return config
    told = "its weights have biases, which it was given elsewhere: it is a model with biases now"
    changed = model_from_fields(
        config.fields | {"bias": True}, name=config.name, source=config.source, origin=config.origin
    )
    return changed.model_copy(update={"assumptions": (*config.assumptions, told)})


def _check_sizes(folder: Path, config: ModelConfig) -> None:
    """The GPT-2 that the file describes must still be the reference GPT that it says it is."""
    described = read_object(folder / "config.json")
    for name, size in gpt2_config(reference_config(config.fields)).to_dict().items():
        if name in _SIZES and described.get(name, size) != size:
            fix = f"{MARK}.gpt says {size}: the model was changed elsewhere; remove the key {MARK} from config.json"
            raise ModelConfigError(name, described[name], f"{fix} [{folder / 'config.json'}]")


def _biases(folder: Path) -> dict[str, torch.Tensor]:
    """None where there are no weights that can be read: who loads them says so."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.endswith(".bias")}
    except (OSError, SafetensorError):
        return {}


def write_config(folder: Path, model: Any, fields: dict[str, Any], vocabulary: str) -> None:
    """config.json and generation_config.json of a model that is trained here."""
    is_reference = isinstance(model, ReferenceGPTForCausalLM)
    config = gpt2_config(model.config) if is_reference else model.config
    setattr(config, MARK, {"vocabulary_sha256": vocabulary} | ({"gpt": fields} if is_reference else {}))
    config.dtype = model.dtype
    config.save_pretrained(folder)
    generation = GenerationConfig.from_model_config(config) if is_reference else model.generation_config
    if generation is not None:
        generation.save_pretrained(folder)


def folder_tokenizer(folder: Path, config: ModelConfig, flag: str) -> Any:
    """The tokenizer of a model's folder.

    Raises:
        InputError: there is none, or it is not the one the model was trained with.
    """
    tokenizer = load_tokenizer(folder, flag)
    check_vocabulary(tokenizer, config, flag, str(folder))
    trained_with = _mark(folder).get("vocabulary_sha256")
    if trained_with is not None and trained_with != vocabulary_sha256(tokenizer):
        fix = "its tokenizer.json is not the one the model was trained with; put that one back"
        raise InputError(flag, str(folder), fix)
    return tokenizer


def check_vocabulary(tokenizer: Any, config: ModelConfig, flag: str, value: object) -> None:
    """Every token must have a row of the embedding.

    Raises:
        InputError: the tokenizer has more tokens.
    """
    tokens, rows = max(tokenizer.get_vocab().values()) + 1, config.dimensions.vocab_size
    if tokens > rows:
        raise InputError(
            flag, value, f"has {tokens} tokens, the model's embedding {rows} rows; they do not belong together"
        )


def load_folder(folder: Path, flag: str, *, attention: str, dtype: torch.dtype, dropout: float | None = None) -> Any:
    """The model in a folder.

    Raises:
        InputError: its weights are missing, truncated or do not fit its config.json; named by `flag`.
    """
    quiet_transformers()
    register()
    config = read_config(folder, flag)
    try:
        if "gpt" in _mark(folder):
            return _load_reference(folder, config, attention, dtype, dropout)
        return _load_pretrained(folder, attention, dtype)
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = f"its weights cannot be loaded, they are truncated or not of its config.json: {reason}"
        raise InputError(flag, str(folder), fix) from error


def _load_reference(
    folder: Path, config: ModelConfig, attention: str, dtype: torch.dtype, dropout: float | None
) -> Any:
    model = ModelBuilder(config, attention=attention, dtype=dtype, dropout=dropout)()
    weights = from_gpt2(load_file(folder / WEIGHTS), model.config)
    model.load_state_dict(weights, strict=not model.config.tie_word_embeddings)
    return model


def _load_pretrained(folder: Path, attention: str, dtype: torch.dtype) -> Any:
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager" if attention == "eager" else "sdpa",
        local_files_only=True,
        output_loading_info=True,
    )
    if loading["missing_keys"]:
        raise KeyError(f"{min(loading['missing_keys'])} is missing")
    return model


def _mark(folder: Path) -> dict[str, Any]:
    mark = read_object(folder / "config.json").get(MARK)
    return mark if isinstance(mark, dict) else {}
