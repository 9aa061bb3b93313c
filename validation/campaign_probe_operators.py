"""Single operators: buffers inside their kernels that no trace can see, and what they save for backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from validation.campaign_observe import leaf, observe, observe_both, observe_warm

_TOKENS, _HIDDEN, _VOCAB = 4096, 768, 50257


def scratch_operators(**_: Any) -> dict[str, Any]:
    """Forward and backward of operators whose kernels are known, or suspected, to take buffers of their own."""
    seen: dict[str, Any] = {}
    for tokens in (1024, 3072, 3073, 8192, 16384):
        seen[f"embedding-N{tokens}"] = _embedding(tokens)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        seen |= {f"{key}-{name}": value for key, value in _normalizations(dtype).items()}
        seen |= {f"{key}-{name}": value for key, value in _losses(dtype).items()}
    seen |= _sorting()
    seen |= _foreach()
    return seen


def _embedding(tokens: int) -> Any:
    table = leaf(_VOCAB, _HIDDEN, dtype=torch.float32)
    ids = torch.randint(_VOCAB, (1, tokens), device="cuda")
    return observe_both(lambda: F.embedding(ids, table), (table,))


def _normalizations(dtype: torch.dtype) -> dict[str, Any]:
    hidden, weight, bias = leaf(_TOKENS, _HIDDEN, dtype=dtype), leaf(_HIDDEN, dtype=dtype), leaf(_HIDDEN, dtype=dtype)
    return {
        "layer_norm": observe_both(lambda: F.layer_norm(hidden, (_HIDDEN,), weight, bias), (hidden, weight, bias)),
        "rms_norm": observe_both(lambda: F.rms_norm(hidden, (_HIDDEN,), weight), (hidden, weight)),
        "column_sum": observe_warm(lambda: hidden.detach().sum(0)),
    }


def _losses(dtype: torch.dtype) -> dict[str, Any]:
    logits = leaf(_TOKENS, 32000, dtype=dtype)
    labels = torch.randint(32000, (_TOKENS,), device="cuda")
    logged = torch.log_softmax(logits.detach(), -1).requires_grad_()
    return {
        "cross_entropy": observe_both(lambda: F.cross_entropy(logits, labels), (logits,)),
        "cross_entropy_in_fp32": observe_both(lambda: F.cross_entropy(logits.float(), labels), (logits,)),
        "nll_loss": observe_both(lambda: F.nll_loss(logged, labels), (logged,)),
        "softmax": observe_both(lambda: torch.softmax(logits, -1), (logits,)),
    }


def _sorting() -> dict[str, Any]:
    flat = torch.randn(1 << 20, device="cuda")
    rows = torch.randn(8, _VOCAB, device="cuda")
    ids = torch.randint(_VOCAB, (1 << 20,), device="cuda")
    calls: dict[str, Callable[[], Any]] = {
        "sort-flat": lambda: flat.sort(),
        "sort-rows": lambda: rows.sort(-1),
        "sort-integers": lambda: ids.sort(),
        "topk-rows": lambda: rows.topk(50),
        "argmax-rows": lambda: rows.argmax(-1),
        "cumsum-flat": lambda: flat.cumsum(0),
        "cumsum-rows": lambda: rows.cumsum(-1),
        "multinomial": lambda: torch.multinomial(rows.softmax(-1), 1),
        "sum-flat": lambda: flat.sum(),
        "nonzero": lambda: (ids % 2).nonzero(),
        "cat": lambda: torch.cat([rows, rows], 0),
        "index_add": lambda: torch.zeros(_VOCAB, device="cuda").index_add_(0, ids, flat),
    }
    return {name: observe_warm(call) for name, call in calls.items()}


def _foreach() -> dict[str, Any]:
    parameters = [leaf(768, 768, dtype=torch.float32) for _ in range(12)] + [leaf(_VOCAB, 768, dtype=torch.float32)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    gradients = [parameter.grad for parameter in parameters]
    return {
        "foreach_norm": observe_warm(lambda: torch._foreach_norm(gradients)),
        "clip_grad_norm": observe_warm(lambda: torch.nn.utils.clip_grad_norm_(parameters, 1.0)),
        "foreach_sqrt": observe_warm(lambda: torch._foreach_sqrt(gradients)),
    }


def saved(**_: Any) -> dict[str, Any]:
    """`result_bytes` of one forward call: its output and what its graph keeps; then the weight cache of autocast."""
    seen: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        hidden, weight = leaf(_TOKENS, _HIDDEN, dtype=dtype), leaf(_HIDDEN, dtype=dtype)
        gate = leaf(_TOKENS, _HIDDEN, dtype=dtype)
        calls: dict[str, Callable[[], Any]] = {
            "rms_norm": lambda x=hidden, w=weight: F.rms_norm(x, (_HIDDEN,), w),
            "layer_norm": lambda x=hidden, w=weight: F.layer_norm(x, (_HIDDEN,), w),
            "dropout": lambda x=hidden: F.dropout(x, 0.1),
            "dropout_of_zero": lambda x=hidden: F.dropout(x, 0.0),
            "gelu": lambda x=hidden: F.gelu(x),
            "gelu_tanh": lambda x=hidden: F.gelu(x, approximate="tanh"),
            "silu_times": lambda x=hidden, y=gate: F.silu(x) * y,
            "softmax_in_fp32": lambda x=hidden: torch.softmax(x, -1, dtype=torch.float32),
        }
        name = str(dtype).removeprefix("torch.")
        seen |= {f"{key}-{name}": observe_warm(call) for key, call in calls.items()}
    mixed_weight = leaf(_HIDDEN, dtype=torch.float32)
    hidden = leaf(_TOKENS, _HIDDEN)
    seen["rms_norm-bfloat16-weight-float32"] = observe_warm(
        lambda: F.rms_norm(hidden.float(), (_HIDDEN,), mixed_weight)
    )
    return seen | _autocast_cache()


def _autocast_cache() -> dict[str, Any]:
    hidden = torch.randn(_TOKENS, _HIDDEN, device="cuda")
    weight, bias = leaf(3 * _HIDDEN, _HIDDEN, dtype=torch.float32), leaf(3 * _HIDDEN, dtype=torch.float32)
    F.linear(hidden, weight, bias)
    seen: dict[str, Any] = {}
    with torch.autocast("cuda", torch.bfloat16):
        F.linear(hidden[:8], weight.detach(), bias.detach())
        seen["autocast-first_linear"] = observe(lambda: F.linear(hidden, weight, bias))
        seen["autocast-second_linear"] = observe(lambda: F.linear(hidden, weight, bias))
    seen["autocast-after_the_region"] = observe(lambda: None)
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        seen["autocast-no_grad_first_linear"] = observe(lambda: F.linear(hidden, weight, bias))
        seen["autocast-no_grad_second_linear"] = observe(lambda: F.linear(hidden, weight, bias))
    return seen
