"""GPUs, what CUDA, its context and NCCL take of them, and library workspaces: data files and pure functions, no torch."""

from vramcast.hardware.catalog import all_gpus, custom_gpu, find_gpu
from vramcast.hardware.context import ContextEstimate, allocator_capacity_bytes, cuda_context_bytes
from vramcast.hardware.cublas_workspace import (
    CublasWorkspace,
    cublas_workspace_bytes,
    parse_workspace_config,
    torch_release,
)
from vramcast.hardware.gpu import ASSUMED_MULTIPROCESSORS, GPU, DenseTflops
from vramcast.hardware.nccl import NcclEstimate, nccl_bytes

__all__ = [
    "ASSUMED_MULTIPROCESSORS",
    "GPU",
    "ContextEstimate",
    "CublasWorkspace",
    "DenseTflops",
    "NcclEstimate",
    "all_gpus",
    "allocator_capacity_bytes",
    "cublas_workspace_bytes",
    "cuda_context_bytes",
    "custom_gpu",
    "find_gpu",
    "nccl_bytes",
    "parse_workspace_config",
    "torch_release",
]
