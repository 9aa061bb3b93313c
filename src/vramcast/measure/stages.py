"""The two stages on which a job is measured: a CUDA device read through its allocator, and a device whose storages are watched."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from vramcast.measure.allocator_readings import allocator_memory, device_used_bytes
from vramcast.measure.storage_watch import StorageWatch


class AllocatorStage:
    """A `TrainingStage` on the CUDA device, whose marks are readings of the allocator."""

    device = "cuda"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.marks: list[dict[str, Any]] = []
        self._step: int | None = None

    def begin_step(self, step: int) -> None:
        """Marks that follow are of this step."""
        self._step = step

    def batch(self, batch_size: int, sequence_length: int) -> torch.Tensor:
        """Random token ids, drawn on the host as a data loader does."""
        return torch.randint(self.vocab_size, (batch_size, sequence_length)).to(self.device)

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """The allocator knows no phases."""
        return nullcontext()

    def end(self, mark: str) -> None:
        """Read the allocator and the driver."""
        self.marks.append(
            {"name": mark, "step": self._step, **allocator_memory(), "device_used_bytes": device_used_bytes()}
        )


class WatchedStage:
    """A `TrainingStage` on a device whose storages are watched."""

    def __init__(self, watch: StorageWatch, vocab_size: int) -> None:
        self.watch, self.vocab_size = watch, vocab_size

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.watch.device

    def begin_step(self, step: int) -> None:
        """Steps need no mark of their own."""

    def batch(self, batch_size: int, sequence_length: int) -> torch.Tensor:
        """Random token ids."""
        ids = torch.randint(self.vocab_size, (batch_size, sequence_length)).to(self.device)
        self.watch.set_category(ids, "inputs")
        return ids

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """The name that births get."""
        return self.watch.in_phase(name)

    def end(self, mark: str) -> None:
        """Name this instant in the timeline."""
        self.watch.mark(mark)
