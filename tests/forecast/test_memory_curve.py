"""A curve says at every event what the allocator says, whichever points of it are kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.allocator import AllocatorConfig, replay
from vramcast.errors import InputError
from vramcast.forecast import memory_curve as module
from vramcast.forecast.answer import generation_answer, training_answer
from vramcast.forecast.memory_curve import memory_curve, source_curve
from vramcast.forecast.phase_intervals import PhaseInterval, StepInterval, phase_intervals
from vramcast.job import GenerationJob, TrainingJob
from vramcast.timeline import CATEGORIES, Allocation, Event, EventKind, Timeline
from vramcast.units import GIB, MIB

PHASES = ("load", "forward", "backward", "optimizer")


def two_steps() -> Timeline:
    """Weights, then twice: an activation, a gradient, a moment of the optimizer, and the gradient freed by zero_grad."""
    timeline = Timeline()
    timeline.alloc(Allocation(1000, category="parameters", phase="load"))
    timeline.mark("after_load")
    for step in range(2):
        activation = timeline.alloc(Allocation(2 * MIB, category="activations", phase="forward"))
        timeline.mark("after_forward")
        gradient = timeline.alloc(Allocation(1000, category="gradients", phase="backward"))
        timeline.free(activation)
        timeline.mark("after_backward")
        if step == 0:
            timeline.alloc(Allocation(512, category="optimizer_states", phase="optimizer"))
        else:
            timeline.free(timeline.alloc(Allocation(100, phase="optimizer")))
        timeline.mark("after_optimizer")
        timeline.free(gradient)
        timeline.mark("after_step")
    return timeline


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Allocations of all categories and sizes, freed at some time or never, on two streams, with marks and resets."""
    timeline = Timeline()
    live: list[int] = []
    for _ in range(draw(st.integers(0, 60))):
        match draw(st.integers(0, 9)):
            case 0 | 1 | 2 if live:
                timeline.free(live.pop(draw(st.integers(0, len(live) - 1))))
            case 3:
                timeline.mark(draw(st.sampled_from(["after_forward", "after_step", "mine"])))
            case 4:
                timeline.events.append(Event(draw(st.sampled_from([EventKind.EMPTY_CACHE, EventKind.RESET_PEAK]))))
            case 5 if live:
                timeline.events.append(Event(EventKind.USE_STREAM, draw(st.sampled_from(live)), 1))
            case _:
                size = draw(st.integers(0, 3000) | st.integers(MIB - 600, 40 * MIB))
                category, phase = draw(st.sampled_from(CATEGORIES)), draw(st.sampled_from(PHASES))
                live.append(timeline.alloc(Allocation(size, draw(st.integers(0, 1)), category, phase)))
    return timeline


def test_two_steps_by_hand() -> None:
    curve = memory_curve(two_steps())
    assert curve.num_events == 21
    assert curve.positions == tuple(range(21))
    assert curve.category_bytes["parameters"] == (1024,) * 21
    assert curve.category_bytes["gradients"] == (0,) * 4 + (1024,) * 5 + (0,) * 4 + (1024,) * 6 + (0,) * 2
    assert curve.category_bytes["activations"][1:6] == (0, 2 * MIB, 2 * MIB, 2 * MIB, 0)
    assert curve.category_bytes["temporary"][15:18] == (0, 512, 0)
    assert "buffers" not in curve.category_bytes
    assert (curve.peak_allocated_bytes, curve.peak_allocated_position) == (2 * MIB + 1024 + 512 + 1024, 13)
    assert curve.peak_phase == "backward"
    assert curve.peak_breakdown == {
        "parameters": 1024,
        "gradients": 1024,
        "optimizer_states": 512,
        "activations": 2 * MIB,
        "temporary": 0,
    }
    assert (curve.reserved_bytes[0], curve.peak_reserved_bytes, curve.peak_reserved_position) == (2 * MIB, 22 * MIB, 2)
    assert [(mark.name, mark.allocated_bytes) for mark in curve.marks[:3]] == [
        ("after_load", 1024),
        ("after_forward", 2 * MIB + 1024),
        ("after_backward", 2048),
    ]


