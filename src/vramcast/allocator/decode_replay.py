"""Replay of a recorded generation, all its decode steps included, in constant memory. Needs neither torch nor a GPU."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vramcast.allocator.blocks import MIN_BLOCK, Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import AllocatorConfig
from vramcast.allocator.flat_segments import FullSimulationNeeded
from vramcast.allocator.flat_steps import FlatStepEngine
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.replay import MarkReading, Replayer
from vramcast.allocator.step_engines import FullStepEngine, StepEngine
from vramcast.timeline import Allocation, Category, EventKind, Timeline
from vramcast.timeline.decode import AFTER_DECODE, DecodeExtension, GrowingAllocation, StepTemplate

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
    steps = _replay_steps(allocator, head, timeline, decode, progress)
    result, counts = head.result(), steps.engine.statistics
    if steps.peak is None:
        live = [(timeline.allocations[index], size) for index, size in result.live_at_peak.items()]
    else:
        live = _older_than_the_steps(timeline, decode, head.blocks) + steps.peak.live()
    failure = result.out_of_memory[0].error if result.out_of_memory else steps.failure
    return GenerationReplay(
        peak_allocated_bytes=counts.peak_allocated_bytes,
        peak_active_bytes=counts.peak_active_bytes,
        peak_reserved_bytes=counts.peak_reserved_bytes,
        peak_step=steps.peak.step if steps.peak is not None else 0,
        live_at_peak=tuple(live),
        num_alloc_retries=counts.num_alloc_retries,
        num_events=result.num_events + steps.num_events,
        marks=(*result.marks, *steps.readings),
        out_of_memory=failure,
        out_of_memory_step=None if failure is None else (0 if head.stopped else steps.step),
    )


def _replay_steps(
    allocator: CachingAllocator,
    head: Replayer,
    timeline: Timeline,
    decode: DecodeExtension,
    progress: Progress | None,
) -> "_StepReplay":
    """Flat where that is possible, which leaves `allocator` as the head left it; in full otherwise."""
    state = [head.blocks.get(index) for index in decode.state]
    owners = [(GrowingAllocation(timeline.allocations[index]), 0) for index in decode.state]
    full = _StepReplay(FullStepEngine(allocator, state), owners, allocator.statistics.all.allocated_bytes)
    if head.stopped:
        return full
    engine = FlatStepEngine.copy_of(allocator, state, decode)
    if engine is not None:
        flat = _StepReplay(engine, owners, full.interval_peak)
        try:
            flat.run(decode, progress)
            return flat
        except FullSimulationNeeded:
            pass
    full.run(decode, progress)
    return full


def _older_than_the_steps(
    timeline: Timeline, decode: DecodeExtension, blocks: Mapping[int, Block | None]
) -> list[tuple[Allocation, int]]:
    """Weights and what else is alive throughout."""
    in_state = set(decode.state)
    return [
        (timeline.allocations[index], block.size)
        for index, block in blocks.items()
        if block is not None and index not in in_state
    ]


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


Owner = tuple[GrowingAllocation, int]
"""The allocation behind an entry of the state, and how often its template was used before it was made."""


@dataclass(slots=True)
class _Peak:
    """Where the allocated peak is: enough to list what is alive there."""

    step: int
    template: StepTemplate
    repetition: int
    position: int
    """Event of the step at which it is reached."""
    owners: Sequence[Owner]
    """What was alive when the step began, but for what is older than the steps."""
    owner_sizes: Sequence[int]
    """Bytes of its blocks."""
    sizes: Sequence[int]
    """Block bytes of the step's own allocations, as far as they were made."""

    def live(self) -> list[tuple[Allocation, int]]:
        """What the step found, and what it had made by then, with block bytes."""
        alive: dict[int, tuple[Owner, int]] = {
            ~rank: entry for rank, entry in enumerate(zip(self.owners, self.owner_sizes, strict=True))
        }
        for kind, place, _ in self.template.events[: self.position + 1]:
            if kind == EventKind.ALLOC:
                alive[place] = (self.template.allocations[place], self.repetition), self.sizes[place]
            elif kind == EventKind.FREE:
                del alive[place]
        return [(growing.at(repetition), size) for (growing, repetition), size in alive.values() if size]


@dataclass(slots=True)
class _StepReplay:
    """Drives an engine through steps; blocks are kept by place, so nothing grows with the number of steps."""

    engine: StepEngine
    owners: Sequence[Owner]
    """The allocation behind each entry of the state."""
    interval_peak: int
    """Most bytes allocated since the mark that ends the recorded head."""
    peak: _Peak | None = None
    num_events: int = 0
    step: int = 0
    failure: AllocatorOutOfMemory | None = None
    readings: list[MarkReading] = field(default_factory=list)

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
        self.readings.append(self.engine.reading(AFTER_DECODE, self.num_events, self.interval_peak))
        self._replay(decode.tail, 0)

    def _steps_to_skip(self, idle: int, seen: deque[object]) -> int:
        """How many of the next `idle` equal steps lead back to the state the allocator is in now."""
        if idle < WORTH_SKIPPING:
            seen.clear()
            return 0
        now = self.engine.fingerprint()
        for cycle, before in enumerate(reversed(seen), 1):
            if before == now:
                return idle // cycle * cycle
        seen.append(now)
        return 0

    def _replay(self, template: StepTemplate, repetition: int) -> bool:
        """One step; False where memory ran out."""
        owners, owner_sizes = self.owners, self.engine.state_sizes()
        outcome = self.engine.play(template, template.sizes(repetition))
        self.num_events += outcome.num_events
        self.interval_peak = max(self.interval_peak, outcome.highest_bytes)
        if outcome.peak_position is not None:
            self.peak = _Peak(
                self.step, template, repetition, outcome.peak_position, owners, owner_sizes, outcome.block_sizes
            )
        self.failure = outcome.error
        if self.failure is None:
            made = template.allocations
            self.owners = [(made[place], repetition) if place >= 0 else owners[~place] for place in template.survivors]
        return self.failure is None
