"""Streams are pools of their own, and events and `record_stream` carry the order that deferred frees need."""

import torch
from virtual_gpu_helpers import MIB, allocated, event_names, virtual_gpu

from vramcast.allocator.replay import replay
from vramcast.timeline import EventKind


def test_a_stream_has_its_own_pool() -> None:
    with virtual_gpu() as machine:
        side = torch.cuda.Stream()
        assert torch.cuda.current_stream() == torch.cuda.default_stream() != side
        x = torch.empty(20 * MIB, dtype=torch.uint8, device="cuda")
        del x
        reserved = torch.cuda.memory_reserved()
        with torch.cuda.stream(side):
            assert torch.cuda.current_stream() == side
            y = torch.empty(20 * MIB, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_reserved() == 2 * reserved
        assert machine.timeline.allocations[-1].stream == side.stream_id
        with side:
            assert torch.cuda.current_stream() == side
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        assert allocated(machine) == y.numel()


def test_record_stream_defers_the_free() -> None:
    with virtual_gpu() as machine:
        side = torch.cuda.Stream()
        x = torch.empty(20 * MIB, dtype=torch.uint8, device="cuda")
        x.record_stream(side)
        del x
        assert [kind for kind, *_ in machine.timeline.events] == [EventKind.ALLOC, EventKind.USE_STREAM, EventKind.FREE]
        assert machine.timeline.events[1].value == side.stream_id
        assert replay(machine.timeline).allocated_bytes == allocated(machine)
        ahead = replay(machine.timeline, deferred_free="ahead")
        assert (ahead.peak_active_bytes, ahead.peak_allocated_bytes) == (20 * MIB, 20 * MIB)


def test_record_stream_on_its_own_stream_does_nothing() -> None:
    with virtual_gpu() as machine:
        side = torch.cuda.Stream()
        x = torch.empty(MIB, device="cuda")
        with torch.cuda.stream(side):
            x.record_stream(torch.cuda.default_stream())
            y = torch.empty(MIB, device="cuda")
            y.record_stream(side)
        y.record_stream(torch.cuda.current_stream())
        del x, y
        uses = [(target, value) for kind, target, value in machine.timeline.events if kind is EventKind.USE_STREAM]
        assert uses == [(1, 0)]


def test_events_and_waits_are_in_the_timeline() -> None:
    with virtual_gpu() as machine:
        side, event = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
        event.record()
        side.wait_event(event)
        side.wait_stream(torch.cuda.current_stream())
        event.synchronize()
        side.synchronize()
        torch.cuda.synchronize()
        assert event.query()
        end = torch.cuda.Event(enable_timing=True)
        end.record()
        assert event.elapsed_time(end) > 0
        assert event_names(machine) == [
            "record_event", "stream_wait_event", "record_event", "stream_wait_event", "host_wait_event",
            "host_wait_stream", "host_wait_device", "record_event",
        ]  # fmt: skip


def test_reading_a_value_waits_for_the_stream() -> None:
    with virtual_gpu() as machine:
        x = torch.zeros((), device="cuda")
        x.item()
        x.cpu()
        assert event_names(machine) == ["alloc zeros", "host_wait_stream", "host_wait_stream"]


def test_each_stream_has_a_workspace() -> None:
    with virtual_gpu() as machine:
        a = torch.randn(8, 8, device="cuda")
        a @ a
        with torch.cuda.stream(torch.cuda.Stream()):
            a @ a
            a @ a
        held = [a.stream for a in machine.timeline.allocations if a.category == "workspace"]
        assert held == [0, 1]
