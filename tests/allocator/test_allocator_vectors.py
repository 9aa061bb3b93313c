"""The allocator against tables of (allocated, active, reserved) after every step, worked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from vramcast.allocator import AllocatorConfig, AllocatorOutOfMemory, Block, CachingAllocator

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))


def _apply(allocator: CachingAllocator, step: dict[str, Any], blocks: dict[str, Block | None]) -> None:
    match step["op"]:
        case "malloc":
            if step.get("out_of_memory"):
                with pytest.raises(AllocatorOutOfMemory):
                    allocator.malloc(step["nbytes"], step.get("stream", 0))
            else:
                blocks[step["block"]] = allocator.malloc(step["nbytes"], step.get("stream", 0))
        case "free":
            allocator.free(blocks.pop(step["block"]))
        case "record_stream":
            allocator.record_stream(blocks[step["block"]], step["stream"])
        case "events_complete":
            allocator.synchronize()
            allocator.process_events()
        case "empty_cache":
            allocator.empty_cache()
        case unknown:
            raise AssertionError(unknown)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    config = AllocatorConfig.from_environment_string(vector["environment"])
    allocator = CachingAllocator(config, vector["capacity_bytes"], deferred_free=vector["deferred_free"])
    counts = allocator.statistics.all
    blocks: dict[str, Block | None] = {}
    for number, step in enumerate(vector["steps"]):
        _apply(allocator, step, blocks)
        seen = (counts.allocated_bytes, counts.active_bytes, counts.reserved_bytes)
        assert seen == (step["allocated"], step["active"], step["reserved"]), (number, step)
        if "num_alloc_retries" in step:
            assert allocator.statistics.num_alloc_retries == step["num_alloc_retries"]
    peaks = (counts.allocated_bytes_peak, counts.active_bytes_peak, counts.reserved_bytes_peak)
    assert peaks == tuple(vector["peaks"][name] for name in ("allocated", "active", "reserved"))
    assert allocator.statistics.num_alloc_retries == vector["num_alloc_retries"]


def test_every_vector_is_there() -> None:
    assert [vector["name"] for vector in VECTORS] == [f"V{i}" for i in range(1, 21)] + ["V20n"]
    assert sum(len(vector["steps"]) for vector in VECTORS) == 123
