"""A snapshot as PyTorch 2.13 writes it, put together by hand: the driver's addresses, the allocator's sizes."""

from copy import deepcopy
from typing import Any

from vramcast.units import MIB

LARGE = 0x7F2A40000000
SMALL = 0x7F2A3E000000
SIDE = 0x7F2A60000000
SIDE_STREAM = 94_561_234_567_890
FRAMES = [{"filename": "/repo/train.py", "line": 41, "name": "forward"}]


def _entry(action: str, addr: int, size: int, stream: int = 0) -> dict[str, Any]:
    common = {
        "stream": stream,
        "time_us": 1_790_000_000,
        "compile_context": "N/A",
        "user_metadata": "",
        "pool_id": (0, 0),
    }
    where = {"device_free": addr} if action == "oom" else {"addr": addr}
    return {"action": action, **where, "size": size, "frames": FRAMES, **common}


def _block(address: int, size: int, requested: int, state: str) -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": requested, "state": state, "frames": FRAMES}


def _segment(address: int, kind: str, blocks: list[dict[str, Any]], stream: int = 0) -> dict[str, Any]:
    def total(key: str, *states: str) -> int:
        return sum(block[key] for block in blocks if not states or block["state"] in states)

    active = ("active_allocated", "active_pending_free")
    return {
        "device": 0,
        "address": address,
        "total_size": total("size"),
        "allocated_size": total("size", "active_allocated"),
        "active_size": total("size", *active),
        "requested_size": total("requested_size", *active),
        "stream": stream,
        "segment_type": kind,
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": FRAMES,
        "blocks": blocks,
    }


# 3 MiB + 5 B and 2 MiB share a 20 MiB segment, 1000 B open a small one; 12 MiB on another stream have their own and
# are in use elsewhere when freed; the 3 MiB are freed at once and leave a hole; 30 MiB come and are given back.
_TRACE = [
    _entry("segment_alloc", LARGE, 20 * MIB),
    _entry("alloc", LARGE, 3 * MIB + 5),
    _entry("alloc", LARGE + 3 * MIB + 512, 2 * MIB),
    _entry("segment_alloc", SMALL, 2 * MIB),
    _entry("alloc", SMALL, 1000),
    _entry("segment_alloc", SIDE, 12 * MIB, SIDE_STREAM),
    _entry("alloc", SIDE, 12 * MIB, SIDE_STREAM),
    _entry("free_requested", LARGE, 3 * MIB + 5),
    _entry("free_completed", LARGE, 3 * MIB + 5),
    _entry("segment_alloc", LARGE + 64 * MIB, 30 * MIB),
    _entry("alloc", LARGE + 64 * MIB, 30 * MIB),
    _entry("free_requested", LARGE + 64 * MIB, 30 * MIB),
    _entry("free_completed", LARGE + 64 * MIB, 30 * MIB),
    _entry("segment_free", LARGE + 64 * MIB, 30 * MIB),
    _entry("free_requested", SIDE, 12 * MIB, SIDE_STREAM),
    _entry("oom", 5 * MIB, 900 * MIB),
    _entry("snapshot", 0, 14 * MIB + 1024),
]

_SEGMENTS = [
    _segment(
        SMALL,
        "small",
        [_block(SMALL, 1024, 1000, "active_allocated"), _block(SMALL + 1024, 2 * MIB - 1024, 0, "inactive")],
    ),
    _segment(
        LARGE,
        "large",
        [
            _block(LARGE, 3 * MIB + 512, 3 * MIB + 5, "inactive"),
            _block(LARGE + 3 * MIB + 512, 2 * MIB, 2 * MIB, "active_allocated"),
            _block(LARGE + 5 * MIB + 512, 15 * MIB - 512, 0, "inactive"),
        ],
    ),
    _segment(SIDE, "large", [_block(SIDE, 12 * MIB, 12 * MIB, "active_pending_free")], SIDE_STREAM),
]


def real_snapshot() -> dict[str, Any]:
    """A fresh copy, free to be damaged."""
    snapshot = {
        "segments": _SEGMENTS,
        "device_traces": [_TRACE, []],
        "allocator_settings": {"PYTORCH_CUDA_ALLOC_CONF": "", "max_split_size": -1, "expandable_segments": False},
        "external_annotations": [{"name": "step", "stage": "START", "device": 0, "time_us": 1_790_000_000}],
    }
    return deepcopy(snapshot)
