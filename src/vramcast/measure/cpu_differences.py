"""Why a CPU's live tensors may differ from a GPU's: what is known to run otherwise there, said only where the job meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.forecast.source import Source
    from vramcast.measure.storage_watch import StorageWatch

NOT_A_GPU = (
    "measured on the CPU, which has no caching allocator: live tensors are compared, unrounded and without library "
    "workspaces, the buffers inside kernels and the CUDA context; reserved memory cannot be measured here"
)
_DROPOUT = "dropout: the CPU keeps a mask in the dtype of the activations, CUDA one byte an element"
_FOREACH = "the optimizer: {name} is a loop over parameters on the CPU, and takes all at once (foreach) on CUDA"
_AUTOCAST = "autocast: the CPU's list of operators that run in fp32 is another than CUDA's"
_HALF_STATISTICS = "layer norm in 16 bits: the CPU keeps mean and deviation in 16 bits, CUDA in fp32"
_FOREACH_BY_DEFAULT = ("adamw", "adam", "sgd-momentum", "sgd", "adagrad", "rmsprop", "adafactor")


def cpu_differences(job: Any, forecast: Forecast, source: Source, watch: StorageWatch) -> list[str]:
    """Sentences about a job that was run under `watch`; `job` is a `TrainingJob` or a `GenerationJob`."""
    conditions = {
        NOT_A_GPU: True,
        _about_attention(forecast, source, watch): bool(watch.attention_kernels or _attention(source)),
        _DROPOUT: watch.ran_dropout,
        _FOREACH.format(name=getattr(job, "optimizer", "")): getattr(job, "optimizer", "") in _FOREACH_BY_DEFAULT,
        _AUTOCAST: job.precision.startswith("amp-"),
        _HALF_STATISTICS: job.precision in ("bf16", "fp16") and _uses_layer_norm(watch),
    }
    return [sentence for sentence, holds in conditions.items() if holds]


def host_counters_note(optimizer: Any) -> list[str]:
    """Step counters of an optimizer on the CPU, which stay in host memory beside a GPU; those of a fused one do not."""
    if optimizer.defaults.get("fused"):
        return []
    kept = [state["step"] for state in optimizer.state.values() if hasattr(state.get("step"), "nbytes")]
    nbytes = sum(counter.nbytes for counter in kept)
    if not nbytes:
        return []
    return [f"the optimizer's step counters, {nbytes} bytes here, stay in host memory beside a GPU"]


def _attention(source: Source) -> list[str]:
    return [kernel for kernel in source.kernels if kernel.startswith("scaled_dot_product_attention")]


def _about_attention(forecast: Forecast, source: Source, watch: StorageWatch) -> str:
    here, there = ", ".join(watch.attention_kernels), ", ".join(_attention(source))
    return f"attention on the CPU: {here or 'written out'}; forecast for {forecast.gpu}: {there or 'written out'}"


def _uses_layer_norm(watch: StorageWatch) -> bool:
    return any(allocation.op == "native_layer_norm" for allocation in watch.timeline.allocations)
