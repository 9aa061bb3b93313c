"""What the tests of the virtual GPU share."""

from __future__ import annotations

from vramcast.hardware import find_gpu
from vramcast.timeline import Allocation, EventKind
from vramcast.virtual_cuda import VirtualGPU

MIB = 1024**2


def virtual_gpu(name: str = "a100-80gb", **settings: object) -> VirtualGPU:
    return VirtualGPU(find_gpu(name), **settings)  # type: ignore[arg-type]


def allocations(machine: VirtualGPU, since: int = 0) -> list[Allocation]:
    """Everything asked for after the first `since` allocations, workspaces left out."""
    return [allocation for allocation in machine.timeline.allocations[since:] if allocation.category != "workspace"]


def operators(machine: VirtualGPU, since: int = 0) -> list[str]:
    return [allocation.op for allocation in allocations(machine, since)]


def allocated(machine: VirtualGPU) -> int:
    return machine.allocator.statistics.all.allocated_bytes


def live_bytes(machine: VirtualGPU) -> int:
    """Bytes of the live allocations, each rounded as the allocator rounds."""
    live = machine.timeline.live_at(len(machine.timeline.events))
    return sum(-(-machine.timeline.allocations[index].nbytes // 512) * 512 for index in live)


def event_names(machine: VirtualGPU, since: int = 0) -> list[str]:
    """Events as `alloc mm`, `free mm`, `mark name` or the bare kind."""
    names = []
    for kind, target, _ in machine.timeline.events[since:]:
        if kind in (EventKind.ALLOC, EventKind.FREE):
            names.append(f"{kind.name.lower()} {machine.timeline.allocations[target].op}")
        elif kind is EventKind.MARK:
            names.append(f"mark {machine.timeline.marks[target]}")
        else:
            names.append(kind.name.lower())
    return names
