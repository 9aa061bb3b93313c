"""Weights that are stored in fewer bits than any precision here: never counted as if they were not.

A config.json says so in `quantization_config` (transformers), `compression_config` (compressed-tensors before it had that name) or
`quantization` (MLX), in a dtype of 8 bits, or in a file beside it (AutoGPTQ, AutoAWQ and ModelOpt before they wrote into config.json).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vramcast.errors import ModelConfigError
from vramcast.models.families import WAY

IGNORE_FLAG = "--ignore-quantization"
_KEYS = ("quantization_config", "compression_config", "quantization")
_SWITCHES = ("load_in_8bit", "load_in_4bit")
"""Of bitsandbytes: in its quantization_config, and beside it in early files."""
_DTYPE_KEYS = ("dtype", "torch_dtype")
_NARROW = ("float8", "float4", "int8", "uint8", "int4", "uint4", "fp8", "fp4")
QUANTIZATION_KEYS = (*_KEYS, *_SWITCHES, *_DTYPE_KEYS)
"""Where a config.json may tell of quantised weights."""
_FILES_BESIDE = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}


def without_quantization(fields: dict[str, Any], ignore: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of the unquantised model, and what a forecast must say of it; those of any other model as they are.

    Raises:
        ModelConfigError: the weights are quantised and `ignore` was not asked for; names the method.
    """
    found = {key: method for key, value in fields.items() if (method := _method(key, value)) is not None}
    for key, method in found.items():
        if not ignore:
            raise _refusal(key, method)
    notes = tuple(_note(key, method) for key, method in found.items())
    return {key: value for key, value in fields.items() if key not in found and key not in (*_KEYS, *_SWITCHES)}, notes


def check_files_beside(config: Path, ignore: bool) -> tuple[str, ...]:
    """What a forecast must say of quantised weights that only a file beside config.json tells of.

    Raises:
        ModelConfigError: there is one and `ignore` was not asked for.
    """
    notes = []
    for name, method in _FILES_BESIDE.items():
        if not config.with_name(name).is_file():
            continue
        if not ignore:
            raise _refusal(name, method)
        notes.append(_note(name, method))
    return tuple(notes)


def _method(key: str, value: object) -> str | None:
    """The method's name as a message shows it; None where this key says nothing of quantised weights."""
    if key in _DTYPE_KEYS:
        return value if isinstance(value, str) and value.removeprefix("torch.").startswith(_NARROW) else None
    if key in _SWITCHES:
        return "bitsandbytes" if value is True else None
    if key not in _KEYS or not value:
        return None
    if not isinstance(value, dict):
        return value if isinstance(value, str) else json.dumps(value)
    for name in ("quant_method", "quant_algo", "format", "mode"):
        if isinstance(value.get(name), str):
            return f"{value[name]}{_bits(value)}"
    if any(value.get(switch) is True for switch in _SWITCHES):
        return "bitsandbytes"
    return f"unnamed method{_bits(value)}"


def _bits(value: dict[str, Any]) -> str:
    bits = value.get("bits", value.get("w_bit"))
    return f", {bits} bits" if isinstance(bits, int) and not isinstance(bits, bool) and 0 < bits <= 64 else ""


def _refusal(key: str, method: str) -> ModelConfigError:
    fix = (
        "its weights are quantised, smaller than what is forecast here; "
        f"{IGNORE_FLAG} answers for the unquantised model, {WAY}"
    )
    return ModelConfigError(key, method, fix)


def _note(key: str, method: str) -> str:
    return f"{key} ({method}) is ignored as asked: the forecast is of the unquantised model, whose weights are larger"
