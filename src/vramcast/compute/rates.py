"""How fast a GPU can be at the very most: the data sheet's rate for what an operator computes in."""

from typing import NamedTuple

from vramcast.errors import InputError
from vramcast.hardware import GPU
from vramcast.job import Precision
from vramcast.timeline import Operator

_RATE_NAMES = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
    "int8": "int8",
}
_COMPUTE_DTYPES: dict[Precision, str] = {
    "fp32": "float32",
    "amp-bf16": "bfloat16",
    "bf16": "bfloat16",
    "amp-fp16": "float16",
    "fp16": "float16",
}
TF32_PRODUCTS_PER_FP32 = 3


class PeakRate(NamedTuple):
    """A dense peak rate and the name it has in the hardware file."""

    name: str
    """fp32, tf32, bf16, fp16, fp8 or int8."""
    flops_per_second: float


def matmul_peak(gpu: GPU, dtype: str, *, allow_tf32: bool = False) -> PeakRate:
    """Dense peak of matrix products in a torch dtype such as `bfloat16`.

    fp32 takes the plain fp32 rate unless TF32 is allowed, as PyTorch does by default (`float32_matmul_precision` is `highest`). A
    half-precision dtype without a faster path on this card is computed at its fp32 rate.

    Raises:
        InputError: a dtype without a rate, or a GPU whose rates are unknown.
    """
    if dtype not in _RATE_NAMES:
        raise InputError("dtype", dtype, f"no peak rate is known for it; known: {', '.join(_RATE_NAMES)}")
    _require_rates(gpu)
    name = _RATE_NAMES[dtype]
    if name == "fp32" and allow_tf32 and gpu.dense_tflops.tf32 is not None:
        name = "tf32"
    if name in ("bf16", "fp16") and getattr(gpu.dense_tflops, name) is None:
        name = "fp32"
    return PeakRate(name, float(gpu.dense_flops_per_second(name)))


def job_peak(gpu: GPU, precision: Precision, *, allow_tf32: bool = False) -> PeakRate:
    """The rate that MFU is measured against: that of the dtype in which a job's matrix products are computed."""
    return matmul_peak(gpu, _COMPUTE_DTYPES[precision], allow_tf32=allow_tf32)


def operator_peak(gpu: GPU, operator: Operator, *, allow_tf32: bool = False) -> float:
    """FLOP/s that no kernel of this operator exceeds.

    Fused attention in fp32 runs on the tensor cores whatever the TF32 setting, each product made of three TF32 products.

    Source: PyTorch aten/src/ATen/native/transformers/cuda/mem_eff_attention/gemm_kernel_utils.h (OpMultiplyAddFastF32 from sm80 on).
    """
    peak = matmul_peak(gpu, operator.dtype, allow_tf32=allow_tf32).flops_per_second
    if operator.kind == "attention" and operator.dtype == "float32" and gpu.dense_tflops.tf32 is not None:
        return max(peak, gpu.dense_flops_per_second("tf32") / TF32_PRODUCTS_PER_FP32)
    return peak


def memory_bandwidth(gpu: GPU) -> int:
    """Bytes per second of the device memory, as the data sheet says.

    Raises:
        InputError: it is not known.
    """
    _require_rates(gpu)
    assert gpu.memory_bandwidth_bytes_per_second is not None
    return gpu.memory_bandwidth_bytes_per_second


def _require_rates(gpu: GPU) -> None:
    if gpu.dense_tflops.fp32 is None or gpu.memory_bandwidth_bytes_per_second is None:
        raise InputError(
            "gpu",
            gpu.name,
            "its peak rate and memory bandwidth are not known, so no time can be told; name a card that `vramcast gpus` lists",
        )