def test_phases_end_at_marks_and_frees_after_the_optimizer_are_zero_grad() -> None:
    curve = memory_curve(two_steps())
    assert [interval.phase for interval in curve.phases] == [
        "load",
        *["forward", "backward", "optimizer", "zero_grad"] * 2,
    ]
    assert curve.phases[3:5] == (PhaseInterval("optimizer", 7, 9), PhaseInterval("zero_grad", 9, 11))
    assert curve.steps == (StepInterval(2, 11), StepInterval(11, curve.num_events))


def test_without_marks_a_phase_lasts_until_the_next_one_allocates() -> None:
    timeline = Timeline()
    first = timeline.alloc(Allocation(1, phase="forward"))
    timeline.free(first)
    timeline.alloc(Allocation(1, phase="optimizer"))
    timeline.alloc(Allocation(1, phase="forward"))
    curve = memory_curve(timeline)
    assert curve.phases == (
        PhaseInterval("forward", 0, 2),
        PhaseInterval("optimizer", 2, 3),
        PhaseInterval("forward", 3, 4),
    )
    assert curve.steps == (StepInterval(0, 3),)


@given(timelines())
def test_phases_have_no_gaps(timeline: Timeline) -> None:
    intervals = phase_intervals(timeline, len(timeline.events))
    edges = [0, *(interval.end for interval in intervals)]
    assert edges[-1] == len(timeline.events)
    assert [interval.begin for interval in intervals] == edges[:-1]
    assert all(begin < end for begin, end in pairwise(edges))


@given(timelines(), st.booleans(), st.none() | st.integers(1, 60).map(lambda size: size * 2 * MIB))
def test_every_event_is_what_the_allocator_says(
    timeline: Timeline, expandable: bool, capacity_bytes: int | None
) -> None:
    config = AllocatorConfig(expandable_segments=expandable)
    plain = Timeline(timeline.allocations, [_without_reset(event) for event in timeline.events], timeline.marks)
    whole = replay(plain, config, capacity_bytes)
    curve = memory_curve(timeline, config, capacity_bytes)
    assert curve.num_events == whole.num_events
    assert (curve.peak_allocated_bytes, curve.peak_reserved_bytes) == (
        whole.peak_allocated_bytes,
        whole.peak_reserved_bytes,
    )
    assert (curve.peak_allocated_position, curve.peak_reserved_position) == (
        whole.peak_allocated_position,
        whole.peak_reserved_position,
    )
    breakdown: dict[str, int] = {}
    for index, nbytes in whole.live_at_peak.items():
        category = timeline.allocations[index].category
        breakdown[category] = breakdown.get(category, 0) + nbytes
    assert {category: nbytes for category, nbytes in curve.peak_breakdown.items() if nbytes} == breakdown
    assert [(mark.name, mark.allocated_bytes) for mark in curve.marks] == [
        (mark.name, mark.allocated_bytes) for mark in whole.marks
    ]
    assert [failure.position for failure in (curve.out_of_memory,) if failure] == [
        failure.position for failure in whole.out_of_memory
    ]
    if curve.positions:
        assert curve.allocated_bytes[-1] == whole.allocated_bytes
        assert curve.reserved_bytes[-1] == whole.reserved_bytes


def _without_reset(event: Event) -> Event:
    return Event(EventKind.HOST_WAIT_STREAM) if event.kind is EventKind.RESET_PEAK else event


