"""LSTM, GRU and RNN as CUDA runs them: one cuDNN call for all steps and layers, on weights in one flat buffer.

A `meta` tensor takes the path without cuDNN, which makes every step of every layer a handful of operators. Here the composite operators
call `_cudnn_rnn` as `_cudnn_impl` in `aten/src/ATen/native/cudnn/RNN.cpp` does. Of its memory cuDNN alone knows the reserve space and the
workspace; what is used instead is in `recurrent_sizes` and told to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vramcast.hardware import ASSUMED_MULTIPROCESSORS
from vramcast.virtual_cuda.cuda_kernels.recurrent_sizes import (
    GRU,
    LSTM,
    RELU,
    TANH,
    RecurrentLayers,
    dropout_state_bytes,
)

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

aten = torch.ops.aten
CUDNN_DTYPES = (torch.float64, torch.float32, torch.float16)
"""Others take the path without cuDNN (`cudnn_is_acceptable` in `TensorProperties.cpp`)."""
BIASED_WEIGHTS = 4
"""Tensors of each layer and direction with biases, projections aside."""
SIZES_ASSUMED = (
    "cuDNN does not publish how much its recurrent layers take: reserve space is what backward needs of each step "
    "(gates, states, inputs of inner layers), workspace the input projections of one layer"
)
NOT_CUDNN = "a recurrent layer in {dtype} runs without cuDNN: its steps are separate operators, CUDA's fused cell kernels are not followed,"


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""
    layers = _CudnnLayers(machine)
    for name, mode in (("lstm", LSTM), ("gru", GRU), ("rnn_tanh", TANH), ("rnn_relu", RELU)):
        yield f"{name}.input", layers.padded(getattr(aten, name).input, mode)
        yield f"{name}.data", layers.packed(getattr(aten, name).data, mode)
    yield "_cudnn_rnn_flatten_weight", _flatten_weight
    yield "_cudnn_rnn_backward", _backward


def autocast_kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the autocast layer: always fp16, with a new flat buffer of cast weights for each call.

    Source: `aten/src/ATen/cudnn/AutocastRNN.cpp`.
    """

    def cudnn_rnn(x: Any, weight: Any, stride0: int, buffer: Any, hx: Any, cx: Any, mode: int, *rest: Any) -> Any:
        if torch.is_autocast_enabled("cuda"):
            if weight[0].dtype != torch.float16 and weight[0].dtype != torch.float64:
                buffer, weight = _cast_and_flatten(weight, _shape(x, mode, rest[0], rest[1], rest[2], rest[6]))
            x, hx = (tensor.to(torch.float16) for tensor in (x, hx))
            cx = None if cx is None else cx.to(torch.float16)
        return aten._cudnn_rnn.default(x, weight, stride0, buffer, hx, cx, mode, *rest)

    yield "_cudnn_rnn", cudnn_rnn


def meta_kernels() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for `meta`: torch's own gives no reserve space."""
    yield "_cudnn_rnn", _forward


