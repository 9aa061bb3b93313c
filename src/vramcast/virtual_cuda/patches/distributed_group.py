"""The process group of a dry run: collectives of one simulated rank, with the lifetimes that NCCL's group gives their tensors.

What `ProcessGroupNCCL` of PyTorch 2.8 and later does with memory (`ProcessGroupNCCL.cpp`; PyTorch PR 150398, and PR 194701 which says that
`TORCH_NCCL_AVOID_RECORD_STREAMS` has had no effect since):

- `async_op=False` launches on the caller's stream. The caching allocator sees nothing at all.
- `async_op=True` launches on the group's own stream, ordered by events. Inputs and outputs are held (`TensorShelf`) until `wait()`, and
  `record_stream` is not called, so no free is deferred.
- `all_gather` and `reduce_scatter` of lists of equal tensors go through one flat tensor of all, taken for the call.
- `send` and `recv` run on the group's own stream and do call `record_stream`; they hold nothing.
- `barrier` reduces a tensor of one element, and the CPU waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from vramcast.virtual_cuda.patches.distributed_values import reduced, repeated, write

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

Tensors = Sequence[torch.Tensor]
_ProcessGroup: Any = dist.ProcessGroup
"""Untyped: each collective of the base class is overloaded, for one tensor and for lists."""
_FAKE_BACKEND = torch._C._distributed_c10d.FakeProcessGroup


class VirtualWork(dist.Work):
    """Handle of a collective; it keeps the tensors alive until it is waited for or dropped."""

    def __init__(self, outputs: Tensors, held: Tensors = (), end: Any = None) -> None:
        super().__init__()
        self._outputs, self._held, self._end = list(outputs), list(held), end

    def wait(self, timeout: Any = None) -> bool:
        """The current stream waits for the collective."""
        if self._end is not None:
            self._end.wait()
        self._held = []
        return True

    def synchronize(self) -> None:
        """As `wait`."""
        self.wait()

    def is_completed(self) -> bool:
        """True: nothing is in flight on the host's side."""
        return True

    def is_success(self) -> bool:
        """True."""
        return True

    def result(self) -> list[torch.Tensor]:
        """The outputs."""
        return self._outputs

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        """A completed future with the outputs."""
        future: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
        future.set_result(self._outputs)
        return future


