"""What one call does to the allocator: the measurement that every probe is made of."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch

Observation = dict[str, int]
_REASON_CHARACTERS = 120


def observe(call: Callable[[], Any]) -> Observation:
    """Bytes of one call, by the allocator's count (rounded as it rounds).

    `result_bytes`: what dies with the result, the saved tensors of its graph included. `scratch_bytes`: the peak above
    what is alive at the end. `persistent_bytes`: what stays when the result is gone, such as a library's workspace.
    """
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    after, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    del result
    torch.cuda.synchronize()
    left = torch.cuda.memory_allocated()
    return {"persistent_bytes": left - before, "result_bytes": after - left, "scratch_bytes": peak - after}


def observe_gradient(output: torch.Tensor, inputs: Iterable[torch.Tensor]) -> Observation:
    """`observe` of a backward pass, whose result is the gradients of `inputs`; the graph is kept."""
    upstream = torch.ones_like(output)
    wanted = list(inputs)
    return observe(lambda: torch.autograd.grad(output, wanted, upstream, retain_graph=True))


def observe_warm(call: Callable[[], Any]) -> Observation:
    """`observe` of a second call: kernels are loaded and workspaces are there."""
    call()
    return observe(call)


def observe_both(forward: Callable[[], torch.Tensor], inputs: Iterable[torch.Tensor]) -> dict[str, Observation]:
    """`observe_warm` of a forward call and of its backward."""
    wanted = list(inputs)
    seen = {"forward": observe_warm(forward)}
    output = forward()
    upstream = torch.ones_like(output)
    seen["backward"] = observe_warm(lambda: torch.autograd.grad(output, wanted, upstream, retain_graph=True))
    return seen


def unless_refused(measured: Callable[[], Any]) -> Any:
    """What is measured, or `refused` with the reason where PyTorch does not take the kernel that is asked for."""
    try:
        return measured()
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # no refusal: after a CUDA error nothing can be measured in this process
    except RuntimeError as error:
        return {"refused": str(error).splitlines()[0][:_REASON_CHARACTERS]}


def leaf(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A random tensor on the GPU that requires a gradient."""
    return torch.randn(*shape, dtype=dtype, device="cuda", requires_grad=True)
