"""The virtual GPU: state of one run, and the context manager that puts it in place and takes it away again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
import torch._dynamo  # optimizers import it, and it must see torch unpatched

from vramcast.allocator import AllocatorConfig, CachingAllocator
from vramcast.errors import VramcastError
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.run import forecast_of_run
from vramcast.hardware import GPU, allocator_capacity_bytes, cublas_workspace_bytes, cuda_context_bytes
from vramcast.kernels.sdpa_choice import AttentionCall, AttentionChoice, Backend, Choice
from vramcast.timeline import OperatorTable, Timeline
from vramcast.timeline.recording import Recording
from vramcast.virtual_cuda.categories import CategoryKeeper
from vramcast.virtual_cuda.cuda_kernels.autocast import WeightCache
from vramcast.virtual_cuda.cuda_kernels.layer import CUDA_CHOICE_KEY, cuda_kernel_layer
from vramcast.virtual_cuda.device_memory import DeviceMemory
from vramcast.virtual_cuda.dispatch_mode import RecordingDispatchMode
from vramcast.virtual_cuda.display import LiveDisplay, html_bar, one_line
from vramcast.virtual_cuda.function_mode import DeviceFunctionMode
from vramcast.virtual_cuda.library_memory import LibraryMemory
from vramcast.virtual_cuda.modules import ModuleTracker
from vramcast.virtual_cuda.operator_log import OperatorLog
from vramcast.virtual_cuda.operator_steps import OperatorSteps
from vramcast.virtual_cuda.out_of_memory import OutOfMemory
from vramcast.virtual_cuda.patches import installed_patches
from vramcast.virtual_cuda.phases import PhaseTracker
from vramcast.virtual_cuda.refusals import HEARD
from vramcast.virtual_cuda.source_lines import SourceLines, running_line
from vramcast.virtual_cuda.storages import (
    HOST,
    DisableTorchFunction,
    StorageTable,
    raw_is_meta,
)
from vramcast.virtual_cuda.values import MAX_KNOWN_ELEMENTS, Assumptions, assumed_scalar, known_value, remember_value
from vramcast.virtual_cuda.versions import library_versions

_READ_SCALAR = torch.ops.aten._local_scalar_dense.default
_ACTIVE: list[VirtualGPU] = []


class VirtualGPU:
    """Ordinary PyTorch code that says `device="cuda"` runs inside `with VirtualGPU(gpu):` on a machine without CUDA.

    No weight and no activation is ever held in memory; what a CUDA GPU would allocate is recorded in `timeline` and followed live by
    `allocator`, so that `torch.cuda.max_memory_allocated()` and the out-of-memory error are answered inside the code as well.
    """

    VALUE_PRESERVING: ClassVar[frozenset[str]] = frozenset(
        "allreduce_ broadcast_ all_reduce _allgather_base_ allgather_ barrier".split()
    )
    """Operators that write in place but, on one simulated rank, leave the values as they were."""

    def __init__(
        self,
        gpu: GPU,
        *,
        allocator_config: AllocatorConfig | Literal["environment"] | None = None,
        capacity_bytes: int | Literal["card"] | None = None,
        device_count: int = 1,
        torch_version: str = torch.__version__,
        record: bool = True,
        track_lines: bool = False,
        mark_phases: bool = False,
        keeps_empty_scratch: bool = False,
    ) -> None:
        """Prepare a virtual GPU.

        Args:
            gpu: row of the hardware file.
            allocator_config: settings of the caching allocator; PyTorch's defaults if not given. `environment`: those of
                `PYTORCH_CUDA_ALLOC_CONF` when the code first uses the GPU, as in PyTorch.
            capacity_bytes: bytes the caching allocator may reserve before it runs out of memory; `card`: what it may on this card; without
                limit if not given, so that the code is seen whole, whether it fits or not.
            device_count: how many such GPUs `torch.cuda.device_count()` answers.
            torch_version: the PyTorch release whose library behaviour (workspaces) is assumed.
            record: keep the timeline; without it only the peaks are followed.
            track_lines: note the source line of every allocation in `source_lines`.
            keeps_empty_scratch: record scratch of 0 bytes too where it comes and goes with the sizes, for a recording that stands for
                other sizes.
            mark_phases: mark the ends of loading, forward, backward and optimizer step in the timeline, for code that does not.
        """
        self.gpu = gpu
        self.compute_capability = gpu.kernel_capability
        self.torch_version = torch_version
        self.device_count = device_count
        self.world_size = 1
        """Processes of the distributed run that the code is one of: those of the largest group it makes."""
        self.rank = 0
        """Which of them the code is, where a launcher in the code starts them."""
        self.recorded_device = 0
        """The GPU whose memory is recorded: the one of this process."""
        self.is_bad_fork = False
        """This process is a fork of one that has used the GPU, which CUDA cannot be."""
        self.used_fp16_autocast = False
        self._allocator_config = allocator_config
        self.capacity_bytes = allocator_capacity_bytes(gpu) if capacity_bytes == "card" else capacity_bytes
        self.timeline = Timeline()
        self.source_lines = SourceLines() if track_lines else None
        self.refusals: dict[str, None] = {}
        """What could not be followed, each message once, whether the code caught the error or not."""
        self.out_of_memory: list[OutOfMemory] = []
        """Every time memory ran out, whether the code caught the error or not."""
        self._mark_phases = mark_phases
        self.keeps_empty_scratch = keeps_empty_scratch
        self.step_listeners: list[Callable[[Any], None]] = []
        """Called with the optimizer after each of its steps."""
        self.allocation_listeners: list[Callable[[], None]] = []
        """Called after each allocation on GPU 0."""
        self._displays: list[LiveDisplay] = []
        self.assumptions = Assumptions()
        if gpu.compute_capability is None:
            self.assumptions.add(
                f"{gpu.name} has no CUDA compute capability: kernels and workspaces are those of an A100 (8.0)"
            )
        self.kernels: Counter[str] = Counter()
        """How often each attention backend and fused kernel was chosen, e.g. `scaled_dot_product_attention: flash`."""
        self.attention_choices: dict[AttentionChoice, None] = {}
        """Distinct decisions of `scaled_dot_product_attention`, in order of first appearance."""
        self.flops = 0
        """FLOPs of matrix multiplications and attention so far; one multiply-add is two."""
        self.max_known_elements = MAX_KNOWN_ELEMENTS
        """Larger tensors are never followed by value; raise it for a run whose masks are larger and decide a branch."""
        self.autocast_weights = WeightCache()
        self.library = LibraryMemory(self, cublas_workspace_bytes(self.compute_capability, torch_version))
        self.device_memory = DeviceMemory(self, record=record)
        self.storages = StorageTable(self.device_memory.on_death)
        self.modules = ModuleTracker(self._on_outermost_module)
        self.phases = PhaseTracker(self.modules)
        self.operators = OperatorLog(self.phases, self.modules)
        self._operator_steps = OperatorSteps(self.operators) if record else None
        self.categories = CategoryKeeper(self.storages)
        self.prefers_cudnn_attention = False
        self._told_of_cudnn = False
        self.fuses_rms_norm = True
        self.current_device = 0
        self.default_device: int | None = None
        self.current_stream = 0
        self.forced_device: int | None = None
        self.factory_device: int | None = None
        self.operator_label: str | None = None
        """Name under which allocations are recorded while torch calls something else for them (a move is a `_to_copy`)."""
        self.optimizer_steps = 0
        self._exit: ExitStack | None = None
        self.function_mode = DeviceFunctionMode(self)
        self.dispatch_mode = RecordingDispatchMode(self)

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def __enter__(self) -> VirtualGPU:
        if _ACTIVE:
            raise VramcastError("a virtual GPU is active already; leave its `with` block first")
        with ExitStack() as stack:
            _ACTIVE.append(self)
            stack.callback(_ACTIVE.pop)
            HEARD.append(self.refusals.setdefault)
            stack.callback(HEARD.pop)
            stack.callback(self._finish)
            stack.enter_context(installed_patches(self))
            stack.enter_context(cuda_kernel_layer(self))
            self.modules.install()
            stack.callback(self.modules.remove)
            stack.enter_context(self.dispatch_mode)
            stack.enter_context(self.function_mode)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._exit is not None
        exit_stack, self._exit = self._exit, None
        exit_stack.__exit__(*exception)

    def _finish(self) -> None:
        self.categories.settle()
        self.autocast_weights.clear()
        self.storages.clear()
        for display in self._displays:
            display.after_step()

    # -- what the user reads -------------------------------------------------------------------------------------------

    @cached_property
    def allocator_config(self) -> AllocatorConfig:
        """Settings of the caching allocator, fixed from their first use."""
        if self._allocator_config == "environment":
            return AllocatorConfig.from_environment()
        return self._allocator_config or AllocatorConfig()

    @cached_property
    def allocators(self) -> list[CachingAllocator]:
        """One for each GPU."""
        return [self._new_allocator() for _ in range(self.device_count)]

    def _new_allocator(self) -> CachingAllocator:
        return CachingAllocator(self.allocator_config, self.capacity_bytes)

    def see_devices(self, count: int) -> None:
        """There are at least so many GPUs."""
        more = max(count - self.device_count, 0)
        self.device_count += more
        torch.cuda.default_generators += tuple(torch.Generator() for _ in range(more))  # type: ignore[assignment]
        self.allocators.extend(self._new_allocator() for _ in range(self.device_count - len(self.allocators)))

    @property
    def allocator(self) -> CachingAllocator:
        """Allocator of the GPU that is recorded."""
        return self.allocators[self.recorded_device]

    @property
    def peak_allocated_bytes(self) -> int:
        """Comparable with `torch.cuda.max_memory_allocated()`."""
        return self.allocator.statistics.all.allocated_bytes_peak

    @property
    def peak_reserved_bytes(self) -> int:
        """Comparable with `torch.cuda.max_memory_reserved()`."""
        return self.allocator.statistics.all.reserved_bytes_peak

    def recording(self, operators: dict[str, OperatorTable] | None = None) -> Recording:
        """Everything recorded so far, as plain data.

        Args:
            operators: those of the intervals that a recorder knows; else of the last optimizer step (`step`) or, before
                there were two, of everything (`run`).
        """
        self.categories.settle()
        if operators is None:
            operators = {} if self._operator_steps is None else self._operator_steps.tables()
        return Recording(
            timeline=self.timeline,
            parameters=self.categories.most_elements,
            flops_per_step=self._flops_per_step(operators),
            kernels=dict(self.kernels),
            attention_choices=list(self.attention_choices),
            assumptions=self.assumptions.sentences(),
            versions=library_versions(),
            operators=operators,
        )

    def _flops_per_step(self, operators: dict[str, OperatorTable]) -> int:
        if "step" in operators:
            return operators["step"].flops
        return self.flops // (1 if operators else max(self.optimizer_steps, 1))

    def forecast(self) -> Forecast:
        """The `Forecast` of everything recorded so far, as the command line shows it."""
        return forecast_of_run(self)

    def show(self) -> None:
        """In a notebook: the forecast so far below the running cell, drawn again after each optimizer step and at the end.

        Raises:
            VramcastError: there is no notebook to draw in.
        """
        live = LiveDisplay(self)
        self.step_listeners.append(live.after_step)
        self._displays.append(live)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return html_bar(self)

    # -- phases --------------------------------------------------------------------------------------------------------

    @property
    def backward_depth(self) -> int:
        """Backward passes that run now; 0 outside of any."""
        return self.phases.backward_depth

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """Name what the block does, for code whose phase cannot be seen (loading, prefill, decoding)."""
        return self.phases.named(name)

    def mark(self, name: str) -> None:
        """Name this instant in the timeline."""
        self.timeline.mark(name)

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        """Around the autograd engine: what forward left alive are the activations, and what it leaves in `.grad` the gradients."""
        if self.phases.backward_depth == 0:
            self.categories.survivors_are_activations("forward")
            self._phase_ends("after_forward")
        self.phases.backward_depth += 1
        try:
            yield
        finally:
            self.phases.backward_depth -= 1
            if self.phases.backward_depth == 0:
                self.categories.settle()
                self._phase_ends("after_backward")

    def _phase_ends(self, mark: str) -> None:
        if self._mark_phases:
            self.mark(mark)

    def optimizer_step_begins(self, optimizer: Any) -> None:
        """Called before any optimizer's step."""
        self.categories.settle()
        self.phases.in_optimizer = True

    def optimizer_step_ends(self, optimizer: Any) -> None:
        """Called after any optimizer's step: tensors it keeps are its states."""
        self.phases.in_optimizer = False
        self.optimizer_steps += 1
        self.categories.optimizer_keeps(optimizer)
        if self._operator_steps is not None:
            self._operator_steps.step_ends()
        self._phase_ends("after_optimizer")
        for listener in self.step_listeners:
            listener(optimizer)

    def _on_outermost_module(self, module: torch.nn.Module, entering: bool) -> None:
        if self.phases.backward_depth:
            if not entering:
                self.categories.survivors_are_activations("recompute")
        elif entering:
            if not self.phases.ran_forward:
                self._phase_ends("after_load")
            self.phases.ran_forward = True
            self.categories.module_is_entered(module)

    # -- around each operator ------------------------------------------------------------------------------------------

    def end_operator(self, func: Any, name: str, device: int, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Called after an operator ran: library workspaces, and what it computed."""
        if device < 0:
            return
        self.library.after_operator(name, device, args, out)
        if self.source_lines is not None:
            self.source_lines.note_operator()
        if device == self.recorded_device:
            self.flops += self.operators.note(func, args, kwargs, out)

    # -- values --------------------------------------------------------------------------------------------------------

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The known content of a tensor (itself, if it is real), or None."""
        with DisableTorchFunction():
            if not raw_is_meta(tensor):
                return tensor
            return known_value(tensor, self.storages.of_storage(tensor.untyped_storage()))

    def read_scalar(self, tensor: torch.Tensor) -> bool | int | float:
        """What `.item()` answers; the CPU waits for the GPU, as on a real one."""
        record = self.storages.of(tensor)
        if record is not None and record.device >= 0:
            self.device_memory.host_waits_for_stream(self.current_stream)
            with DisableTorchFunction():
                self.end_operator(_READ_SCALAR, "_local_scalar_dense", record.device, (tensor,), {}, None)
        value = self.value_of(tensor)
        if value is not None:
            with DisableTorchFunction():
                return value.item()
        answer = assumed_scalar(tensor.dtype, running_line())
        self.assumptions.add_with_line(
            f"an unknown {str(tensor.dtype).removeprefix('torch.')} value was read as {answer}"
        )
        return answer

    def virtual_on_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A real CPU tensor as a virtual host tensor, for an operator that mixes both; zero-dimensional tensors pass as they are."""
        if raw_is_meta(tensor) or tensor.dim() == 0:
            return tensor
        virtual = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
        record = self.storages.add(virtual.untyped_storage(), HOST)
        if tensor.numel() <= self.max_known_elements:
            remember_value(virtual, record, tensor)
        return virtual

    def host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of unknown content in virtual host memory, such as a batch of data; it costs no memory at any size."""
        before, self.forced_device = self.forced_device, HOST
        try:
            with DisableTorchFunction():  # the function mode would take the meta device at its word
                return torch.empty(shape, dtype=dtype, device="meta")
        finally:
            self.forced_device = before

    # -- devices and streams -------------------------------------------------------------------------------------------

    @property
    def device_name(self) -> str:
        """What `torch.cuda.get_device_name()` answers."""
        return next(
            (alias for alias in self.gpu.aliases if alias.startswith(("NVIDIA", "AMD", "Tesla"))), self.gpu.name
        )

    def is_on_gpu(self, tensor: torch.Tensor) -> bool:
        """True if the tensor would live on a CUDA device."""
        device = self.storages.device_of(tensor)
        return device is not None and device >= 0

    def below_cuda_layer(self, op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call an operator as if the CUDA layer were not there: for a kernel that decides not to act."""
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(CUDA_CHOICE_KEY)):
            return op(*args, **kwargs)

    def note_attention(self, call: AttentionCall, enabled: frozenset[Backend], choice: Choice) -> None:
        """Keep and count which attention backend was taken, and tell the user where it is the memory-hungry one."""
        decision = AttentionChoice(call, enabled, self.prefers_cudnn_attention, choice.backend)
        self.attention_choices.setdefault(decision)
        self.kernels[f"scaled_dot_product_attention: {choice.backend}"] += 1
        if choice.backend == "flash" and self.compute_capability[0] in (9, 10) and not self._told_of_cudnn:
            self._told_of_cudnn = True
            self.assumptions.add(
                "flash attention is assumed; on this GPU PyTorch prefers cuDNN's if it comes with a cuDNN newer than 9.15 "
                "(TORCH_CUDNN_SDPA_DEPRIORITIZED=1 turns that off)"
            )
        about_math = choice.why_math()
        if about_math is not None:
            self.assumptions.add_once(about_math)

    def context_bytes(self) -> int:
        """Device memory of the CUDA context, outside the caching allocator."""
        return cuda_context_bytes(self.gpu).bytes