class VirtualProcessGroup(_ProcessGroup):  # type: ignore[misc]
    """One rank of a group of `size` processes; torch's own fake backend answers for what is not a collective.

    `backends` names the backend of each type of device, as in `{"cuda": "nccl"}`.
    """

    def __init__(self, machine: VirtualGPU, rank: int, size: int, backends: Mapping[str, str]) -> None:
        super().__init__(rank, size)
        self._machine, self._rank, self._size, self._backends = machine, rank, size, backends
        self._stream: Any = None
        backend = _FAKE_BACKEND._create_internal(rank, size)
        for device in backends:
            self._register_backend(torch.device(device), dist.ProcessGroup.BackendType.CUSTOM, backend)

    def __repr__(self) -> str:
        return f"VirtualProcessGroup(rank={self._rank}, size={self._size})"

    def getBackendName(self) -> str:
        """The name that torch's own code asks for: the one for CUDA tensors, if there is one."""
        return self._backends.get("cuda", next(iter(self._backends.values())))

    def shutdown(self) -> None:
        """Nothing runs."""

    def abort(self) -> None:
        """Nothing runs."""

    # -- what all collectives share ------------------------------------------------------------------------------------

    def _done(self, inputs: Tensors, outputs: Tensors, options: Any) -> VirtualWork:
        tensors = [*inputs, *outputs]
        if not getattr(options, "asyncOp", True) or not any(map(self._machine.is_on_gpu, tensors)):
            return VirtualWork(outputs)
        return VirtualWork(outputs, tensors, self._on_own_stream())

    def _on_own_stream(self) -> Any:
        """Order the group's stream after the current one; returns the event at the end of the collective."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        begin, end = torch.cuda.Event(), torch.cuda.Event()
        begin.record()
        self._stream.wait_event(begin)
        end.record(self._stream)
        return end

    def _flattened(self, tensors: Tensors) -> list[torch.Tensor]:
        """The flat copy that a list of equal tensors on the GPU goes through; tensors of several sizes are sent one by one."""
        sizes = {tensor.shape for tensor in tensors}
        if len(sizes) != 1 or not self._machine.is_on_gpu(tensors[0]):
            return []
        first = tensors[0]
        return [torch.empty(len(tensors) * first.numel(), dtype=first.dtype, device=first.device)]

    def _value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        value = self._machine.value_of(tensor)
        return value if value is None or value.numel() <= self._machine.max_known_elements else None

    def _write(self, outputs: Tensors, values: Sequence[torch.Tensor | None]) -> None:
        write(self._machine, outputs, values)

    # -- reductions ----------------------------------------------------------------------------------------------------

    def allreduce(self, tensors: Any, opts: Any = ReduceOp.SUM) -> VirtualWork:
        """Each tensor in place."""
        tensors = _as_list(tensors)
        op = getattr(opts, "reduceOp", opts)
        self._write(tensors, [reduced(self._value(tensor), op, self._size) for tensor in tensors])
        return self._done(tensors, tensors, opts)

    def allreduce_coalesced(self, tensors: Any, opts: Any = None) -> VirtualWork:
        """As `allreduce`, many at once."""
        return self.allreduce(tensors, ReduceOp.SUM if opts is None else opts)

    def reduce(self, tensors: Any, opts: Any = None, op: Any = ReduceOp.SUM) -> VirtualWork:
        """As `allreduce`; what ranks other than the root hold afterwards is undefined."""
        return self.allreduce(tensors, op if opts is None or isinstance(opts, int) else opts)

    def reduce_scatter(self, outputs: Any, inputs: Any, opts: Any = ReduceOp.SUM) -> VirtualWork:
        """Each output is this rank's part, reduced."""
        outputs, inputs = _as_list(outputs), _as_lists(inputs)
        op = getattr(opts, "reduceOp", opts)
        own = [reduced(self._value(parts[self._rank]), op, self._size) for parts in inputs]
        self._write(outputs, own)
        flat = [tensor for parts in inputs for tensor in parts]
        return self._done([*flat, *self._flattened(flat)], outputs, opts)

    def reduce_scatter_single(self, output: torch.Tensor, input: torch.Tensor, opts: Any = None) -> VirtualWork:
        """The output is this rank's part of one flat input."""
        return self.reduce_scatter_single_coalesced([output], [input], opts)

    def reduce_scatter_single_coalesced(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> VirtualWork:
        """As `reduce_scatter_single`, many at once."""
        op = getattr(opts, "reduceOp", ReduceOp.SUM)
        values = [reduced(self._own_part(source), op, self._size) for source in inputs]
        self._write(outputs, values)
        return self._done(inputs, outputs, opts)

    def _own_part(self, tensor: torch.Tensor) -> torch.Tensor | None:
        value = self._value(tensor)
        return None if value is None else value.reshape(self._size, -1)[self._rank]

    # -- gathering and spreading ---------------------------------------------------------------------------------------

    def allgather(self, outputs: Any, inputs: Any, opts: Any = None) -> VirtualWork:
        """Each list of outputs gets one tensor from every rank."""
        outputs, inputs = _as_lists(outputs), _as_list(inputs)
        flat = [tensor for parts in outputs for tensor in parts]
        values = [self._value(source) for source, parts in zip(inputs, outputs, strict=True) for _ in range(len(parts))]
        self._write(flat, values)
        return self._done([*inputs, *self._flattened(flat)], flat, opts)

    def allgather_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> VirtualWork:
        """One list of outputs for every rank."""
        flat = [tensor for parts in outputs for tensor in parts]
        self._write(flat, [self._value(source) for _ in outputs for source in inputs])
        return self._done(inputs, flat, opts)

    def all_gather_single(self, output: torch.Tensor, input: torch.Tensor, opts: Any = None) -> VirtualWork:
        """One flat output of all ranks' tensors."""
        return self.all_gather_single_coalesced([output], [input], opts)

    def all_gather_single_coalesced(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> VirtualWork:
        """As `all_gather_single`, many at once."""
        pairs = zip(outputs, inputs, strict=True)
        self._write(outputs, [repeated(self._value(source), self._size, out.shape) for out, source in pairs])
        return self._done(inputs, outputs, opts)

    def gather(self, outputs: Any, inputs: Any, opts: Any = None) -> VirtualWork:
        """The root's outputs get one tensor from every rank."""
        inputs, flat = _as_list(inputs), [tensor for parts in _as_lists(outputs) for tensor in parts]
        self._write(flat, [self._value(inputs[0]) for _ in flat])
        return self._done(inputs, flat, opts)

    def broadcast(self, tensors: Any, opts: Any = None) -> VirtualWork:
        """This rank's values stand for the root's."""
        tensors = _as_list(tensors)
        return self._done(tensors, tensors, opts)

    def scatter(self, outputs: Any, inputs: Any, opts: Any = None) -> VirtualWork:
        """This rank's part of the root's list; unknown on any other rank."""
        outputs, inputs = _as_list(outputs), _as_lists(inputs) if inputs else []
        self._write(outputs, [self._value(parts[self._rank]) for parts in inputs] or [None] * len(outputs))
        return self._done([tensor for parts in inputs for tensor in parts], outputs, opts)

    def alltoall(self, outputs: Any, inputs: Any, opts: Any = None) -> VirtualWork:
        """Every rank sends what this one sends to itself."""
        own = self._value(inputs[self._rank])
        self._write(outputs, [own if own is not None and own.shape == out.shape else None for out in outputs])
        return self._done(inputs, outputs, opts)

    def all_to_all_single(
        self, output: torch.Tensor, input: torch.Tensor, output_splits: Any = None, input_splits: Any = None, opts: Any = None
    ) -> VirtualWork:  # fmt: skip
        """As `alltoall`, on flat tensors; unknown where the parts differ in size."""
        own = None if output_splits or input_splits else self._own_part(input)
        self._write([output], [repeated(own, self._size, output.shape)])
        return self._done([input], [output], opts)

    # -- one to one, and waiting ---------------------------------------------------------------------------------------

    def send(self, tensors: Any, dst: int = 0, tag: int = 0) -> VirtualWork:
        """Nobody receives."""
        return self._point_to_point(_as_list(tensors))

    def recv(self, tensors: Any, src: int = 0, tag: int = 0) -> VirtualWork:
        """The content is unknown."""
        tensors = _as_list(tensors)
        self._write(tensors, [None] * len(tensors))
        return self._point_to_point(tensors)

    def _point_to_point(self, tensors: Tensors) -> VirtualWork:
        on_gpu = [tensor for tensor in tensors if self._machine.is_on_gpu(tensor)]
        end = self._on_own_stream() if on_gpu else None
        for tensor in on_gpu:
            tensor.record_stream(self._stream)
        return VirtualWork(tensors, (), end)

    def recv_anysource(self, tensors: Any, tag: int = 0) -> VirtualWork:
        """As `recv`."""
        return self.recv(tensors)

    def barrier(self, opts: Any = None) -> VirtualWork:
        """A reduction of one element on the GPU, which the CPU waits for unless it is asynchronous."""
        device = getattr(opts, "device", None)
        if device is not None and device.type == "cpu":
            return VirtualWork(())
        flag = torch.zeros(1, device="cuda")
        work = self._done([flag], [], opts)
        if not getattr(opts, "asyncOp", False):
            self._machine.device_memory.host_waits_for_stream(self._machine.current_stream)
        return work

    _allgather_base = all_gather_single
    allgather_into_tensor_coalesced = all_gather_single_coalesced
    _reduce_scatter_base = reduce_scatter_single
    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced
    alltoall_base = all_to_all_single


def _as_list(tensors: Any) -> list[torch.Tensor]:
    """Some callers pass one tensor where the group takes a list."""
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def _as_lists(tensors: Any) -> list[list[torch.Tensor]]:
    """Some callers pass one list where the group takes a list of lists."""
    tensors = list(tensors)
    return [tensors] if tensors and isinstance(tensors[0], torch.Tensor) else [list(parts) for parts in tensors]