class _CudnnLayers:
    """The composite operators; keeps what cuDNN keeps between calls."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine
        self._dropout_states: dict[int, torch.Tensor] = {}

    def padded(self, op: Any, mode: int) -> Callable[..., Any]:
        """Kernel for the overload that takes [T, B, features] or [B, T, features]."""

        def kernel(x: Any, hidden: Any, *rest: Any) -> Any:
            if not self._acceptable(x):
                return self._machine.below_cuda_layer(op, x, hidden, *rest)
            *settings, batch_first = rest
            return self._run(mode, x, hidden, batch_first, [], *settings)

        return kernel

    def packed(self, op: Any, mode: int) -> Callable[..., Any]:
        """Kernel for the overload that takes a packed sequence [tokens, features]."""

        def kernel(x: Any, batch_sizes: Any, hidden: Any, *rest: Any) -> Any:
            sizes = self._machine.value_of(batch_sizes)
            if sizes is None or not self._acceptable(x):
                return self._machine.below_cuda_layer(op, x, batch_sizes, hidden, *rest)
            return self._run(mode, x, hidden, False, sizes.tolist(), *rest)

        return kernel

    def _acceptable(self, x: torch.Tensor) -> bool:
        if not self._machine.is_on_gpu(x) or not torch._C._get_cudnn_enabled() or x.numel() == 0:
            return False
        if x.dtype not in CUDNN_DTYPES and not torch.is_autocast_enabled("cuda"):
            self._machine.assumptions.add_with_line(NOT_CUDNN.format(dtype=str(x.dtype).removeprefix("torch.")))
            return False
        return x.dtype in CUDNN_DTYPES

    def _run(
        self,
        mode: int,
        x: torch.Tensor,
        hidden: Any,
        batch_first: bool,
        batch_sizes: list[int],
        weights: Sequence[torch.Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> Any:
        hx, cx = hidden if mode == LSTM else (hidden, None)
        hidden_size, projection = (hx if cx is None else cx).shape[2], 0
        if cx is not None and hx.shape[2] != hidden_size:
            projection = hx.shape[2]
        shape = _shape(x, mode, hidden_size, projection, num_layers, bidirectional)
        self._machine.assumptions.add_once(SIZES_ASSUMED)
        self._machine.kernels["recurrent layers: cudnn"] += 1
        stride0 = (BIASED_WEIGHTS if has_biases else 2) + (1 if projection else 0)
        state = self._dropout_state(x) if train and dropout > 0 else None
        out, hy, cy, _, _ = aten._cudnn_rnn.default(
            x, weights, stride0, _flat_buffer(weights, shape), hx.contiguous(), None if cx is None else cx.contiguous(), mode,
            hidden_size, projection, num_layers, batch_first, dropout, train, bidirectional, batch_sizes, state,
        )  # fmt: skip
        _take_workspace(out, shape)
        return (out, hy) if cx is None else (out, hy, cy)

    def _dropout_state(self, x: torch.Tensor) -> torch.Tensor:
        device = self._machine.current_device
        if device not in self._dropout_states:
            multiprocessors = self._machine.gpu.multiprocessor_count or ASSUMED_MULTIPROCESSORS
            self._dropout_states[device] = x.new_empty(dropout_state_bytes(multiprocessors), dtype=torch.uint8)
        return self._dropout_states[device]


def _shape(x: Any, mode: int, hidden: int, projection: int, num_layers: int, bidirectional: bool) -> RecurrentLayers:
    return RecurrentLayers(mode, x.shape[-1], hidden, projection, num_layers, 2 if bidirectional else 1)


def _flat_buffer(weights: Sequence[torch.Tensor], shape: RecurrentLayers) -> torch.Tensor | None:
    """The one buffer that all weights are views of (`flatten_parameters`), or None where they are apart."""
    first = weights[0]
    storage = first.untyped_storage()
    elements = shape.weight_elements()
    apart = any(weight.untyped_storage()._cdata != storage._cdata for weight in weights)
    if apart or storage.nbytes() < elements * first.element_size():
        return None
    return first.detach().as_strided((elements,), (1,), 0)


def _forward(
    x: Any, weight: Any, stride0: int, buffer: Any, hx: Any, cx: Any, mode: int, hidden: int, projection: int, num_layers: int,
    batch_first: bool, dropout: float, train: bool, bidirectional: bool, batch_sizes: Sequence[int], state: Any,
) -> Any:  # fmt: skip
    """Output [.., directions * features], hidden and cell states of the last step, reserve space, weight buffer."""
    shape = _shape(x, mode, hidden, projection, num_layers, bidirectional)
    output = x.new_empty((*x.shape[:-1], shape.output_size * shape.directions))
    if batch_first and not batch_sizes:  # cuDNN writes [T, B, features]; the result is a transposed view of it
        steps_first = (x.shape[1], x.shape[0], shape.output_size * shape.directions)
        output = x.new_empty(steps_first).transpose(0, 1)
    hy = torch.empty_like(hx)
    cy = hx.new_empty(0) if cx is None else torch.empty_like(cx)
    if buffer is None:
        buffer = x.new_empty(shape.weight_elements())
    tokens = x.numel() // x.shape[-1]
    reserve = shape.reserve_bytes(tokens, x.element_size(), dropout > 0) if train else 0
    return output, hy, cy, x.new_empty(reserve, dtype=torch.uint8), buffer


def _backward(
    x: Any, weight: Any, stride0: int, buffer: Any, hx: Any, cx: Any, output: Any, grad_output: Any, grad_hy: Any, grad_cy: Any,
    mode: int, hidden: int, projection: int, num_layers: int, batch_first: bool, dropout: float, train: bool, bidirectional: bool,
    batch_sizes: Sequence[int], state: Any, reserve: Any, mask: Sequence[bool],
) -> Any:  # fmt: skip
    """Gradients in the order cuDNN's caller allocates them; those of the weights are views of one buffer."""
    if not train:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")
    shape = _shape(x, mode, hidden, projection, num_layers, bidirectional)
    missing = [torch.zeros_like(of) for grad, of in ((grad_output, output), (grad_hy, hx)) if grad is None]
    if cx is not None and grad_cy is None:
        missing.append(torch.zeros_like(cx))
    grad_x, grad_hx = torch.empty_like(x), torch.empty_like(hx)
    grad_cx = None if cx is None else torch.empty_like(cx)
    _take_workspace(output, shape)
    if not mask[3]:
        return grad_x, grad_hx, grad_cx, [None] * len(weight)
    flat = torch.zeros_like(buffer)
    _take_workspace(output, shape)
    views = _views(flat, weight)
    if stride0 < BIASED_WEIGHTS:  # cuDNN's buffer has biases all the same, so that the rest is copied out of it
        views = [torch.empty_like(view).copy_(view) for view in views]
    return grad_x, grad_hx, grad_cx, views


