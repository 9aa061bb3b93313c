"""`flex_attention` as its compiled kernel: output and log-sum-exp, no score matrix.

It is written for `torch.compile`, and run eagerly it would make every score. The kernel is followed, not the fallback, because nobody
trains with that one. Backward takes what inductor's does: the row sums of grad_out * out in fp32, and the three gradients.

Source: `torch/_higher_order_ops/flex_attention.py`, `torch/_inductor/kernel/flex/flex_attention.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.attention.flex_attention as flex

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

ASSUMPTION = "flex_attention is taken as its compiled kernel: output and log-sum-exp, no score matrix"


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `flex_attention`; on real CPU tensors it stays what it is."""
    original = flex.flex_attention

    def flex_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        score_mod: Any = None,
        block_mask: Any = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        kernel_options: Any = None,
        **settings: Any,
    ) -> Any:
        if not machine.is_on_gpu(query):
            call = (score_mod, block_mask, scale, enable_gqa, return_lse, kernel_options)
            return original(query, key, value, *call, **settings)
        _check_shapes(query, key, value, enable_gqa)
        machine.assumptions.add_once(ASSUMPTION)
        machine.kernels["flex_attention: compiled"] += 1
        out, logsumexp = _FlexAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
        asked = settings.get("return_aux")
        if asked is not None:
            scores = logsumexp if asked.max_scores else None
            return out, flex.AuxOutput(lse=logsumexp if asked.lse else None, max_scores=scores)
        return (out, logsumexp) if return_lse else out

    patches.set(flex, "flex_attention", flex_attention)
    patches.reach_importers(original, flex_attention)


def _check_shapes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, enable_gqa: bool) -> None:
    if not query.dim() == key.dim() == value.dim() == 4:
        raise NotImplementedError("NYI: query, key, and value must be 4D tensors")
    if query.shape[1] != key.shape[1] and not enable_gqa:
        raise ValueError(
            f"Expect query and key/value to have the same number of heads but got Hq={query.shape[1]} and Hkv={key.shape[1]}. "
            "Try setting enable_gqa=True for GQA."
        )


class _FlexAttention(torch.autograd.Function):
    """Query [B, H, T, D], key [B, K, S, D], value [B, K, S, E] -> output [B, H, T, E] and fp32 log-sum-exp [B, H, T]."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        logsumexp = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, logsumexp)
        return out, logsumexp

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, out, logsumexp = ctx.saved_tensors
        delta = torch.empty_like(logsumexp)
        grads = [torch.empty_like(tensor) for tensor in (query, key, value)]
        del delta, out
        return tuple(grads)
