"""Replay of a recorded generation, all its decode steps included, in constant memory. Needs neither torch nor a GPU."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vramcast.allocator.blocks import MIN_BLOCK, Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import AllocatorConfig
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.replay import MarkReading, Replayer
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Category, EventKind, Timeline
from vramcast.timeline.decode import AFTER_DECODE, DecodeExtension, StepTemplate

Progress = Callable[[int, int], None]
"""Called with (decode steps done, decode steps in all) now and then."""
_STEPS_BETWEEN_REPORTS = 16
WORTH_SKIPPING = 4
"""Comparing all blocks from step to step pays only where at least so many steps ask for the same sizes."""
LONGEST_CYCLE = 16
"""Steps after which a state may come back: small tensors that are remade each step take turns in a few blocks."""


@dataclass(frozen=True, slots=True)
class GenerationReplay:
    """What the replay of a whole generation came to. Bytes, as `torch.cuda.max_memory_allocated()` and its siblings
    count them."""

    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_reserved_bytes: int
    peak_step: int
    """Decode step in which the allocated peak is first reached; 0 = in the recorded head (load, prefill, first
    steps)."""
    live_at_peak: tuple[tuple[Allocation, int], ...]
    """Every allocation alive at the allocated peak with the bytes of its block; they sum to `peak_allocated_bytes`."""
    num_alloc_retries: int
    num_events: int
    """Events replayed; fewer than there are where steps were found to leave the allocator as it was."""
    marks: tuple[MarkReading, ...] = ()
    out_of_memory: AllocatorOutOfMemory | None = None
    out_of_memory_step: int | None = None

    @property
    def breakdown(self) -> dict[Category, int]:
        """Bytes alive at the allocated peak by category; they sum to it."""
        found: dict[Category, int] = {}
        for allocation, nbytes in self.live_at_peak:
            found[allocation.category] = found.get(allocation.category, 0) + nbytes
        return found


def replay_generation(
    timeline: Timeline,
    decode: DecodeExtension,
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
    *,
    progress: Progress | None = None,
) -> GenerationReplay:
    """Replay the recorded head, then every decode step; exact, with nothing skipped but steps that change nothing.

    A step that leaves every block of the allocator where it found it is not replayed again until one of its sizes,
    rounded to the allocator's 512 bytes, changes.

    Args:
        timeline: `Recording.timeline`.
        decode: `Recording.decode`.
        config: settings of the allocator; PyTorch's defaults if not given.
        capacity_bytes: bytes the allocator may reserve; None = no limit.
        progress: told how far the replay is.
    """
    allocator = CachingAllocator(config, capacity_bytes)
    head = Replayer(timeline.allocations, timeline.marks, allocator=allocator)
    head.feed(timeline.events)
    result = head.result()
    loaded_only = [(timeline.allocations[index], size) for index, size in result.live_at_peak.items()]
    steps = _StepReplay(allocator, timeline, decode, head.blocks)
    if not head.stopped:
        steps.run(decode, progress)
    in_steps = steps.peak is not None
    failure = result.out_of_memory[0].error if result.out_of_memory else steps.failure
    counts = allocator.statistics.all
    return GenerationReplay(
        peak_allocated_bytes=counts.allocated_bytes_peak,
        peak_active_bytes=counts.active_bytes_peak,
        peak_reserved_bytes=counts.reserved_bytes_peak,
        peak_step=steps.peak.step if steps.peak is not None else 0,
        live_at_peak=tuple(steps.live_at_peak() if in_steps else loaded_only),
        num_alloc_retries=allocator.statistics.num_alloc_retries,
        num_events=result.num_events + steps.num_events,
        marks=(*result.marks, *steps.readings),
        out_of_memory=failure,
        out_of_memory_step=None if failure is None else (0 if head.stopped else steps.step),
    )


def steps_of_same_blocks(template: StepTemplate, repetition: int) -> int:
    """How many further uses of the template ask for the same sizes, rounded to the allocator's blocks of 512 bytes."""
    further = 1 << 62
    for allocation in template.allocations:
        growth = allocation.growth_bytes
        if growth:
            size = allocation.first.nbytes + repetition * growth
            room = -size % MIN_BLOCK if growth > 0 else (size - 1) % MIN_BLOCK
            further = min(further, room // abs(growth))
    return further


@dataclass(slots=True)
class _Peak:
    """Where the allocated peak is: enough to list what is alive there."""

    step: int
    template: StepTemplate
    repetition: int
    position: int
    """Event of the step at which it is reached."""
    state: list[tuple[Allocation, int]]
    """What was alive when the step began, with block bytes."""
    sizes: list[int]
    """Block bytes of the step's own allocations, as far as they were made."""


@dataclass(slots=True)
class _StepReplay:
    """Drives the allocator through steps; blocks are kept by place, so nothing grows with the number of steps."""

    allocator: CachingAllocator
    timeline: Timeline
    decode: DecodeExtension
    blocks: dict[int, Block | None]
    state: list[Block | None] = field(init=False)
    owners: list[Allocation] = field(init=False)
    """The allocation behind each entry of the state."""
    peak: _Peak | None = None
    num_events: int = 0
    step: int = 0
    interval_peak: int = 0
    """Most bytes allocated since the mark that ends the recorded head."""
    failure: AllocatorOutOfMemory | None = None
    readings: list[MarkReading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = [self.blocks.get(index) for index in self.decode.state]
        self.owners = [self.timeline.allocations[index] for index in self.decode.state]
        self.interval_peak = self.allocator.statistics.all.allocated_bytes

    def run(self, decode: DecodeExtension, progress: Progress | None) -> None:
        """Every step, then the tail."""
        total, done = decode.num_steps, 0
        for segment in decode.segments:
            seen: deque[object] = deque(maxlen=LONGEST_CYCLE)
            self.step = segment.first_step
            while self.step <= segment.last_step:
                template, repetition = segment.template_of(self.step)
                if not self._replay(template, repetition):
                    return
                idle = steps_of_same_blocks(template, repetition) if len(segment.templates) == 1 else 0
                idle = min(idle, segment.last_step - self.step)
                skipped = self._steps_to_skip(idle, seen)
                self.step += 1 + skipped
                done += 1 + skipped
                if progress is not None and (skipped or done % _STEPS_BETWEEN_REPORTS == 0 or done == total):
                    progress(done, total)
        self._read(AFTER_DECODE)
        self._replay(decode.tail, 0)

    def _steps_to_skip(self, idle: int, seen: deque[object]) -> int:
        """How many of the next `idle` equal steps lead back to the state the allocator is in now."""
        if idle < WORTH_SKIPPING:
            seen.clear()
            return 0
        now = self._fingerprint()
        for cycle, before in enumerate(reversed(seen), 1):
            if before == now:
                return idle // cycle * cycle
        seen.append(now)
        return 0

    def _replay(self, template: StepTemplate, repetition: int) -> bool:
        """One step; False where memory ran out."""
        malloc, free, counts = self.allocator.malloc, self.allocator.free, self.allocator.statistics.all
        sizes = template.sizes(repetition)
        streams = [allocation.first.stream for allocation in template.allocations]
        state, born = self.state, []
        block_sizes: list[int] = []
        highest, reached = counts.allocated_bytes_peak, -1
        before: list[tuple[Allocation, int]] | None = None
        state_sizes = [0 if block is None else block.size for block in state]
        position = 0
        try:
            for kind, place, value in template.events:
                if kind == 0:  # ALLOC
                    block = malloc(sizes[place], streams[place])
                    born.append(block)
                    block_sizes.append(0 if block is None else block.size)
                    if counts.allocated_bytes > self.interval_peak:
                        self.interval_peak = counts.allocated_bytes
                    if counts.allocated_bytes_peak > highest:
                        highest, reached = counts.allocated_bytes_peak, position
                elif kind == 1:  # FREE
                    free(born[place] if place >= 0 else state[~place])
                else:
                    self._apply(kind, born[place] if place >= 0 and kind == EventKind.USE_STREAM else None, value)
                position += 1
        except AllocatorOutOfMemory as error:
            self.failure = error
            return False
        finally:
            self.num_events += position
            if reached >= 0:
                before = list(zip(self.owners, state_sizes, strict=True))
                self.peak = _Peak(self.step, template, repetition, reached, before, block_sizes)
        owners = self.owners
        self.state = [born[place] if place >= 0 else state[~place] for place in template.survivors]
        self.owners = [
            template.allocations[place].at(repetition) if place >= 0 else owners[~place] for place in template.survivors
        ]
        return True

    def _apply(self, kind: int, block: Block | None, value: int) -> None:
        """The waits that a generation on one stream makes."""
        match kind:
            case EventKind.HOST_WAIT_STREAM:
                self.allocator.host_wait_stream(value)
            case EventKind.HOST_WAIT_DEVICE:
                self.allocator.synchronize()
            case EventKind.USE_STREAM:
                self.allocator.record_stream(block, value)
            case _:
                raise InputError("events", kind, "this kind of event is not expected inside a decode step")

    def _fingerprint(self) -> tuple[object, ...]:
        """Everything that decides how the allocator will answer: its blocks, and which of them the state holds."""
        blocks = []
        for head in self.allocator.driver.heads.values():
            block: Block | None = head
            while block is not None:
                blocks.append((block.address, block.size, block.state))
                block = block.next
        return tuple(block and block.address for block in self.state), blocks

    def _read(self, name: str) -> None:
        self.readings.append(MarkReading.of(name, self.num_events, self.allocator, self.interval_peak))

    def live_at_peak(self) -> list[tuple[Allocation, int]]:
        """What was alive at the peak: weights, what the step found, and what it had made by then."""
        assert self.peak is not None
        peak, in_state = self.peak, set(self.decode.state)
        found = [
            (self.timeline.allocations[index], block.size)
            for index, block in self.blocks.items()
            if block is not None and index not in in_state
        ]
        alive: dict[int, tuple[Allocation, int]] = {~rank: entry for rank, entry in enumerate(peak.state)}
        for kind, place, _ in peak.template.events[: peak.position + 1]:
            if kind == EventKind.ALLOC:
                alive[place] = peak.template.allocations[place].at(peak.repetition), peak.sizes[place]
            elif kind == EventKind.FREE:
                del alive[place]
        return found + [entry for entry in alive.values() if entry[1]]
