import pytest
from decode_programs import Program
from hypothesis import given, settings
from hypothesis import strategies as st

from vramcast.allocator import AllocatorConfig, replay
from vramcast.allocator.decode_replay import GenerationReplay, replay_generation, steps_of_same_blocks
from vramcast.record.decode_unrolling import unroll_generation
from vramcast.timeline import Allocation
from vramcast.timeline.decode import GrowingAllocation, StepTemplate, extended_timeline

MIB = 1 << 20


def both_replays(program: Program, prompt_length: int, max_new_tokens: int, expandable: bool = False):
    unrolled = unroll_generation(program.run, prompt_length, max_new_tokens)
    assert unrolled.decode is not None
    config = AllocatorConfig(expandable_segments=expandable)
    stepwise = replay_generation(unrolled.timeline, unrolled.decode, config)
    whole = extended_timeline(unrolled.timeline, unrolled.decode)
    return stepwise, replay(whole, config), whole


def breakdown_of(result, timeline) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, size in result.live_at_peak.items():
        category = timeline.allocations[index].category
        found[category] = found.get(category, 0) + size
    return found


@settings(max_examples=30, deadline=None)
@given(
    token_bytes=st.sampled_from([1, 64, 5000, 70_000]),
    prompt_length=st.integers(1, 60),
    max_new_tokens=st.integers(20, 150),
    window=st.none() | st.integers(2, 120),
    expandable=st.booleans(),
)
def test_stepwise_replay_is_the_replay_of_the_whole_timeline(
    token_bytes: int, prompt_length: int, max_new_tokens: int, window: int | None, expandable: bool
) -> None:
    program = Program(3, token_bytes, window)
    stepwise, whole, timeline = both_replays(program, prompt_length, max_new_tokens, expandable)
    assert stepwise.peak_allocated_bytes == whole.peak_allocated_bytes
    assert stepwise.peak_active_bytes == whole.peak_active_bytes
    assert stepwise.peak_reserved_bytes == whole.peak_reserved_bytes
    assert stepwise.breakdown == breakdown_of(whole, timeline)
    assert sum(stepwise.breakdown.values()) == stepwise.peak_allocated_bytes
    last, same = stepwise.marks[-1], whole.marks[-1]
    assert (last.name, last.allocated_bytes, last.reserved_bytes) == (
        same.name,
        same.allocated_bytes,
        same.reserved_bytes,
    )
    assert last.interval_peak_allocated_bytes == same.interval_peak_allocated_bytes
    nbytes = sorted(allocation.nbytes for allocation, _ in stepwise.live_at_peak)
    assert nbytes == sorted(timeline.allocations[index].nbytes for index in whole.live_at_peak)


def test_steps_that_change_nothing_are_not_replayed_again() -> None:
    program = Program(window=4)
    stepwise, whole, _ = both_replays(program, 64, 3000)
    assert stepwise.num_events < whole.num_events / 2
    assert stepwise.peak_reserved_bytes == whole.peak_reserved_bytes
    assert stepwise.peak_allocated_bytes == whole.peak_allocated_bytes


def test_running_out_of_memory_stops_and_names_the_step() -> None:
    unrolled = unroll_generation(Program(2, MIB).run, 8, 60)
    assert unrolled.decode is not None
    result = replay_generation(unrolled.timeline, unrolled.decode, capacity_bytes=150 * MIB)
    assert result.out_of_memory is not None
    assert result.out_of_memory_step is not None
    assert 3 < result.out_of_memory_step < 60
    assert result.peak_reserved_bytes <= 150 * MIB


def test_running_out_of_memory_before_decoding_is_step_zero() -> None:
    unrolled = unroll_generation(Program(2, MIB).run, 100, 60)
    assert unrolled.decode is not None
    result = replay_generation(unrolled.timeline, unrolled.decode, capacity_bytes=150 * MIB)
    assert result.out_of_memory is not None
    assert result.out_of_memory_step == 0


def test_progress_ends_at_the_number_of_steps() -> None:
    unrolled = unroll_generation(Program().run, 8, 200)
    assert unrolled.decode is not None
    seen: list[tuple[int, int]] = []
    result = replay_generation(unrolled.timeline, unrolled.decode, progress=lambda *place: seen.append(place))
    assert isinstance(result, GenerationReplay)
    assert seen[-1] == (197, 197)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("nbytes", "growth", "expected"), [(512, 8, 0), (513, 8, 63), (1016, 8, 1), (1024, 1, 0), (600, -8, 10)]
)
def test_steps_of_same_blocks_counts_to_the_next_block_size(nbytes: int, growth: int, expected: int) -> None:
    template = StepTemplate((), (GrowingAllocation(Allocation(nbytes), growth),), ())
    assert steps_of_same_blocks(template, 0) == expected

    def blocks(size: int) -> int:
        return -(-size // 512)

    assert blocks(nbytes + expected * growth) == blocks(nbytes)
    assert blocks(nbytes + (expected + 1) * growth) != blocks(nbytes)
