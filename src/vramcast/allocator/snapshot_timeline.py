"""The history in a memory snapshot, as a timeline."""

from dataclasses import dataclass, field

from vramcast.allocator.snapshot import Snapshot, TraceEntry
from vramcast.errors import InputError, SnapshotError
from vramcast.timeline import Allocation, Event, EventKind, Timeline

_BEFORE_RECORDING = "before_recording"


def snapshot_to_timeline(snapshot: Snapshot, device: int = 0) -> Timeline:
    """The recorded history of a device as a timeline; replay it with `deferred_free="ahead"`.

    Sizes are the unrounded ones of the callers. A free that completed later becomes a use on another stream and a
    wait at the moment of its completion; segments given back become an `EMPTY_CACHE`, also where PyTorch flushed its
    cache to make room. Blocks older than the history are allocated at the start, in the order of their addresses,
    with the phase `before_recording`.

    Raises:
        InputError: no such device.
        SnapshotError: the history contradicts itself, or the snapshot was taken without one.
    """
    return translate_history(snapshot, device).timeline


@dataclass(slots=True)
class HistoryTranslation:
    """A timeline, and which address of the snapshot each of its live allocations has."""

    timeline: Timeline = field(default_factory=Timeline)
    live: dict[int, int] = field(default_factory=dict)
    """Index of the allocation at each address that is live at the end."""
    waiting: dict[int, int] = field(default_factory=dict)
    """Id of the CUDA event behind each free that has not completed, by address."""

    def alloc(self, address: int, allocation: Allocation) -> None:
        """A block is handed out at `address`."""
        self.live[address] = self.timeline.alloc(allocation)

    def free(self, address: int, stream: int, is_deferred: bool) -> None:
        """The owner of the block at `address` gives it back."""
        index = self.live.pop(address)
        if is_deferred:
            # The trace does not say which other stream used the block; any will do.
            self.timeline.events.append(Event(EventKind.USE_STREAM, index, stream + 1))
        self.timeline.free(index)
        if is_deferred:
            self.timeline.events.append(Event(EventKind.RECORD_EVENT, index, stream + 1))
            self.waiting[address] = index

    def complete(self, address: int) -> None:
        """A free that had to wait is done."""
        if address in self.waiting:
            self.timeline.events.append(Event(EventKind.HOST_WAIT_EVENT, self.waiting.pop(address)))


def translate_history(snapshot: Snapshot, device: int) -> HistoryTranslation:
    """`snapshot_to_timeline`, with the addresses kept."""
    if not 0 <= device < len(snapshot.traces):
        raise InputError("device", device, f"the snapshot knows devices 0 to {len(snapshot.traces) - 1}")
    trace = snapshot.traces[device]
    if not trace and snapshot.reserved_bytes(device):
        fix = "holds no history; call torch.cuda.memory._record_memory_history() before the first CUDA tensor is made"
        raise SnapshotError("snapshot", f"device {device}", fix)
    translation = HistoryTranslation()
    for address, nbytes, stream in _older_than_history(snapshot, device):
        translation.alloc(address, Allocation(nbytes, stream, phase=_BEFORE_RECORDING))
    is_flushing = False
    for position, entry in enumerate(trace):
        gives_back = entry.action in ("segment_free", "segment_unmap")
        if gives_back and not is_flushing:
            translation.timeline.events.append(Event(EventKind.EMPTY_CACHE))
        is_flushing = gives_back
        if entry.action == "alloc":
            if entry.address in translation.live:
                fix = f"trace entry {position} allocates {entry.address:#x}, which is already allocated"
                raise SnapshotError("snapshot", f"device {device}", fix)
            translation.alloc(entry.address, Allocation(entry.size, entry.stream, op=entry.frame))
        elif entry.action == "free_requested":
            translation.free(entry.address, entry.stream, not _completes_at_once(trace, position))
        elif entry.action == "free_completed":
            translation.complete(entry.address)
    return translation


def _completes_at_once(trace: tuple[TraceEntry, ...], position: int) -> bool:
    if position + 1 == len(trace):
        return False
    following = trace[position + 1]
    return following.action == "free_completed" and following.address == trace[position].address


def _older_than_history(snapshot: Snapshot, device: int) -> list[tuple[int, int, int]]:
    """(address, requested bytes, stream) of the blocks that the history frees, or leaves alive, without having made
    them."""
    older: dict[int, tuple[int, int]] = {}
    made: set[int] = set()
    for entry in snapshot.traces[device]:
        if entry.action == "alloc":
            made.add(entry.address)
        elif entry.action == "free_requested":
            if entry.address not in made:
                older[entry.address] = (entry.size, entry.stream)
            made.discard(entry.address)
    for segment in snapshot.segments:
        for block in segment.blocks if segment.device == device else ():
            if block.state == "active_allocated" and block.address not in made:
                older[block.address] = (block.requested_size, segment.stream)
    return [(address, *older[address]) for address in sorted(older)]
