"""Functional collectives, which DTensor and tensor parallelism call: their results are waited for at once.

CUDA waits at the first use of a result, and until then holds the input of a gather or a reduce-scatter as well. Tensor parallel code uses
a result right away, so nothing is allocated in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed import _functional_collectives

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the wrapping of results in a tensor that waits on use: inside, it would name a CUDA device, which autograd then looks for."""

    def as_it_is(result: torch.Tensor) -> torch.Tensor:
        return result

    patches.set(_functional_collectives, "_maybe_wrap_tensor", as_it_is)