@given(timelines(), st.integers(8, 40))
def test_thinning_keeps_exact_points_and_the_extremes_of_every_bin(timeline: Timeline, points: int) -> None:
    full, thin = memory_curve(timeline), memory_curve(timeline, points=points)
    assert len(thin.positions) <= points
    assert [full.allocated_bytes[position] for position in thin.positions] == list(thin.allocated_bytes)
    assert [full.reserved_bytes[position] for position in thin.positions] == list(thin.reserved_bytes)
    assert thin.peak_breakdown == full.peak_breakdown
    assert (thin.peak_allocated_bytes, thin.phases, thin.marks) == (full.peak_allocated_bytes, full.phases, full.marks)
    bins = (points - 2) // 4
    edges = [full.num_events * index // bins for index in range(bins + 1)]
    for values in (full.allocated_bytes, full.reserved_bytes):
        for begin, end in pairwise(edges):
            if begin < end:
                kept = [values[position] for position in thin.positions if begin <= position < end]
                assert (min(kept), max(kept)) == (min(values[begin:end]), max(values[begin:end]))


def test_a_curve_ends_where_memory_runs_out() -> None:
    timeline = Timeline()
    timeline.alloc(Allocation(30 * MIB, category="parameters", phase="load"))
    timeline.alloc(Allocation(30 * MIB, category="activations", phase="forward"))
    timeline.alloc(Allocation(1, category="activations", phase="forward"))
    curve = memory_curve(timeline, capacity_bytes=40 * MIB)
    assert curve.num_events == 2
    assert curve.out_of_memory is not None
    assert (curve.out_of_memory.position, curve.out_of_memory.error.requested_bytes) == (1, 30 * MIB)
    assert curve.allocated_bytes == (30 * MIB, 30 * MIB)
    assert curve.peak_phase == "load"


def test_nothing_happens_in_an_empty_timeline() -> None:
    curve = memory_curve(Timeline())
    assert (curve.num_events, curve.positions, curve.peak_allocated_bytes, curve.phases) == (0, (), 0, ())
    assert curve.peak_breakdown == {}


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_the_curve_of_a_training_job_has_the_peaks_of_its_forecast(checkpointing: str) -> None:
    job = TrainingJob(model="gpt2", batch_size=8, sequence_length=1024, checkpointing=checkpointing, gpu="a100-80gb")
    answer = training_answer(job)
    forecast, curve = answer.forecast, source_curve(answer.source)
    assert len(curve.positions) < curve.num_events
    assert curve.peak_allocated_bytes == max(curve.allocated_bytes) == forecast.peak_allocated_bytes
    assert curve.peak_reserved_bytes == max(curve.reserved_bytes) == forecast.peak_reserved_bytes
    assert curve.peak_phase == forecast.peak_phase
    assert {name: size for name, size in curve.peak_breakdown.items() if size} == {
        item.category: item.bytes for item in forecast.breakdown
    }
    assert ("recompute" in {interval.phase for interval in curve.phases}) is (checkpointing == "full")
    assert len(curve.steps) == 3
    instants = {instant.name: instant.allocated_bytes for instant in forecast.instants}
    last = {mark.name: mark.allocated_bytes for mark in curve.marks}
    assert last == {name: instants[name] for name in last}


def test_the_curve_of_a_generation_holds_every_decode_step() -> None:
    answer = generation_answer(GenerationJob(model="gpt2", prompt_length=8, max_new_tokens=24, gpu="a100-80gb"))
    curve = source_curve(answer.source, AllocatorConfig())
    assert curve.peak_allocated_bytes == answer.forecast.peak_allocated_bytes
    assert curve.peak_reserved_bytes == answer.forecast.peak_reserved_bytes
    assert curve.num_events > 5 * len(answer.source.timeline().events)
    assert [interval.phase for interval in curve.phases] == ["load", "prefill", "decode"]
    assert curve.steps == ()


def test_a_generation_too_long_to_draw_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = generation_answer(GenerationJob(model="gpt2", prompt_length=8, max_new_tokens=24, gpu="a100-80gb"))
    monkeypatch.setattr(module, "MOST_EVENTS", 5000)
    with pytest.raises(InputError, match=r"max_new_tokens=.*5,000 can be drawn"):
        source_curve(answer.source)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="points=7"):
        memory_curve(two_steps(), points=7)
    timeline = Timeline()
    timeline.alloc(Allocation(GIB))
    timeline.free(0)
    timeline.free(0)
    with pytest.raises(InputError, match="not alive"):
        memory_curve(timeline)
