"""Where a forecast's numbers come from: a recording at full size or a tape with numbers put in. Both answer alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from vramcast.allocator import AllocatorConfig
from vramcast.allocator.plain_replay import replay_plain
from vramcast.forecast.readings import Readings, read_recording, readings_of
from vramcast.hardware import GPU
from vramcast.kernels import choose_backend
from vramcast.progress import Progress
from vramcast.tapes.binding import BoundTape, attention_call
from vramcast.tapes.tape import AttentionGuard
from vramcast.timeline import OperatorTable, Recording, Timeline

Engine = Literal["tape", "trace"]


class Source(Protocol):
    """What a forecast asks."""

    @property
    def engine(self) -> Engine:
        """`tape` or `trace`."""

    @property
    def parameters(self) -> int:
        """Elements of all parameters, tied ones counted once."""

    @property
    def flops_per_step(self) -> int:
        """FLOPs of one optimizer step, or of one decoding step."""

    @property
    def operators(self) -> dict[str, OperatorTable]:
        """What is computed, by interval (see `Recording.operators`)."""

    @property
    def kernels(self) -> dict[str, int]:
        """How often each choice of kernel was made."""

    @property
    def assumptions(self) -> list[str]:
        """What had to be assumed."""

    @property
    def versions(self) -> dict[str, str]:
        """Releases of the libraries whose code was run."""

    def read(
        self, config: AllocatorConfig, capacity_bytes: int | None = None, progress: Progress | None = None
    ) -> Readings:
        """Replay through the caching allocator."""

    def timeline(self) -> Timeline:
        """Every allocation and event; of a generation those up to the second decode step."""


@dataclass
class RecordedSource:
    """A recording: the job's own code was run at full size."""

    recording: Recording
    engine: Engine = "trace"

    @property
    def parameters(self) -> int:
        """See `Source`."""
        return self.recording.parameters

    @property
    def flops_per_step(self) -> int:
        """See `Source`."""
        return self.recording.flops_per_step

    @property
    def operators(self) -> dict[str, OperatorTable]:
        """See `Source`."""
        return self.recording.operators

    @property
    def kernels(self) -> dict[str, int]:
        """See `Source`."""
        return self.recording.kernels

    @property
    def assumptions(self) -> list[str]:
        """See `Source`."""
        return self.recording.assumptions

    @property
    def versions(self) -> dict[str, str]:
        """See `Source`."""
        return self.recording.versions

    def read(
        self, config: AllocatorConfig, capacity_bytes: int | None = None, progress: Progress | None = None
    ) -> Readings:
        """See `Source`."""
        return read_recording(self.recording, config, capacity_bytes, progress)

    def timeline(self) -> Timeline:
        """See `Source`."""
        return self.recording.timeline


@dataclass
class TapeSource:
    """A tape of a training job with numbers put in."""

    bound: BoundTape
    gpu: GPU
    engine: Engine = "tape"

    @property
    def parameters(self) -> int:
        """See `Source`."""
        return self.bound.parameters

    @cached_property
    def operators(self) -> dict[str, OperatorTable]:
        """See `Source`."""
        return {"step": self.bound.operators()}

    @property
    def flops_per_step(self) -> int:
        """See `Source`."""
        return self.operators["step"].flops

    @property
    def kernels(self) -> dict[str, int]:
        """See `Source`."""
        return self.bound.kernels()

    @property
    def versions(self) -> dict[str, str]:
        """See `Source`."""
        return self.bound.tape.versions

    @property
    def assumptions(self) -> list[str]:
        """See `Source`."""
        tape = self.bound.tape
        return [*about_attention(tape.attention, self.bound.values, self.gpu), *tape.assumptions]

    def read(
        self, config: AllocatorConfig, capacity_bytes: int | None = None, progress: Progress | None = None
    ) -> Readings:
        """See `Source`."""
        bound = self.bound
        result = replay_plain(
            bound.allocation_bytes, bound.unrolled.event_list, bound.unrolled.marks, config, capacity_bytes
        )
        labels, which = bound.tape.labels, bound.unrolled.label
        live = result.live_at_peak.items()
        return readings_of(
            [(labels[which[index]], nbytes) for index, nbytes in live],
            result.marks,
            result.peak_reserved_bytes,
            result.num_alloc_retries,
            bool(result.out_of_memory),
            lambda: [(bound.allocation(index), nbytes) for index, nbytes in live],
        )

    def timeline(self) -> Timeline:
        """See `Source`."""
        return self.bound.timeline()


def about_attention(guards: Iterable[AttentionGuard], values: Mapping[str, int], gpu: GPU) -> list[str]:
    """Why attention keeps its score matrix, where it does, at these sizes."""
    said: dict[str, None] = {}
    for guard in guards:
        if guard.choice.backend == "math":
            capability = gpu.kernel_capability
            call = attention_call(guard, values)
            sentence = choose_backend(call, capability, guard.choice.enabled, guard.choice.prefer_cudnn).why_math()
            if sentence is not None:
                said[sentence] = None
    return list(said)
