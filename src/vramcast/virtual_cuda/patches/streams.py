"""CUDA streams and events as real objects: they carry ids and order, which the allocator needs for deferred frees."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from vramcast.timeline import Event as TimelineEvent
from vramcast.timeline import EventKind
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.cuda.Stream`, `Event`, `stream` and their companions."""
    event_class, stream_class, context_class = _event_class(machine), _stream_class(machine), _context_class(machine)
    default = stream_class(stream_id=0)
    known = {0: default}

    def current_stream(device: Any = None) -> Any:
        return known.setdefault(machine.current_stream, stream_class(stream_id=machine.current_stream))

    def set_stream(stream: Any) -> None:
        if stream is not None:
            machine.current_stream = stream.stream_id

    def record_stream(self: torch.Tensor, s: Any) -> None:
        record = machine.storages.of(self)
        if record is not None and record.device >= 0:
            machine.device_memory.use_on_stream(record, s.stream_id)

    # On the class, because the C++ signature refuses our streams before any mode is asked.
    patches.set(torch.Tensor, "record_stream", record_stream)
    for module in (torch.cuda, torch.cuda.streams):
        for name in ("Stream", "ExternalStream"):
            patches.set(module, name, stream_class)
        patches.set(module, "Event", event_class)
    patches.set(torch.cuda, "StreamContext", context_class)
    patches.set(torch.cuda, "stream", context_class)
    patches.set(torch.cuda, "current_stream", current_stream)
    patches.set(torch.cuda, "default_stream", lambda device=None: default)
    patches.set(torch.cuda, "set_stream", set_stream)


def _note(machine: VirtualGPU, kind: EventKind, target: int, stream: int) -> None:
    machine.timeline.events.append(TimelineEvent(kind, target, stream))


def _event_class(machine: VirtualGPU) -> type:
    numbers = count(1)

    class Event:
        """A CUDA event: a fact of order, with the host's time where a time is asked for."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.event_id = next(numbers)
            self.recorded_at: float | None = None

        def record(self, stream: Any = None) -> None:
            self.recorded_at = time.perf_counter()
            identity = machine.current_stream if stream is None else stream.stream_id
            machine.allocator.record_event(self.event_id, identity)
            _note(machine, EventKind.RECORD_EVENT, self.event_id, identity)

        def wait(self, stream: Any = None) -> None:
            identity = machine.current_stream if stream is None else stream.stream_id
            machine.allocator.stream_wait_event(self.event_id, identity)
            _note(machine, EventKind.STREAM_WAIT_EVENT, self.event_id, identity)

        def synchronize(self) -> None:
            machine.allocator.host_wait_event(self.event_id)
            _note(machine, EventKind.HOST_WAIT_EVENT, self.event_id, 0)

        def query(self) -> bool:
            return True

        def elapsed_time(self, end: Any) -> float:
            now = time.perf_counter()
            # Host time, in ms; never zero, because scripts divide by it.
            return max(((end.recorded_at or now) - (self.recorded_at or now)) * 1e3, 1e-3)

    return Event


def _stream_class(machine: VirtualGPU) -> type:
    numbers = count(1)

    class Stream:
        """A CUDA stream: its id names a pool of the allocator."""

        def __init__(
            self, device: Any = None, priority: int = 0, *, stream_id: int | None = None, **kwargs: Any
        ) -> None:
            self.stream_id = next(numbers) if stream_id is None else stream_id
            self.cuda_stream = self.stream_id
            self.priority = priority
            self.device = torch.device("cuda", machine.current_device)
            self.device_index, self.device_type = machine.current_device, 1
            self._previous: list[int] = []

        def record_event(self, event: Any = None) -> Any:
            event = event or torch.cuda.Event()
            event.record(self)
            return event

        def wait_event(self, event: Any) -> None:
            event.wait(self)

        def wait_stream(self, stream: Any) -> None:
            self.wait_event(stream.record_event())

        def synchronize(self) -> None:
            machine.device_memory.host_waits_for_stream(self.stream_id)

        def query(self) -> bool:
            return True

        def is_capturing(self) -> bool:
            return False

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Stream) and other.stream_id == self.stream_id

        def __hash__(self) -> int:
            return hash(self.stream_id)

        def __enter__(self) -> Any:
            self._previous.append(machine.current_stream)
            machine.current_stream = self.stream_id
            return self

        def __exit__(self, *exception: Any) -> None:
            machine.current_stream = self._previous.pop()

    return Stream


def _context_class(machine: VirtualGPU) -> type:
    class StreamContext:
        """`with torch.cuda.stream(stream):`; None leaves the current one."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream
            self._previous = 0

        def __enter__(self) -> None:
            self._previous = machine.current_stream
            if self.stream is not None:
                machine.current_stream = self.stream.stream_id

        def __exit__(self, *exception: Any) -> None:
            machine.current_stream = self._previous

    return StreamContext
