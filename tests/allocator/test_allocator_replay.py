import pytest

from vramcast.allocator import AllocatorConfig, CachingAllocator, Replayer, replay
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.units import MIB


def two_steps() -> Timeline:
    """parameters 4 MiB | forward 33 MiB (a 34 MiB block), 2 MiB | mark | both freed | mark."""
    timeline = Timeline()
    timeline.alloc(Allocation(4 * MIB, category="parameters"))
    a = timeline.alloc(Allocation(33 * MIB, category="activations"))
    b = timeline.alloc(Allocation(2 * MIB))
    timeline.mark("after_forward")
    timeline.free(a)
    timeline.free(b)
    timeline.mark("end")
    return timeline


def test_peaks_positions_and_marks() -> None:
    result = replay(two_steps())
    assert result.peak_allocated_bytes == result.peak_active_bytes == 40 * MIB
    assert result.peak_reserved_bytes == 54 * MIB
    assert (result.peak_allocated_position, result.peak_reserved_position) == (2, 1)
    assert (result.num_events, result.num_alloc_retries, result.out_of_memory) == (7, 0, ())
    forward, end = result.marks
    assert (forward.name, forward.position, forward.allocated_bytes) == ("after_forward", 3, 40 * MIB)
    assert (end.name, end.position, end.allocated_bytes, end.reserved_bytes) == ("end", 6, 4 * MIB, 54 * MIB)
    assert (end.peak_allocated_bytes, end.peak_reserved_bytes, end.peak_active_bytes) == (40 * MIB, 54 * MIB, 40 * MIB)
    assert (result.allocated_bytes, result.reserved_bytes) == (4 * MIB, 54 * MIB)


def test_live_blocks_add_up_to_the_peak() -> None:
    result = replay(two_steps())
    assert result.live_at_peak == {0: 4 * MIB, 1: 34 * MIB, 2: 2 * MIB}
    assert replay(two_steps(), track_live=False).live_at_peak == {}


def test_the_first_of_equal_peaks_counts() -> None:
    timeline = Timeline()
    for _ in range(3):
        timeline.free(timeline.alloc(Allocation(8 * MIB)))
    result = replay(timeline)
    assert (result.peak_allocated_position, result.peak_reserved_position) == (0, 0)
    assert result.live_at_peak == {0: 8 * MIB}


def test_zero_bytes_are_neither_made_nor_listed() -> None:
    timeline = Timeline()
    nothing = timeline.alloc(Allocation(0))
    timeline.alloc(Allocation(1))
    timeline.free(nothing)
    result = replay(timeline)
    assert (result.peak_allocated_bytes, result.live_at_peak) == (512, {1: 512})


def test_empty_timeline() -> None:
    result = replay(Timeline())
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes, result.num_events) == (0, 0, 0)
    assert result.live_at_peak == {}


def test_reset_peak_starts_over() -> None:
    timeline = two_steps()
    timeline.events.append(Event(EventKind.RESET_PEAK))
    timeline.alloc(Allocation(MIB))
    timeline.mark("later")
    result = replay(timeline)
    assert (result.peak_allocated_bytes, result.peak_allocated_position) == (5 * MIB, 8)
    assert (result.peak_reserved_bytes, result.peak_reserved_position) == (56 * MIB, 8)
    assert result.live_at_peak == {0: 4 * MIB, 3: MIB}
    assert result.marks[-1].peak_allocated_bytes == 5 * MIB


def test_a_peak_that_a_reset_leaves_standing_is_at_the_reset() -> None:
    timeline = two_steps()
    timeline.events.append(Event(EventKind.RESET_PEAK))
    result = replay(timeline)
    assert (result.peak_allocated_bytes, result.peak_allocated_position) == (4 * MIB, 7)
    assert result.live_at_peak == {0: 4 * MIB}


def test_out_of_memory_stops_the_replay() -> None:
    result = replay(two_steps(), capacity_bytes=50 * MIB)
    (failure,) = result.out_of_memory
    assert (failure.position, failure.allocation, failure.error.requested_bytes) == (1, 1, 33 * MIB)
    assert (result.num_events, result.num_alloc_retries, result.marks) == (2, 1, ())
    assert (result.peak_allocated_bytes, result.live_at_peak) == (4 * MIB, {0: 4 * MIB})


def test_keep_going_counts_a_failed_request_as_nothing() -> None:
    result = replay(two_steps(), capacity_bytes=50 * MIB, keep_going=True)
    assert [failure.position for failure in result.out_of_memory] == [1]
    assert (result.num_events, result.peak_allocated_bytes) == (7, 6 * MIB)
    assert result.live_at_peak == {0: 4 * MIB, 2: 2 * MIB}
    assert result.marks[-1].allocated_bytes == 4 * MIB


