"""Which backend `scaled_dot_product_attention` takes on a given GPU: a pure function of shapes, dtype and hardware.

Source: `aten/src/ATen/native/transformers/cuda/sdp_utils.cpp` (filters of each backend, in the order PyTorch tries them), as of
PyTorch 2.13: memory-efficient attention takes no grouped heads, flash takes no mask, cuDNN comes last unless preferred.
"""

from dataclasses import dataclass
from typing import Literal

Backend = Literal["flash", "efficient", "cudnn", "math"]
Capability = tuple[int, int]

FLASH_MAX_HEAD_DIM = 256


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What a call to `scaled_dot_product_attention` looks like to the filters."""

    dtype: str
    """`float32`, `float16`, `bfloat16` or another torch dtype name."""
    dimensions: int
    """Rank of the query; the fused kernels take 4."""
    query_length: int
    key_length: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    value_head_dim: int
    has_mask: bool
    mask_requires_grad: bool
    is_causal: bool
    dropout: float
    requires_grad: bool
    enable_gqa: bool
    last_strides_are_one: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend taken and, for every backend passed over, the filter that refused it."""

    backend: Backend
    refused: tuple[tuple[Backend, str], ...]

    def why_math(self) -> str | None:
        """A sentence on the memory-hungry path where nobody asked for it; None otherwise."""
        if self.backend != "math" or all(reason == "switched off" for _, reason in self.refused):
            return None
        reasons = "; ".join(f"{backend}: {reason}" for backend, reason in self.refused)
        return f"attention takes the math path, which keeps the score matrix ({reasons})"


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """A decision that was made, with all that it was made from but the GPU.

    It holds at other sizes where `choose_backend(call at those sizes, capability, enabled, prefer_cudnn).backend` is the same.
    """

    call: AttentionCall
    enabled: frozenset[Backend]
    """Backends that were switched on."""
    prefer_cudnn: bool
    backend: Backend
    """The backend taken."""


class NoBackendError(RuntimeError):
    """Every enabled backend refused the call, as PyTorch's own `No available kernel`."""


def choose_backend(
    call: AttentionCall, capability: Capability, enabled: frozenset[Backend], prefer_cudnn: bool = False
) -> Choice:
    """First enabled backend whose filters pass, in PyTorch's order.

    Raises:
        NoBackendError: none passes; with `math` enabled this cannot happen.
    """
    order: tuple[Backend, ...] = ("flash", "efficient", "math", "cudnn")
    if prefer_cudnn:
        order = ("cudnn", "flash", "efficient", "math")
    refused: list[tuple[Backend, str]] = []
    for backend in order:
        reason = (
            "switched off" if backend not in enabled else _common(call, backend) or _FILTERS[backend](call, capability)
        )
        if reason is None:
            return Choice(backend, tuple(refused))
        refused.append((backend, reason))
    reasons = "; ".join(f"{backend}: {reason}" for backend, reason in refused)
    raise NoBackendError(f"No available kernel. Aborting execution. ({reasons})")


def _common(call: AttentionCall, backend: Backend) -> str | None:
    if backend == "math":
        return None
    if call.dimensions != 4:
        return f"the query has {call.dimensions} dimensions, not 4"
    if call.query_length == 0 or call.key_length == 0:
        return "a sequence of length 0"
    if not call.last_strides_are_one:
        return "the last dimension of q, k or v is not contiguous"
    if call.num_heads != call.num_key_value_heads and not call.enable_gqa:
        return "different numbers of heads without enable_gqa"
    return None


def _half(call: AttentionCall) -> bool:
    return call.dtype in ("float16", "bfloat16")


def _flash(call: AttentionCall, capability: Capability) -> str | None:
    if capability < (8, 0):
        return "needs compute capability 8.0"
    if not _half(call):
        return f"does not take {call.dtype}"
    if call.has_mask:
        return "takes no attention mask"
    if not call.head_dim == call.value_head_dim <= FLASH_MAX_HEAD_DIM:
        return (
            f"head_dim {call.head_dim}/{call.value_head_dim} is above {FLASH_MAX_HEAD_DIM} or differs between k and v"
        )
    if call.is_causal and call.query_length != call.key_length:
        return "is_causal with query and key of different lengths"
    return _flash_consumer_limit(call, capability)


def _flash_consumer_limit(call: AttentionCall, capability: Capability) -> str | None:
    consumer = (8, 6) <= capability <= (8, 9) or (12, 0) <= capability <= (12, 1)
    too_wide = 192 < call.head_dim <= 224 or (call.head_dim > 224 and call.dropout > 0)
    if consumer and call.requires_grad and too_wide:
        return f"training with head_dim {call.head_dim} on compute capability {capability[0]}.{capability[1]}"
    return None


def _efficient(call: AttentionCall, capability: Capability) -> str | None:
    if capability < (5, 0):
        return "needs compute capability 5.0"
    if call.dtype not in ("float32", "float16") and not (call.dtype == "bfloat16" and capability >= (8, 0)):
        return f"does not take {call.dtype} on this GPU"
    if call.num_heads != call.num_key_value_heads:
        return "takes no grouped key and value heads"
    if call.has_mask and call.mask_requires_grad and call.requires_grad is False:
        return "a mask that requires grad"
    alignment = _gemm_alignment(call, capability)
    if call.head_dim % alignment or call.value_head_dim % alignment:
        return f"head_dim {call.head_dim}/{call.value_head_dim} is not a multiple of {alignment}"
    return None


def _gemm_alignment(call: AttentionCall, capability: Capability) -> int:
    """Elements the tensor cores need a head to be a multiple of (`minimum_gemm_alignment`)."""
    tensor_cores = capability >= (8, 0) or (capability >= (7, 0) and _half(call))
    alignment = 4 if capability >= (8, 0) else 1
    return max(alignment, 128 // (16 if _half(call) else 32)) if tensor_cores else alignment


def _cudnn(call: AttentionCall, capability: Capability) -> str | None:
    if capability < (8, 0):
        return "needs compute capability 8.0"
    if not _half(call):
        return f"does not take {call.dtype}"
    limit = 256 if capability[0] in (9, 10) and not call.requires_grad else 128
    if call.head_dim % 8 or call.value_head_dim % 8 or max(call.head_dim, call.value_head_dim) > limit:
        return f"head_dim {call.head_dim}/{call.value_head_dim} is not a multiple of 8 up to {limit}"
    if call.key_length == 1 or (call.query_length == 1 and call.dropout > 0):
        return "a key of length 1, or a query of length 1 with dropout"
    if call.mask_requires_grad:
        return "a mask that requires grad"
    return None


def _math(call: AttentionCall, capability: Capability) -> str | None:
    return None


_FILTERS = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn, "math": _math}
