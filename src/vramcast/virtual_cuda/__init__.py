"""Ordinary PyTorch code on a GPU that is not there.

Tensors are `meta` tensors inside; each storage carries a tag that says where it would live (`storages`). Three layers restore what
CUDA would do: a function mode rewrites devices (`function_mode`), a dispatcher layer above autograd chooses CUDA's kernels and applies
autocast (`cuda_kernels`), and a dispatch mode below autograd records every allocation (`dispatch_mode`). `patches` covers what passes
none of them, `scratch` the buffers inside kernels, `values` the small tensors whose content decides a branch. Users enter by the function
`vramcast.virtual_gpu`; the room has another name because a package and a function of one name would hide each other.
"""

from vramcast.virtual_cuda.machine import VirtualGPU

__all__ = ["VirtualGPU"]
