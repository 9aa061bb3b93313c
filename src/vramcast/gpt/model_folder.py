"""A Hugging Face folder read as a model: a reference GPT where vramcast wrote it, what `AutoModelForCausalLM` makes of it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from vramcast.errors import InputError
from vramcast.gpt.gpt2_format import from_gpt2, gpt2_config
from vramcast.gpt.model import ReferenceGPTForCausalLM, register
from vramcast.gpt.run_folder import WEIGHTS
from vramcast.gpt.tokenizer import load_tokenizer, vocabulary_sha256
from vramcast.models import ModelConfig, load_model
from vramcast.models.strict_json import read_object
from vramcast.record.building import ModelBuilder, quiet_transformers

MARK = "vramcast"
"""Key of config.json that says which vocabulary a model was trained with and, of a reference GPT, its own configuration."""


def read_config(folder: Path) -> ModelConfig:
    """The architecture in a folder, as it is forecast and trained.

    Raises:
        ModelConfigError: no config.json, or one that is not usable.
    """
    # Absolute, or a folder called like a preset would be taken for the preset.
    return load_model(folder.absolute(), offline=True)


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
    config = read_config(folder)
    try:
        reference = _load_reference(folder, config, attention, dtype, dropout) if "gpt" in _mark(folder) else None
        return reference or _load_pretrained(folder, attention, dtype)
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = f"its weights cannot be loaded, they are truncated or not of its config.json: {reason}"
        raise InputError(flag, str(folder), fix) from error


def _load_reference(
    folder: Path, config: ModelConfig, attention: str, dtype: torch.dtype, dropout: float | None
) -> Any | None:
    model = ModelBuilder(config, attention=attention, dtype=dtype, dropout=dropout)()
    weights = from_gpt2(load_file(folder / WEIGHTS), model.config)
    if weights is None:
        return None
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
