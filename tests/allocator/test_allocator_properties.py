"""Laws that hold for every program."""

from itertools import pairwise

import pytest
from allocator_programs import CONFIGS, PROGRAM, SIZES, Operation, run
from hypothesis import given, settings
from hypothesis import strategies as st

from vramcast.allocator import UNLIMITED, AllocatorConfig, Block, CachingAllocator, allocator_segments
from vramcast.allocator.blocks import round_request, segment_size
from vramcast.units import MIB

CAPACITIES = st.none() | st.integers(25, 200).map(lambda size: size * MIB)
POLICIES = st.sampled_from(["immediate", "ahead"])


def check_layout(allocator: CachingAllocator, live: list[Block]) -> None:
    """Blocks tile their segments, segments do not overlap, and the books agree with a recount."""
    segments = allocator_segments(allocator)
    counts = allocator.statistics.all
    for segment in segments:
        position = segment.address
        for block in segment.blocks:
            assert block.address == position and block.size > 0 and block.size % 512 == 0
            position += block.size
        assert position == segment.address + segment.total_size
        assert all({a.state, b.state} != {"inactive"} for a, b in pairwise(segment.blocks))
    assert all(a.address + a.total_size <= b.address for a, b in pairwise(segments))
    blocks = [block for segment in segments for block in segment.blocks]
    assert counts.reserved_bytes == sum(segment.total_size for segment in segments)
    assert counts.active_bytes == sum(block.size for block in blocks if block.state != "inactive")
    assert counts.requested_bytes == sum(block.requested_size for block in blocks)
    listed = {(block.address, block.size) for block in blocks if block.state == "active_allocated"}
    assert listed == {(block.address, block.size) for block in live}
    if not allocator.config.expandable_segments:
        split = [
            b.size for segment in segments for b in segment.blocks if len(segment.blocks) > 1 and b[3] == "inactive"
        ]
        assert (counts.inactive_split, counts.inactive_split_bytes) == (len(split), sum(split))
        assert counts.segments == len(segments)


@given(CONFIGS, CAPACITIES, POLICIES, PROGRAM)
def test_books_agree_with_the_blocks(
    config: AllocatorConfig, capacity: int | None, policy: str, program: list[Operation]
) -> None:
    allocator = CachingAllocator(config, capacity, deferred_free=policy)  # type: ignore[arg-type]
    for live in run(allocator, program):
        check_layout(allocator, live)
        stats = allocator.memory_stats()
        for pool in ("all", "small_pool", "large_pool"):
            assert (
                0
                <= stats[f"allocated_bytes.{pool}.current"]
                <= stats[f"active_bytes.{pool}.current"]
                <= stats[f"reserved_bytes.{pool}.current"]
            )
        assert capacity is None or stats["reserved_bytes.all.current"] <= capacity
        for key, value in stats.items():
            if key.endswith(".current"):
                name = key.removesuffix(".current")
                assert stats[f"{name}.peak"] >= value == stats[f"{name}.allocated"] - stats[f"{name}.freed"]
                if ".all." in key:
                    halves = [stats[key.replace(".all.", f".{pool}.")] for pool in ("small_pool", "large_pool")]
                    assert value == sum(halves)


@given(CONFIGS, POLICIES, PROGRAM)
def test_peaks_are_the_largest_value_seen(config: AllocatorConfig, policy: str, program: list[Operation]) -> None:
    allocator = CachingAllocator(config, deferred_free=policy)  # type: ignore[arg-type]
    program = [operation for operation in program if operation.name != "reset_peak_stats"]
    seen = {"allocated_bytes": 0, "active_bytes": 0, "reserved_bytes": 0, "requested_bytes": 0, "active": 0}
    seen |= {"inactive_split": 0, "inactive_split_bytes": 0, "allocation": 0, "segment": 0}
    for _ in run(allocator, program):
        stats = allocator.memory_stats()
        seen = {name: max(value, stats[f"{name}.all.current"]) for name, value in seen.items()}
    stats = allocator.memory_stats()
    assert {name: stats[f"{name}.all.peak"] for name in seen} == seen


@given(CONFIGS, POLICIES, PROGRAM)
def test_everything_freed_and_emptied_leaves_nothing(
    config: AllocatorConfig, policy: str, program: list[Operation]
) -> None:
    allocator = CachingAllocator(config, deferred_free=policy)  # type: ignore[arg-type]
    live: list[Block] = []
    for _ in run(allocator, program, live):
        pass
    for block in live:
        allocator.free(block)
    allocator.empty_cache()
    stats = allocator.memory_stats()
    assert {key: value for key, value in stats.items() if key.endswith(".current") and value} == {}
    assert allocator_segments(allocator) == []


def reserved_after_each_pass(allocator: CachingAllocator, program: list[Operation], passes: int) -> list[int]:
    reserved = []
    for _ in range(passes):
        live: list[Block] = []
        for _ in run(allocator, program, live):
            pass
        for block in live:
            allocator.free(block)
        reserved.append(allocator.statistics.all.reserved_bytes)
    return reserved


