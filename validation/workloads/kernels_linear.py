"""Three forwards of one `nn.Linear(10000, 50000)`, recorded from the first allocation on, with and without autograd.

Source: github.com/shreyansh26/MLSys-Experiments at b63fb8c, model_memory_usage/profile_grad.py and profile_no_grad.py.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from validation.workloads.result import WorkloadResult, result_of
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

INPUTS, OUTPUTS = 10_000, 50_000


def forecast_linear(row: dict[str, Any], *, gradients: bool) -> WorkloadResult:
    """Input and output of one forward live until the next one's have taken their names."""
    with VirtualGPU(find_gpu("h100-sxm"), torch_version="2.4.0", record=False) as machine:
        layer = nn.Linear(INPUTS, OUTPUTS, device="cuda")
        with torch.set_grad_enabled(gradients):
            for _ in range(3):
                x = torch.randn(row["batch_size"], INPUTS, device="cuda")
                y = layer(x)
        del y
        return result_of(
            machine,
            "Card and release are not named; the snapshot holds a workspace of 32 MiB, Hopper's, and one of 1 MiB, PyTorch's before 2.7.",
        )


WORKLOADS = {
    f"mls-profile_{name}{figure}": partial(forecast_linear, gradients=gradients)
    for name, gradients in (("grad", True), ("no_grad", False))
    for figure in "ar"
}