def _take_workspace(output: torch.Tensor, shape: RecurrentLayers) -> None:
    """Allocate cuDNN's workspace and give it back."""
    tokens = output.numel() // output.shape[-1]
    with torch.no_grad():
        output.new_empty(shape.workspace_bytes(tokens, output.element_size()), dtype=torch.uint8)


def _views(flat: torch.Tensor, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Views of a flat buffer with the shapes of the weights, one after another."""
    found, offset = [], 0
    for weight in weights:
        found.append(flat.narrow(0, offset, weight.numel()).view(weight.shape))
        offset += weight.numel()
    return found


def _flatten_weight(
    weights: Sequence[torch.Tensor], stride0: int, input_size: int, mode: int, hidden: int, projection: int, num_layers: int,
    batch_first: bool, bidirectional: bool,
) -> torch.Tensor:  # fmt: skip
    """Copy the weights into one buffer and make them views of it; their own storages are given back."""
    shape = RecurrentLayers(mode, input_size, hidden, projection, num_layers, 2 if bidirectional else 1)
    with torch.no_grad():
        flat = weights[0].detach().new_zeros(shape.weight_elements())
        for weight, view in zip(weights, _views(flat, weights), strict=True):
            view.copy_(weight)
            weight.data = view
    return flat


def _cast_and_flatten(
    weights: Sequence[torch.Tensor], shape: RecurrentLayers
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """fp16 copies of the weights as views of one new buffer; differentiable."""
    flat = weights[0].detach().new_zeros(shape.weight_elements(), dtype=torch.float16)
    # Detached, so that writing one does not make autograd rebuild the others: in C++ they only share a storage.
    views = [view.detach() for view in _views(flat, weights)]
    return flat, [view.copy_(weight) for weight, view in zip(weights, views, strict=True)]
