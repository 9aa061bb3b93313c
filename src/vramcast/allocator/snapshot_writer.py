"""Write a timeline as a PyTorch memory snapshot, for https://pytorch.org/memory_viz and the functions of
torch.cuda._memory_viz.

The viewer's own unpickler knows protocol 4 and plain types only, and JavaScript's numbers end at 2**53; both hold for
every file written.
"""

import pickle
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vramcast.allocator.blocks import FREE
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.deferred_frees import DeferredFree
from vramcast.allocator.replay import Replayer, ReplayResult
from vramcast.allocator.snapshot import allocator_segments
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.whole_file import replacing

Frame = dict[str, str | int]
Frames = list[Frame]
CodeLine = tuple[str, int, str]
"""File, line number, function."""


def write_snapshot(
    timeline: Timeline,
    path: str | Path,
    *,
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
    deferred_free: DeferredFree = "immediate",
    max_entries: int | None = None,
    code_lines: Sequence[CodeLine] | None = None,
) -> ReplayResult:
    """Replay a timeline and write its history and its last state; returns the result of the replay.

    What an allocation is for shows as its call stack: operator and module first, then the line of source that asked for it where that
    is known, then phase and category. A replay that runs out of memory is written up to there, as PyTorch's own snapshots are.

    Args:
        timeline: what to replay.
        path: the file to write; it appears only when complete.
        config: settings of the allocator.
        capacity_bytes: what the GPU can give; None = no limit.
        deferred_free: when frees complete that wait for another stream.
        max_entries: keep only the last so many entries of the history, as PyTorch's ring buffer does; browsers manage
            some 200,000.
        code_lines: for every allocation of the timeline, in its order, where the code asked for it.

    Raises:
        InputError: `max_entries` below 1, or a folder that does not exist.
    """
    if max_entries is not None and max_entries < 1:
        raise InputError("max_entries", max_entries, "must be at least 1, or None for the whole history")
    history = _History(timeline, config, capacity_bytes, deferred_free, max_entries, code_lines)
    history.replay()
    _write(Path(path), history.snapshot())
    return history.replayer.result()


class _History:
    """A replay that keeps PyTorch's trace entries."""

    def __init__(
        self,
        timeline: Timeline,
        config: AllocatorConfig | None,
        capacity_bytes: int | None,
        deferred_free: DeferredFree,
        max_entries: int | None,
        code_lines: Sequence[CodeLine] | None,
    ) -> None:
        self._timeline = timeline
        self._code_lines = code_lines
        self._allocator = CachingAllocator(
            config, capacity_bytes, deferred_free=deferred_free, observer=self._on_allocator_event
        )
        self.replayer = Replayer(timeline.allocations, timeline.marks, allocator=self._allocator)
        self._entries: deque[dict[str, Any]] = deque(maxlen=max_entries)
        self._time = 0
        self._frames: Frames = []
        """Frames of the request that is being served: segments are taken on its behalf."""
        self._known_frames: dict[tuple[Any, ...], Frames] = {}
        self._frames_at: dict[int, Frames] = {}
        """Frames of the allocation that has, or last had, each address."""

    def replay(self) -> None:
        """Feed the timeline one event at a time, so that each entry stands where PyTorch would have written it."""
        for event in self._timeline.events:
            self._time += 1
            if event.kind == EventKind.ALLOC:
                self._alloc(event)
            elif event.kind == EventKind.FREE:
                self._free(event)
            else:
                self._frames = []
                self.replayer.feed([event])
            if self.replayer.stopped:
                break

    def _alloc(self, event: Event) -> None:
        allocation = self._timeline.allocations[event.target]
        self._frames = self._frames_of(event.target)
        self.replayer.feed([event])
        block = self.replayer.blocks.get(event.target)
        if block is not None:
            self._frames_at[block.address] = self._frames
            self._add("alloc", block.address, allocation.nbytes, allocation.stream, self._frames)

    def _free(self, event: Event) -> None:
        block = self.replayer.blocks.get(event.target)
        if block is None:
            self.replayer.feed([event])
            return
        address, requested, stream = block.address, block.requested, block.pool.stream
        self._add("free_requested", address, requested, stream, self._frames_at[address])
        self.replayer.feed([event])
        if block.state == FREE:
            self._add("free_completed", address, requested, stream, self._frames_at[address])

    def _on_allocator_event(self, action: str, address: int, nbytes: int, stream: int) -> None:
        frames = self._frames_at[address] if action == "free_completed" else self._frames
        self._add(action, address, nbytes, stream, frames)

    def _add(self, action: str, address: int, nbytes: int, stream: int, frames: Frames) -> None:
        where = "device_free" if action == "oom" else "addr"
        entry = {"action": action, where: address, "size": nbytes, "stream": stream, "time_us": self._time}
        self._entries.append({**entry, "frames": frames})

    def _frames_of(self, index: int) -> Frames:
        allocation = self._timeline.allocations[index]
        code_line = None if self._code_lines is None else self._code_lines[index]
        key = allocation.op, allocation.module, allocation.phase, allocation.category, code_line
        if key not in self._known_frames:
            self._known_frames[key] = _frames(allocation, code_line)
        return self._known_frames[key]

    def snapshot(self) -> dict[str, Any]:
        """The dictionary that `torch.cuda.memory._snapshot()` would return."""
        config = self._allocator.config
        return {
            "segments": self._segments(),
            "device_traces": [list(self._entries)],
            "allocator_settings": {
                "PYTORCH_CUDA_ALLOC_CONF": config.to_environment_string(),
                "max_split_size": -1 if config.max_split_size == UNLIMITED else config.max_split_size,
                "garbage_collection_threshold": config.garbage_collection_threshold,
                "expandable_segments": config.expandable_segments,
            },
            "external_annotations": [],
        }

    def _segments(self) -> list[dict[str, Any]]:
        segments = []
        for segment in allocator_segments(self._allocator):
            active = [block for block in segment.blocks if block.state != "inactive"]
            blocks = [
                {**block._asdict(), "frames": self._frames_at[block.address] if block.state != "inactive" else []}
                for block in segment.blocks
            ]
            summary = {
                "device": segment.device,
                "address": segment.address,
                "total_size": segment.total_size,
                "allocated_size": segment.allocated_size,
                "active_size": sum(block.size for block in active),
                "requested_size": sum(block.requested_size for block in active),
                "stream": segment.stream,
                "segment_type": "small" if segment.is_small else "large",
                "segment_pool_id": (0, 0),
                "is_expandable": segment.is_expandable,
                "frames": [],
                "blocks": blocks,
            }
            segments.append(summary)
        return segments


def _frames(allocation: Allocation, code_line: CodeLine | None) -> Frames:
    operator: Frame = {"name": allocation.op or "allocation", "filename": allocation.module or "<model>", "line": 0}
    phase: Frame = {"name": allocation.category, "filename": f"<phase {allocation.phase or 'unknown'}>", "line": 0}
    if code_line is None:
        return [operator, phase]
    filename, line, function = code_line
    return [operator, {"name": function, "filename": filename, "line": line}, phase]


def _write(path: Path, data: dict[str, Any]) -> None:
    if not path.parent.is_dir():
        raise InputError("path", str(path), "its folder does not exist")
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        pickle.dump(data, file, protocol=4)
