"""Memory that libraries take through the caching allocator: cuBLAS workspaces, and the scratch buffers inside kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vramcast.forecast.uncertainty import Uncertainty
from vramcast.virtual_cuda.scratch import scratch_of
from vramcast.virtual_cuda.storages import StorageRecord

if TYPE_CHECKING:
    from vramcast.hardware import CublasWorkspace
    from vramcast.timeline.events import ScratchCall
    from vramcast.virtual_cuda.machine import VirtualGPU

GEMM_OPERATORS = frozenset("mm addmm bmm baddbmm addbmm mv addmv dot _scaled_mm".split())
"""Operators that take a cuBLAS handle, and with it that handle's workspace."""
LT_OPERATORS = frozenset(("addmm", "_scaled_mm"))
"""Those that go through cuBLASLt (`addmm` with a one-dimensional bias)."""

CONVOLUTIONS = frozenset(("convolution", "convolution_backward"))
CONVOLUTION_ASSUMPTION = (
    "cuDNN's workspaces for convolutions stand in the high end alone: it takes what its algorithm asks for from the caching allocator "
    "(torch.backends.cudnn.benchmark tries larger ones)"
)

CUBLAS_WORKSPACE, CUBLASLT_WORKSPACE = "cublas workspace", "cublaslt workspace"
"""What they are called in the timeline."""


def unrolled_bytes(name: str, args: Any, out: Any) -> int:
    """The input of a convolution with every window written out (im2col), as one matrix product would need it.

    Args:
        name: `convolution` or `convolution_backward`.
        args: of the operator.
        out: its result.
    """
    if name == "convolution":
        tensor, weight, result, transposed = args[0], args[1], out, args[6]
    else:
        result, tensor, weight, transposed = args[0], args[1], args[2], args[7]
    # A transposed convolution is the backward of a plain one: its windows lie in its result.
    windows, channels = (tensor, result.shape[1]) if transposed else (result, tensor.shape[1])
    kernel = math.prod(weight.shape[2:])
    return int(windows.shape[0] * math.prod(windows.shape[2:]) * channels * kernel * tensor.element_size())


class LibraryMemory:
    """Allocates for libraries what no operator returns."""

    def __init__(self, machine: VirtualGPU, workspace: CublasWorkspace) -> None:
        self._machine = machine
        self.workspace = workspace
        self._kept: set[tuple[int, int, bool, str]] = set()
        self._unrolled_bytes = 0
        """Of the convolution whose unrolled input is the largest."""

    def after_operator(self, name: str, device: int, args: Any, out: Any) -> None:
        """Workspaces of one operator; it runs after the results exist, as libraries allocate after them."""
        if name in GEMM_OPERATORS:
            self._take_workspaces(device, name)
        elif name in CONVOLUTIONS:
            self._machine.assumptions.add_once(CONVOLUTION_ASSUMPTION)
            if device == self._machine.recorded_device:
                self._unrolled_bytes = max(self._unrolled_bytes, unrolled_bytes(name, args, out))

    def uncertain(self) -> tuple[Uncertainty, ...]:
        """What no rule covers, with the most it can be."""
        convolutions = Uncertainty(
            name="convolution workspaces",
            low_bytes=0,
            high_bytes=self._unrolled_bytes,
            counts_in="reserved",
            reason="cuDNN chooses the algorithm; the most is the unrolled input of an explicit matrix product, as asked for in "
            "https://github.com/pytorch/pytorch/issues/128947 (161 GiB for one call)",
        )
        return (convolutions,) if self._unrolled_bytes else ()

    @contextmanager
    def scratch(self, name: str, device: int, args: Any) -> Iterator[None]:
        """The scratch of an operator, alive while the block runs."""
        machine = self._machine
        buffers = scratch_of(name, args, machine.gpu.kernel_multiprocessors, keep_empty=machine.keeps_empty_scratch)
        with self._alive(device, name, buffers):
            yield

    def assume_forward_ran(self) -> None:
        """For a step without its model: the forward pass, which multiplies matrices, has taken this thread's workspaces already."""
        device, stream = self._machine.current_device, self._machine.current_stream
        self._kept.update((device, stream, False, op) for op in (CUBLAS_WORKSPACE, CUBLASLT_WORKSPACE))

    def _take_workspaces(self, device: int, name: str) -> None:
        """One workspace for each handle and stream; handles belong to threads, and CUDA's backward runs on a thread of its own."""
        workspace = self.workspace
        if name in LT_OPERATORS:
            self._take(device, workspace.lt_workspace_bytes, CUBLASLT_WORKSPACE, workspace.lt_persistent)
        self._take(device, workspace.workspace_bytes, CUBLAS_WORKSPACE, workspace.persistent)

    def _take(self, device: int, nbytes: int, op: str, persistent: bool) -> None:
        if not nbytes:
            return
        if not persistent:
            with self._alive(device, op, ((nbytes, None),)):
                return
        key = (device, self._machine.current_stream, bool(self._machine.backward_depth), op)
        if key not in self._kept:
            self._kept.add(key)
            self._allocate(device, nbytes, op)

    def _allocate(self, device: int, nbytes: int, op: str, scratch: ScratchCall | None = None) -> StorageRecord:
        record = StorageRecord(device, nbytes)
        self._machine.device_memory.allocate(record, device, op, scratch=scratch)
        assert record.allocation is not None
        record.allocation.category = "workspace"
        self._machine.categories.forget(record)
        return record

    @contextmanager
    def _alive(self, device: int, op: str, buffers: Sequence[tuple[int, ScratchCall | None]]) -> Iterator[None]:
        """Buffers that are alive together, and gone at the end of the block."""
        records: list[StorageRecord] = []
        try:
            for nbytes, scratch in buffers:
                records.append(self._allocate(device, nbytes, op, scratch))
            yield
        finally:
            for record in records:
                self._machine.device_memory.release(record)
