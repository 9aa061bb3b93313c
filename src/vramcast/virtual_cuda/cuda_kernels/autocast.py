"""CUDA's autocast: which operators run in half precision, which in fp32, and the cache of cast weights.

The lists are those of `aten/src/ATen/autocast_mode.h` (a test reads them from the header in the installed wheel). The cache
follows `cached_cast` in `autocast_mode.cpp`: only an fp32 leaf that requires grad and is no view is cached, and the cache lives until
the outermost autocast region ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from vramcast.hardware import torch_release

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

LOWER_PRECISION = (
    "_convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input "
    "conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm "
    "chain_matmul linalg_multi_dot _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
    "_scaled_dot_product_flash_attention scaled_dot_product_attention"
).split()
FP32 = (
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar "
    "softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity "
    "poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss "
    "margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss "
    "binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d "
    "upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d "
    "_upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa"
).split()
FP32_OUTPUT = (
    "prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm linalg_matrix_norm.str_ord "
    "sum sum.dim_IntList"
).split()
"""The result is made in fp32 unless the caller names a dtype; the input itself is not copied first."""
FP32_APPEND_DTYPE = ("norm.Scalar", "norm.ScalarOpt_dim")
_FIRST_WITHOUT_INFERENCE_CACHE = (2, 10)
PROMOTE = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add".split()


class WeightCache:
    """Half-precision copies of fp32 weights, each made once per outermost autocast region."""

    def __init__(self) -> None:
        self._casts: dict[int, tuple[weakref.ref[torch.Tensor], torch.Tensor]] = {}

    def get(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The cached cast of `weight`, made on first use."""
        entry = self._casts.get(id(weight))
        if entry is not None and entry[0]() is weight and entry[1].dtype == dtype:
            return entry[1]
        cast = weight.to(dtype)
        self._casts[id(weight)] = (weakref.ref(weight), cast)
        return cast

    def clear(self) -> None:
        """End of the outermost region: the copies live on only where autograd saved them."""
        self._casts.clear()


class Caster:
    """Casts the arguments of an operator as CUDA's autocast would."""

    def __init__(self, machine: VirtualGPU) -> None:
        self.machine = machine
        self._release = torch_release(machine.torch_version)

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        """`value` with every eligible tensor in it cast to `dtype`."""
        if isinstance(value, torch.Tensor):
            if not self._eligible(value) or value.dtype == dtype:
                return value
            to_lower = dtype == torch.get_autocast_dtype("cuda")
            leaf = value.dtype == torch.float32 and value.requires_grad and value.is_leaf and not value._is_view()
            if to_lower and leaf and self._keeps_casts():
                return self.machine.autocast_weights.get(value, dtype)
            return value.to(dtype)
        if isinstance(value, (list, tuple)):
            return type(value)(self.cast(item, dtype) for item in value)
        return value

    def _keeps_casts(self) -> bool:
        """Whether a cast weight is kept: from 2.10 on not under `inference_mode`, whose tensors may not be saved (pytorch PR 165068)."""
        if torch.is_inference_mode_enabled() and self._release >= _FIRST_WITHOUT_INFERENCE_CACHE:
            return False
        return torch.is_autocast_cache_enabled()

    def _eligible(self, tensor: torch.Tensor) -> bool:
        return tensor.is_floating_point() and tensor.dtype != torch.float64 and self.machine.is_on_gpu(tensor)

    def first_is_eligible(self, args: Any) -> bool:
        """True if the first argument is a tensor that autocast acts on."""
        return bool(args) and isinstance(args[0], torch.Tensor) and self._eligible(args[0])

    def widest(self, args: Any) -> torch.dtype:
        """The widest floating dtype among the eligible arguments (the promote rule)."""
        dtypes = {tensor.dtype for tensor in _tensors(args) if self._eligible(tensor)}
        return torch.float32 if torch.float32 in dtypes or not dtypes else dtypes.pop()


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the autocast layer; outside an autocast region each only passes on."""
    caster = Caster(machine)
    for names, make in ((LOWER_PRECISION, _lower), (FP32, _fp32), (FP32_OUTPUT, _fp32_output), (PROMOTE, _promote)):
        for name in names:
            yield name, make(_overload(name), caster)
    for name in FP32_APPEND_DTYPE:
        yield name, _fp32_append_dtype(_overload(name), caster)


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _enabled() -> bool:
    return torch.is_autocast_enabled("cuda")


def _lower(op: Any, caster: Caster) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        if not _enabled():
            return op(*args, **kwargs)
        dtype = torch.get_autocast_dtype("cuda")
        caster.machine.used_fp16_autocast |= dtype == torch.float16
        return op(*caster.cast(args, dtype), **{key: caster.cast(value, dtype) for key, value in kwargs.items()})

    return kernel


def _fp32(op: Any, caster: Caster) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        if not _enabled():
            return op(*args, **kwargs)
        return op(
            *caster.cast(args, torch.float32),
            **{key: caster.cast(value, torch.float32) for key, value in kwargs.items()},
        )

    return kernel


def _fp32_output(op: Any, caster: Caster) -> Callable[..., Any]:
    position = next(i for i, argument in enumerate(op._schema.arguments) if argument.name == "dtype")
    keyword_only = op._schema.arguments[position].kwarg_only

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("dtype") is not None or (
            not keyword_only and len(args) > position and args[position] is not None
        )
        if not _enabled() or given or not caster.first_is_eligible(args):
            return op(*args, **kwargs)
        return op(*(args if keyword_only else args[:position]), **{**kwargs, "dtype": torch.float32})

    return kernel


def _fp32_append_dtype(op: Any, caster: Caster) -> Callable[..., Any]:
    def kernel(x: torch.Tensor, p: Any = 2, dim: Any = (), keepdim: bool = False) -> Any:
        if not _enabled() or not caster.first_is_eligible((x,)):
            return op(x, p) if op._overloadname == "Scalar" else op(x, p, dim, keepdim)
        if op._overloadname == "Scalar":
            return torch.ops.aten.norm.ScalarOpt_dtype(x, p, dtype=torch.float32)
        return torch.ops.aten.norm.ScalarOpt_dim_dtype(x, p, dim, keepdim, dtype=torch.float32)

    return kernel


def _promote(op: Any, caster: Caster) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return op(*(caster.cast(args, caster.widest(args)) if _enabled() else args), **kwargs)

    return kernel


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
