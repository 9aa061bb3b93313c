"""The plain PyTorch baseline of the Cut Cross-Entropy benchmark: Gemma-2's softcapped output layer with cross entropy.

The published figure is an increment: the allocated peak of one call, from a state in which the inputs exist,
gradients do not, and an earlier call has left the cuBLAS workspaces.

Source: github.com/apple/ml-cross-entropy, benchmark/__main__.py (the loss) and benchmark/memory.py (the measurement).
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from validation.workloads.result import WorkloadResult
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

GPU = "a100-80gb"
TORCH_VERSION = "2.4.1"
SOFTCAP = 30.0
"""`final_logit_softcapping` of Gemma 2's configuration."""


def softcapped_loss(hidden: Tensor, classifier: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of softcapped logits [N, V]; rebinding `logits` frees the uncapped ones, as there."""
    logits = hidden @ classifier.T
    logits = torch.tanh(logits / SOFTCAP) * SOFTCAP
    return F.cross_entropy(logits.float(), targets)


def forecast_increment(row: dict[str, Any], *, backward: bool) -> WorkloadResult:
    """Peak of a second call less what was allocated before it."""
    model, tokens = row["model"], row["seq_len"]
    with VirtualGPU(find_gpu(GPU), torch_version=TORCH_VERSION, record=False) as gpu:
        hidden, classifier = (
            torch.randn(rows, model["d_model"], dtype=torch.bfloat16, device="cuda", requires_grad=True)
            for rows in (tokens, model["vocab"])
        )
        targets = torch.randint(model["vocab"], (tokens,), device="cuda")
        increment = 0
        for _ in range(2):
            hidden.grad = classifier.grad = None
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            loss = softcapped_loss(hidden, classifier, targets)
            if backward:
                loss.backward()
            increment = torch.cuda.max_memory_allocated() - before
            del loss
        reserved = gpu.peak_reserved_bytes
    return WorkloadResult(increment, reserved)


WORKLOADS = {
    "cce-003": partial(forecast_increment, backward=False),
    "cce-006": partial(forecast_increment, backward=True),
}
