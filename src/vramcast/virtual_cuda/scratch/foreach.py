"""The multi-tensor (foreach) kernels."""

from typing import Any

from vramcast.virtual_cuda.scratch.registry import takes_scratch


@takes_scratch("_foreach_norm", "foreach_norm")
def _foreach_norm(args: Any) -> dict[str, int | tuple[int, ...]]:
    tensors = args[0]
    return {
        "num_tensors": len(tensors),
        "tensor_elements": tuple(dict.fromkeys(tensor.numel() for tensor in tensors)) or (0,),
    }
