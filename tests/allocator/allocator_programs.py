"""Random programs for the allocator, and a runner that applies them."""

from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import strategies as st

from vramcast.allocator import AllocatorConfig, AllocatorOutOfMemory, Block, CachingAllocator
from vramcast.units import MIB


class Operation(NamedTuple):
    """What to do; `number` picks one of the live blocks, or is a size."""

    name: str
    number: int = 0
    stream: int = 0


SIZES = (
    st.integers(0, 4096)
    | st.integers(1, MIB + 1024)
    | st.integers(MIB, 12 * MIB)
    | st.integers(8 * MIB, 90 * MIB)
    | st.sampled_from([512, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB, 20 * MIB, 33 * MIB])
)
STREAMS = st.integers(0, 2)
INDEX = st.integers(0, 1 << 20)

OPERATION = (
    st.builds(Operation, st.just("malloc"), SIZES, STREAMS)
    | st.builds(Operation, st.just("malloc"), SIZES, STREAMS)
    | st.builds(Operation, st.just("free"), INDEX, st.just(0))
    | st.builds(Operation, st.just("free"), INDEX, st.just(0))
    | st.builds(Operation, st.just("record_stream"), INDEX, STREAMS)
    | st.builds(Operation, st.just("record_event"), st.integers(0, 3), st.just(0))
    | st.builds(Operation, st.just("host_wait_event"), st.integers(0, 3), st.just(0))
    | st.builds(Operation, st.sampled_from(["synchronize", "empty_cache", "reset_peak_stats"]), st.just(0), st.just(0))
)
PROGRAM = st.lists(OPERATION, max_size=60)

CONFIGS = st.sampled_from(
    [
        AllocatorConfig(),
        AllocatorConfig(expandable_segments=True),
        AllocatorConfig(max_split_size=20 * MIB),
        AllocatorConfig(expandable_segments=True, max_split_size=30 * MIB),
        AllocatorConfig(roundup_power2_divisions=(4,) * 16),
        AllocatorConfig(large_segment_size=40 * MIB),
    ]
)


def run(
    allocator: CachingAllocator, program: list[Operation], live: list[Block] | None = None
) -> Iterator[list[Block]]:
    """Apply the program, yielding the live blocks after each operation; a request that fails is skipped."""
    live = [] if live is None else live
    for operation in program:
        match operation.name:
            case "malloc":
                try:
                    block = allocator.malloc(operation.number, operation.stream)
                except AllocatorOutOfMemory:
                    block = None
                if block is not None:
                    live.append(block)
            case "free" if live:
                allocator.free(live.pop(operation.number % len(live)))
            case "record_stream" if live:
                allocator.record_stream(live[operation.number % len(live)], operation.stream)
            case "record_event" | "host_wait_event":
                getattr(allocator, operation.name)(operation.number)
            case "synchronize" | "empty_cache" | "reset_peak_stats":
                getattr(allocator, operation.name)()
        yield live
