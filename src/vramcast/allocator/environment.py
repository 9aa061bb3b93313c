"""The text syntax of `PYTORCH_CUDA_ALLOC_CONF`: `key:value,key:[a:b,>:c]`.

Source: c10/core/AllocatorConfig.cpp; spaces are ignored, booleans are exactly `True` or `False`, a later key wins
over an earlier one.
"""

import re
from collections.abc import Callable
from typing import Any

from vramcast.errors import InputError
from vramcast.units import MIB

NUM_ROUNDUP_INTERVALS = 16
"""[1 MiB, 2 MiB), [2 MiB, 4 MiB) ... 32 GiB and above."""

_PAIR = re.compile(r"([^:,\[\]]+):(\[[^\[\]]*\]|[^:,\[\]]+)(?:,|$)")
_WHERE = "PYTORCH_CUDA_ALLOC_CONF"

_WITHOUT_EFFECT_ON_GPU_MEMORY = frozenset(
    {
        "release_lock_on_cudamalloc",
        "graph_capture_record_stream_reuse",
        "pinned_use_cuda_host_register",
        "pinned_use_background_threads",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
        "pinned_max_round_threshold_mb",
        "pinned_max_cached_size_mb",
        "pinned_free_catch_all",
    }
)


def parse_settings(text: str) -> dict[str, Any]:
    """Keyword arguments of `AllocatorConfig` for the settings in `text`.

    Raises:
        InputError: the text is not a list of `key:value`, a key is unknown, or a value has the wrong form.
    """
    settings: dict[str, Any] = {}
    for key, value in _pairs("".join(text.split())):
        if key == "backend":
            _check_backend(value)
        elif key in _READERS:
            field, read = _READERS[key]
            settings[field] = read(key, value)
        elif key not in _WITHOUT_EFFECT_ON_GPU_MEMORY:
            known = ", ".join(sorted({"backend", *_READERS, *_WITHOUT_EFFECT_ON_GPU_MEMORY}))
            raise InputError(_WHERE, key, f"unknown setting; known are: {known}")
    return settings


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs, position = [], 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            raise InputError(
                _WHERE, text[position:], "expected key:value pairs separated by commas, such as max_split_size_mb:128"
            )
        pairs.append((match[1], match[2]))
        position = match.end()
    return pairs


def _check_backend(value: str) -> None:
    if value == "cudaMallocAsync":
        raise InputError(
            "backend", value, "this allocator belongs to the CUDA driver and is not simulated; use backend:native"
        )
    if value != "native":
        raise InputError("backend", value, "must be native")


def _boolean(key: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise InputError(key, value, "must be True or False, spelled exactly so")
    return value == "True"


def _integer(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise InputError(key, value, "must be a whole number")
    return int(value)


def _mebibytes(key: str, value: str) -> int:
    return _integer(key, value) * MIB


def _fraction(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(key, value, "must be a number between 0 and 1") from None


def _threshold(key: str, value: str) -> float:
    fraction = _fraction(key, value)
    if not 0.0 < fraction < 1.0:
        raise InputError(key, value, "must lie between 0 and 1; leave it out to switch it off")
    return fraction


def _divisions(key: str, value: str) -> tuple[int, ...]:
    if not value.startswith("["):
        division = _integer(key, value)
        if not _is_power_of_two(division):
            raise InputError(key, value, "must be a power of two")
        return (division,) * NUM_ROUNDUP_INTERVALS
    divisions = [0] * NUM_ROUNDUP_INTERVALS
    last, first = 0, True
    for item in value[1:-1].split(","):
        boundary, colon, division_text = item.partition(":")
        if not colon:
            raise InputError(key, item, "each item of the list is size_mb:divisions, such as 256:4 or >:8")
        division = _integer(key, division_text)
        if boundary == ">":
            divisions[last + 1 :] = [division] * (NUM_ROUNDUP_INTERVALS - last - 1)
            continue
        index = _interval(key, boundary)
        if first:
            divisions[:index] = [division] * index
        divisions[index] = division
        last, first = index, False
    return tuple(divisions)


def _interval(key: str, boundary: str) -> int:
    size_mb = _integer(key, boundary)
    if not _is_power_of_two(size_mb):
        raise InputError(key, boundary, "the size in MiB must be a power of two")
    return min(size_mb.bit_length() - 1, NUM_ROUNDUP_INTERVALS - 1)


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


_READERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "expandable_segments": ("expandable_segments", _boolean),
    "max_split_size_mb": ("max_split_size", _mebibytes),
    "max_non_split_rounding_mb": ("max_non_split_rounding", _mebibytes),
    "roundup_power2_divisions": ("roundup_power2_divisions", _divisions),
    "garbage_collection_threshold": ("garbage_collection_threshold", _threshold),
    "per_process_memory_fraction": ("per_process_memory_fraction", _fraction),
    "large_segment_size_mb": ("large_segment_size", _mebibytes),
    "throw_on_cudamalloc_oom": ("throw_on_cudamalloc_oom", _boolean),
}

SETTING_FIELDS = {key: field for key, (field, _) in _READERS.items()}
"""Field of `AllocatorConfig` for each key that it has one for."""