def test_config_and_empty_cache() -> None:
    timeline = two_steps()
    timeline.events.append(Event(EventKind.EMPTY_CACHE))
    assert replay(timeline).reserved_bytes == 20 * MIB
    expandable = replay(timeline, AllocatorConfig(expandable_segments=True))
    assert (expandable.peak_allocated_bytes, expandable.peak_reserved_bytes) == (39 * MIB, 40 * MIB)


def test_repeated_steps() -> None:
    timeline = two_steps()
    prefix, step = timeline.events[:1], timeline.events[1:]
    replayer = Replayer(timeline.allocations, timeline.marks)
    assert replayer.feed(prefix)
    for _ in range(3):
        assert replayer.feed(step)
    result = replayer.result()
    assert (result.num_events, len(result.marks)) == (19, 6)
    assert (result.peak_allocated_position, result.peak_reserved_bytes) == (2, 54 * MIB)
    assert sum(result.live_at_peak.values()) == result.peak_allocated_bytes


def test_a_later_step_can_hold_the_peak() -> None:
    # A growing cache: each step's allocation replaces the one before and is larger, so the peak is in the last step.
    allocations: list[Allocation] = []
    replayer = Replayer(allocations)
    for step in range(4):
        allocations.append(Allocation((step + 2) * MIB))
        events = [Event(EventKind.ALLOC, step)]
        if step:
            events.append(Event(EventKind.FREE, step - 1))
        assert replayer.feed(events)
    result = replayer.result()
    assert (result.peak_allocated_bytes, result.peak_allocated_position) == (9 * MIB, 5)
    assert result.live_at_peak == {2: 4 * MIB, 3: 5 * MIB}


def test_nothing_is_replayed_after_running_out() -> None:
    timeline = two_steps()
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=CachingAllocator(capacity_bytes=50 * MIB))
    assert not replayer.feed(timeline.events)
    assert not replayer.feed([Event(EventKind.ALLOC, 2)])
    assert replayer.stopped and replayer.result().num_events == 2


def test_deferred_free_policies_bound_the_active_peak() -> None:
    timeline = Timeline()
    for step in range(3):
        index = timeline.alloc(Allocation(30 * MIB))
        timeline.events.append(Event(EventKind.USE_STREAM, index, 7))
        timeline.free(index)
        timeline.events.append(Event(EventKind.RECORD_EVENT, step, 7))
        if step == 1:
            timeline.events.append(Event(EventKind.HOST_WAIT_EVENT, 0))
    immediate, ahead = replay(timeline), replay(timeline, deferred_free="ahead")
    assert immediate.peak_active_bytes == immediate.peak_reserved_bytes == 30 * MIB
    assert ahead.peak_active_bytes == ahead.peak_reserved_bytes == 60 * MIB
    assert ahead.peak_allocated_bytes == immediate.peak_allocated_bytes == 30 * MIB


def test_every_wait_is_replayed() -> None:
    for kind in (EventKind.HOST_WAIT_STREAM, EventKind.HOST_WAIT_DEVICE, EventKind.STREAM_WAIT_EVENT):
        timeline = Timeline()
        index = timeline.alloc(Allocation(30 * MIB))
        timeline.events.append(Event(EventKind.USE_STREAM, index, 7))
        timeline.free(index)
        timeline.events.append(Event(kind))
        timeline.alloc(Allocation(30 * MIB))
        covered = kind is not EventKind.STREAM_WAIT_EVENT
        assert replay(timeline, deferred_free="ahead").peak_reserved_bytes == (30 if covered else 60) * MIB


def test_contradictory_timelines_are_refused() -> None:
    twice = Timeline([Allocation(1)], [Event(EventKind.ALLOC, 0), Event(EventKind.ALLOC, 0)])
    with pytest.raises(InputError, match="made again at event 1"):
        replay(twice)
    with pytest.raises(InputError, match="not alive"):
        replay(Timeline([Allocation(1)], [Event(EventKind.FREE, 0)]))
    with pytest.raises(InputError, match="not alive"):
        replay(Timeline([Allocation(1)], [Event(EventKind.USE_STREAM, 0, 1)]))
    with pytest.raises(InputError, match="unknown kind"):
        replay(Timeline([], [(99, 0, 0)]))  # type: ignore[list-item]


def test_out_of_memory_at_the_first_event() -> None:
    result = replay(two_steps(), capacity_bytes=MIB)
    assert (result.num_events, result.peak_allocated_bytes, result.live_at_peak) == (1, 0, {})
    assert result.out_of_memory[0].position == 0