@given(CONFIGS.filter(lambda config: config.max_split_size == UNLIMITED), SIZES, PROGRAM)
def test_repeating_requests_of_one_size_reserves_nothing_more(
    config: AllocatorConfig, size: int, program: list[Operation]
) -> None:
    kept = [operation for operation in program if operation.name in ("malloc", "free")]
    kept = [operation._replace(number=size) if operation.name == "malloc" else operation for operation in kept]
    assert len(set(reserved_after_each_pass(CachingAllocator(config), kept, 3))) == 1


def test_repeating_mixed_requests_may_reserve_more() -> None:
    # First pass: 20 MiB serve 2 and 11, 12 gets its own segment. Second pass: 2 fits those 12 MiB best and spoils them.
    program = [Operation("malloc", size * MIB) for size in (2, 11, 12)]
    assert reserved_after_each_pass(CachingAllocator(), program, 3) == [32 * MIB, 44 * MIB, 44 * MIB]


@given(CONFIGS, PROGRAM, st.permutations(range(3)))
def test_names_of_streams_do_not_matter(config: AllocatorConfig, program: list[Operation], names: list[int]) -> None:
    renamed = [operation._replace(stream=names[operation.stream]) for operation in program]
    one, other = CachingAllocator(config, deferred_free="ahead"), CachingAllocator(config, deferred_free="ahead")
    for _ in zip(run(one, program), run(other, renamed), strict=True):
        assert one.memory_stats() == other.memory_stats()


@given(PROGRAM)
def test_release_available_is_never_taken_without_a_split_limit(program: list[Operation]) -> None:
    allocator = CachingAllocator(capacity_bytes=120 * MIB)
    for _ in run(allocator, program):
        pass
    assert allocator.memory_stats()["oversize_segments.allocated"] == 0


class NaiveAllocator:
    """Best fit written down again in the plainest way: lists of (address, size, live), everything found by search."""

    def __init__(self) -> None:
        self.segments: list[tuple[bool, int, list[list[int]]]] = []
        self.next_address = 0

    def malloc(self, nbytes: int, stream: int) -> tuple[int, int]:
        size = round_request(nbytes, (0,) * 16)
        small = size <= MIB
        fits = [
            (block[1], block[0], blocks)
            for kind, owner, blocks in self.segments
            for block in blocks
            if (kind, owner) == (small, stream) and not block[2] and block[1] >= size
        ]
        if not fits:
            total = segment_size(size, 20 * MIB)
            self.segments.append((small, stream, [[self.next_address, total, 0]]))
            fits = [(total, self.next_address, self.segments[-1][2])]
            self.next_address += total
        found, address, blocks = min(fits, key=lambda fit: fit[:2])
        index = next(i for i, block in enumerate(blocks) if block[0] == address)
        if found - size >= 512 if small else found - size > MIB:
            blocks.insert(index + 1, [address + size, found - size, 0])
            found = size
        blocks[index] = [address, found, 1]
        return address, found

    def free(self, address: int) -> None:
        for _, _, blocks in self.segments:
            for block in blocks:
                if block[0] == address and block[2]:
                    block[2] = 0
            for i in range(len(blocks) - 1, 0, -1):
                if not blocks[i][2] and not blocks[i - 1][2]:
                    blocks[i - 1][1] += blocks.pop(i)[1]


@settings(max_examples=200)
@given(PROGRAM)
def test_agrees_with_the_plainest_best_fit(program: list[Operation]) -> None:
    allocator, naive = CachingAllocator(), NaiveAllocator()
    pairs: list[tuple[Block, int]] = []
    for operation in program:
        if operation.name == "malloc" and operation.number:
            block = allocator.malloc(operation.number, operation.stream)
            assert block is not None
            address, size = naive.malloc(operation.number, operation.stream)
            assert block.size == size
            pairs.append((block, address))
        elif operation.name == "free" and pairs:
            block, address = pairs.pop(operation.number % len(pairs))
            allocator.free(block)
            naive.free(address)
    sizes = sorted([block[1:] for block in blocks] for _, _, blocks in naive.segments)
    ours = sorted(
        [[block.size, int(block.state != "inactive")] for block in segment.blocks]
        for segment in allocator_segments(allocator)
    )
    assert ours == sizes


@pytest.mark.parametrize("expandable", [False, True])
def test_reset_peak_makes_every_peak_current(expandable: bool) -> None:
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=expandable))
    kept = allocator.malloc(3 * MIB)
    allocator.free(allocator.malloc(50 * MIB))
    allocator.empty_cache()
    allocator.reset_peak_stats()
    stats = allocator.memory_stats()
    for key in stats:
        if key.endswith(".peak"):
            assert stats[key] == stats[key.removesuffix("peak") + "current"]
    assert kept is not None and stats["allocated_bytes.all.peak"] == 3 * MIB
