"""Sees every aten operator, forward and backward: tags its results, records their memory, carries known values.

The mode sits below autograd, so it also sees what the backward engine runs. Results of an operator live on the device of its
inputs; an operator that mixes CUDA and host tensors raises PyTorch's own error, as on a GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast.virtual_cuda import dynamic_shapes
from vramcast.virtual_cuda.absorbing_values import absorbing_result
from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.gradient_sums import GradientSums
from vramcast.virtual_cuda.machine_lock import MACHINE_LOCK
from vramcast.virtual_cuda.refusals import library_advice, remember_refusal, unfollowable
from vramcast.virtual_cuda.scratch import results_before_scratch
from vramcast.virtual_cuda.storages import HOST, TRUE_META, DisableTorchFunction, raw_is_meta
from vramcast.virtual_cuda.values import known_value, remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

aten = torch.ops.aten
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NO_TORCH_DISPATCH = torch._C._disabled_torch_dispatch_impl

RANDOM_OR_UNINITIALISED = frozenset(
    "bernoulli bernoulli_ normal normal_ uniform_ log_normal_ cauchy_ geometric_ exponential_ random_ rand rand_like randn "
    "randn_like randint randint_like randperm multinomial native_dropout empty empty_like empty_strided new_empty "
    "new_empty_strided".split()
)
"""Operators whose result must not be taken as known: another run gives other values."""

_VALUE_FROM_SHAPE = frozenset("zeros_like ones_like full_like new_zeros new_ones new_full".split())
_OVERWRITING = frozenset("fill_ zero_ copy_".split())
"""In-place operators that leave nothing of the old content."""
_DEVICE_CHECKED = frozenset(
    "mm addmm bmm baddbmm embedding cat native_layer_norm convolution nll_loss_forward "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention".split()
)
"""Operators that refuse mixed devices, besides all pointwise ones."""
_MOVES = frozenset("copy_ _to_copy".split())
_HOST_OUTPUTS = {"_scaled_dot_product_efficient_attention": (2, 3), "_efficient_attention_forward": (2, 3)}
"""Results that CUDA leaves on the CPU: the random seed and offset, scalars, outside graph capture (`attention.cu`)."""
_HOST_ARGUMENTS = _MOVES | {"_pack_padded_sequence", "_pack_padded_sequence_backward"}
"""Operators that read a real CPU tensor among their arguments, as on a GPU."""
_OWN_NAMESPACES = frozenset(
    (
        "aten",
        "prims",
        "prim",
        "_c10d_functional",
        "_c10d_functional_autograd",
        "c10d",
        "c10d_functional",
        "fsdp",
        "quantized",
        "inductor",
        "rngprims",
        "torch_attn",
        "profiler",
        "_dtensor",
    )
)
_LOSS_SCALE = frozenset(("_amp_foreach_non_finite_check_and_unscale_", "_amp_update_scale_"))


def flatten_tensors(values: Any, found: list[torch.Tensor]) -> list[torch.Tensor]:
    """Append the tensors in nested lists and tuples to `found`, in order; cheaper than a pytree for operator arguments."""
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            flatten_tensors(value, found)
    return found


def map_tensors(value: Any, function: Any) -> Any:
    """Copy of nested lists and tuples with `function` applied to each tensor."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, function) for item in value)
    return value


