"""`scaled_dot_product_attention` as CUDA runs it: the backend is chosen for the GPU, then the fused aten kernel is called.

A `meta` tensor silently takes the math path, which keeps the whole score matrix. The steps around the kernel (padding the head for
flash, turning a bool mask into an additive one, aligning it) are those of `scaled_dot_product_attention` in
`aten/src/ATen/native/transformers/attention.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from vramcast.kernels.sdpa_choice import AttentionCall, Backend, choose_backend

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

aten = torch.ops.aten
FLASH_HEAD_DIM_MULTIPLE = 8
EFFICIENT_MASK_ALIGNMENT = 16


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        if not machine.is_on_gpu(query):
            return machine.below_cuda_layer(
                aten.scaled_dot_product_attention.default,
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        call = _describe(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
        enabled = _enabled_backends()
        choice = choose_backend(call, machine.compute_capability, enabled, machine.prefers_cudnn_attention)
        machine.note_attention(call, enabled, choice)
        run = {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn, "math": _math}[choice.backend]
        mask = _additive_mask(attn_mask, query.dtype)
        return run(query, key, value, mask, dropout_p, is_causal, scale, enable_gqa)

    yield "scaled_dot_product_attention", attention


def _describe(q: Any, k: Any, v: Any, mask: Any, dropout: float, is_causal: bool, enable_gqa: bool) -> AttentionCall:
    tensors = (q, k, v)
    heads = (q.shape[1], k.shape[1]) if q.dim() == 4 else (1, 1)
    return AttentionCall(
        dtype=str(q.dtype).removeprefix("torch."),
        dimensions=q.dim(),
        query_length=q.shape[-2],
        key_length=k.shape[-2],
        num_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=q.shape[-1],
        value_head_dim=v.shape[-1],
        has_mask=mask is not None,
        mask_requires_grad=mask is not None and mask.requires_grad,
        is_causal=is_causal,
        dropout=dropout,
        requires_grad=torch.is_grad_enabled() and any(t.requires_grad for t in tensors),
        enable_gqa=enable_gqa,
        last_strides_are_one=all(t.stride(-1) == 1 for t in tensors),
    )


def _enabled_backends() -> frozenset[Backend]:
    flags = torch.backends.cuda
    states: tuple[tuple[Backend, bool], ...] = (
        ("flash", flags.flash_sdp_enabled()),
        ("efficient", flags.mem_efficient_sdp_enabled()),
        ("math", flags.math_sdp_enabled()),
        ("cudnn", flags.cudnn_sdp_enabled()),
    )
    return frozenset(backend for backend, on in states if on)


def _additive_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """A bool mask becomes 0 where allowed and -inf elsewhere: a new tensor of the mask's own shape in the query's dtype."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zero = torch.scalar_tensor(0.0, dtype=dtype, device=mask.device)
    return torch.where(mask, zero, torch.scalar_tensor(float("-inf"), dtype=dtype, device=mask.device))


def _flash(
    q: Any, k: Any, v: Any, mask: Any, dropout: float, is_causal: bool, scale: float | None, enable_gqa: bool
) -> Any:
    head_dim = q.shape[-1]
    padding = -head_dim % FLASH_HEAD_DIM_MULTIPLE
    if padding:
        q, k, v = (F.pad(tensor, (0, padding)) for tensor in (q, k, v))
        scale = scale if scale is not None else head_dim**-0.5
    out = aten._scaled_dot_product_flash_attention.default(q, k, v, dropout, is_causal, False, scale=scale)[0]
    return out[..., :head_dim] if padding else out


def _efficient(
    q: Any, k: Any, v: Any, mask: Any, dropout: float, is_causal: bool, scale: float | None, enable_gqa: bool
) -> Any:
    if mask is not None:
        mask = _aligned_mask(mask).expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    keeps_logsumexp = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v))
    return aten._scaled_dot_product_efficient_attention.default(
        q, k, v, mask, keeps_logsumexp, dropout, is_causal, scale=scale
    )[0]


def _aligned_mask(mask: torch.Tensor) -> torch.Tensor:
    """The kernel reads the mask in vectors of 16: rows of another length are copied into padded ones."""
    aligned = (
        all(mask.stride(i) % EFFICIENT_MASK_ALIGNMENT == 0 for i in range(mask.dim() - 1)) and mask.stride(-1) == 1
    )
    if aligned:
        return mask
    columns = mask.shape[-1]
    return F.pad(mask, (0, EFFICIENT_MASK_ALIGNMENT - columns % EFFICIENT_MASK_ALIGNMENT))[..., :columns]


def _cudnn(
    q: Any, k: Any, v: Any, mask: Any, dropout: float, is_causal: bool, scale: float | None, enable_gqa: bool
) -> Any:
    keeps_logsumexp = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v))
    if mask is not None:
        mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    return aten._scaled_dot_product_cudnn_attention.default(
        q, k, v, mask, keeps_logsumexp, dropout, is_causal, False, scale=scale
    )[0]


def _math(
    q: Any, k: Any, v: Any, mask: Any, dropout: float, is_causal: bool, scale: float | None, enable_gqa: bool
) -> Any:
    return aten._scaled_dot_product_attention_math.default(
        q, k, v, mask, dropout, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]