class RecordingDispatchMode(TorchDispatchMode):
    """Runs every operator on `meta` and tells the machine what it allocated."""

    is_on = False
    """A thread may outlive the virtual GPU with the mode still on; then it only passes on."""

    def __init__(self, machine: VirtualGPU) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine = machine
        self.gradient_sums = GradientSums()
        self._operators: dict[Any, tuple[str, bool]] = {}
        """Name of each operator seen, and whether it refuses mixed devices."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Dynamo would wrap the handler below on every call; this code is never compiled.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.is_on:
            return func(*args, **kwargs)
        for kind in types:
            if kind is FakeTensor:
                return func(*args, **kwargs)
            if kind not in _PLAIN and getattr(kind, "__torch_dispatch__", _NO_TORCH_DISPATCH) is not _NO_TORCH_DISPATCH:
                # A subclass such as DTensor must unwrap itself first; its inner operators come back here.
                return NotImplemented
        if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and _is_composite(func):
            # Inference mode skips the keys at which composite operators decompose.
            with self, DisableTorchFunction():
                return func.decompose(*args, **kwargs)
        with MACHINE_LOCK, DisableTorchFunction():
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = flatten_tensors(args, [])
        if kwargs:
            flatten_tensors(kwargs.values(), tensors)
        virtual = [tensor for tensor in tensors if raw_is_meta(tensor)]
        named = getattr(kwargs.get("device"), "type", "")
        if named == "cuda" or (named == "cpu" and virtual):
            return self._run_on_named_device(func, args, kwargs)
        if not virtual and named != "meta":
            return func(*args, **kwargs)
        known = self._operators.get(func)
        if known is None:
            known = self._operators[func] = _name_and_check(func)
        name, is_device_checked = known
        machine = self.machine
        records = [machine.storages.of_storage(tensor.untyped_storage()) for tensor in virtual]
        device = self._result_device(records)
        if device is None:
            return func(*args, **kwargs)
        if name in ("_local_scalar_dense", "item"):
            return machine.read_scalar(args[0])
        if name == "is_nonzero":  # composite, and so seen only within a DTensor's own dispatch
            return bool(machine.read_scalar(args[0]))
        if name == "wait_tensor":  # its kernel for `meta` makes a new tensor, the others give back their argument
            return args[0]
        if len(virtual) != len(tensors) or (device >= 0 and is_device_checked):
            if name == "copy_" and not raw_is_meta(args[0]):
                known_source = machine.value_of(args[1])
                if known_source is not None:
                    return func(args[0], known_source)
                machine.assumptions.add_with_line(
                    "a virtual value was copied into a real CPU tensor, which keeps its old content,"
                )
                return args[0]
            if device >= 0 and is_device_checked:
                _check_devices(name, device, tensors, virtual, records)
            args = args if name in _HOST_ARGUMENTS else map_tensors(args, machine.virtual_on_host)
        if kwargs.get("generator") is not None:
            kwargs = {**kwargs, "generator": None}
        if name in _LOSS_SCALE:
            # The scaler's own kernels: in place, and no overflow is assumed, so the scale stays.
            machine.end_operator(func, name, device, args, kwargs, None)
            return args[0] if name == "_amp_update_scale_" else None
        if func is aten.add.Tensor and self.gradient_sums.is_in_place(args, kwargs):
            func, name = aten.add_.Tensor, "add_"
        value = self._known_result(func, name, args, kwargs, tensors)
        out = self._execute(func, name, args, kwargs, value)
        self._finish(func, name, device, args, kwargs, out, value)
        machine.end_operator(func, name, device, args, kwargs, out)
        return out

    def _run_on_named_device(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operator called where the function mode is off, as within a DTensor's own dispatch, names the device itself."""
        machine = self.machine
        before, machine.forced_device = machine.forced_device, parse_device(kwargs["device"], machine.current_device)
        try:
            return self._run(func, args, {**kwargs, "device": torch.device("meta")})
        finally:
            machine.forced_device = before

    def _result_device(self, records: list[Any]) -> int | None:
        """Tag of the results: forced by a move, else the highest of the inputs, else the device named in the call, else the current GPU."""
        machine = self.machine
        if machine.forced_device is not None:
            return machine.forced_device
        known: list[int] = [record.device for record in records if record is not None]
        if known:
            return max(known)
        if machine.factory_device == TRUE_META or (records and machine.factory_device is None):
            return None
        # Nobody in Python named a device: C++ made it (zeros for a gradient that never came, a scalar for a mask).
        return machine.current_device if machine.factory_device is None else machine.factory_device

    def _known_result(
        self, func: Any, name: str, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]
    ) -> Any:
        """Result of the operator on the real copies, or None where some input is unknown or large."""
        if name in RANDOM_OR_UNINITIALISED:
            return None
        if name.startswith("_foreach") and any(tensor.numel() != 1 for tensor in tensors):
            return None  # lists of weights; only step counters are worth following
        if any(tensor.numel() > self.machine.max_known_elements for tensor in tensors):
            return None
        if not tensors and _requested_elements(args) > self.machine.max_known_elements:
            return None
        from_shape = name in _VALUE_FROM_SHAPE
        copies: list[torch.Tensor] = []

        def copy_of(tensor: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor | None = tensor
            if raw_is_meta(tensor):
                record = self.machine.storages.of_storage(tensor.untyped_storage())
                value = known_value(tensor, record)
                overwritten = name in _OVERWRITING and tensor is args[0]
                if value is None and (from_shape or overwritten):
                    value = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if overwritten and record is not None:
                        record.forget_values()  # those of its aliases
            if value is None:
                raise LookupError
            copies.append(value)
            return value

        try:
            real_args = map_tensors(args, copy_of)
            real_kwargs = {key: map_tensors(value, copy_of) for key, value in kwargs.items()}
        except LookupError:
            return absorbing_result(func, name, args, self.machine.value_of)
        if real_kwargs.get("device") is not None:
            real_kwargs["device"] = torch.device("cpu")
        try:
            result = func(*real_args, **real_kwargs)
            return () if result is None else result  # a list that was written in place, copies and all
        except (RuntimeError, NotImplementedError):
            # Not an error of the user's code: the CPU lacks this kernel (fp8, some half types). The value is simply not known.
            return None

    def _execute(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], value: Any) -> Any:
        if dynamic_shapes.is_dynamic(name, args):
            return dynamic_shapes.result(func, name, args, kwargs, value, self.machine.assumptions)
        if func.namespace in _OWN_NAMESPACES:
            return self._execute_own(func, args, kwargs)
        return self._execute_custom(func, args, kwargs)

    def _execute_own(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operator of torch; its error stays torch's own, and that a card has what is missing here is remembered."""
        try:
            return func(*args, **kwargs)
        except NotImplementedError as error:
            if "meta" in str(error).lower():
                remember_refusal(f"torch's operator {func} has no rule for tensors without data")
            raise

    def _execute_custom(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operator that is not torch's: it can be followed if its library says what comes out of it."""
        try:
            out = func(*args, **kwargs)
        except NotImplementedError as error:
            advice = (
                library_advice(func.namespace)
                or "register a fake kernel for it (torch.library.register_fake), or do without it."
            )
            raise unfollowable(f"{func} has no rule for tensors without data: {advice}") from error
        self.machine.assumptions.add_once(
            f"of the operator {func} only the results are counted, no memory inside its kernel"
        )
        return out

    def _finish(
        self, func: Any, name: str, device: int, args: Any, kwargs: dict[str, Any], out: Any, value: Any
    ) -> None:
        machine = self.machine
        if value is None and func._schema.is_mutable and name != "set_" and name not in machine.VALUE_PRESERVING:
            for tensor in _written(func, args, kwargs):
                record = machine.storages.of_storage(tensor.untyped_storage()) if raw_is_meta(tensor) else None
                if record is not None:
                    record.forget_values()
        outputs = flatten_tensors(out if isinstance(out, (list, tuple)) else (out,), [])
        self._place_results(name, device, args, outputs)
        if value is not None:
            values = flatten_tensors(value if isinstance(value, (list, tuple)) else (value,), [])
            for tensor, known in zip(outputs, values, strict=False):
                if raw_is_meta(tensor) and known.shape == tensor.shape and known.numel() <= machine.max_known_elements:
                    remember_value(tensor, machine.storages.of_storage(tensor.untyped_storage()), known)

    def _place_results(self, name: str, device: int, args: Any, outputs: list[torch.Tensor]) -> None:
        """Allocate the results and what the kernel takes besides, in the kernel's own order."""
        machine, on_host = self.machine, _HOST_OUTPUTS.get(name, ())
        placed = [
            (tensor, HOST if position in on_host else device)
            for position, tensor in enumerate(outputs)
            if raw_is_meta(tensor)
        ]
        before_scratch = results_before_scratch(name) if device >= 0 else None
        for tensor, where in placed[:before_scratch]:
            machine.device_memory.on_result(tensor, where, name)
        if before_scratch is not None:
            with machine.library.scratch(name, device, args):
                for tensor, where in placed[before_scratch:]:
                    machine.device_memory.on_result(tensor, where, name)


def _is_composite(func: Any) -> bool:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(has_kernel(func.name(), "CompositeImplicitAutograd")) and not has_kernel(func.name(), "Meta")


def _name_and_check(func: Any) -> tuple[str, bool]:
    name = func._schema.name.rpartition("::")[2]
    pointwise = torch.Tag.pointwise in func.tags and name not in _MOVES and not name.startswith("_foreach")
    return name, pointwise or name in _DEVICE_CHECKED


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Tensors that an operator writes in place, `out=` among them."""
    written: list[torch.Tensor] = []
    for position, declared in enumerate(func._schema.arguments):
        if declared.alias_info is not None and declared.alias_info.is_write:
            argument = args[position] if position < len(args) else kwargs.get(declared.name)
            flatten_tensors([argument], written)
    return written


def _requested_elements(args: Any) -> int:
    """Elements a factory call asks for: the product of its first list of sizes, or its largest number (arange)."""
    for argument in args:
        if isinstance(argument, (list, tuple)) and argument and all(isinstance(size, int) for size in argument):
            elements = 1
            for size in argument:
                elements *= size
            return elements
    numbers = [abs(argument) for argument in args if isinstance(argument, (int, float)) and math.isfinite(argument)]
    return int(max(numbers, default=1))


def _check_devices(name: str, device: int, tensors: list[Any], virtual: list[Any], records: list[Any]) -> None:
    """Raise PyTorch's own error where CUDA and CPU tensors meet; zero-dimensional CPU tensors are allowed, as on a GPU."""
    real = any(not raw_is_meta(tensor) and tensor.dim() > 0 for tensor in tensors)
    on_host = any(
        record is not None and record.device == HOST and tensor.dim() > 0
        for tensor, record in zip(virtual, records, strict=True)
    )
    if real or on_host:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:{device} and cpu! "
            f"(when checking arguments for aten::{name})"
        )
