"""The answer: peaks, what they are made of, and whether they fit. Its JSON is the contract of the command line."""

from typing import Any, Literal

from pydantic import Field

from vramcast.forecast.room import Verdict
from vramcast.forecast.uncertainty import Uncertainty
from vramcast.result import Result
from vramcast.timeline import Category

SCHEMA_VERSION = 1


class BreakdownItem(Result):
    """Bytes of one category at the allocated peak."""

    category: Category
    bytes: int


class Instant(Result):
    """Allocated bytes at a named instant; a name that ends in `_peak` is the maximum over that phase."""

    name: str
    allocated_bytes: int


class Forecast(Result):
    """How much GPU memory a job takes, in integers of bytes."""

    schema_version: int = SCHEMA_VERSION
    workload: Literal["training", "generation", "code"]
    """`code`: whatever ran inside `with vramcast.virtual_gpu(...)`."""
    model: str
    parameters: int
    """Elements of all parameters, tied ones counted once."""
    peak_allocated_bytes: int
    """Comparable with `torch.cuda.max_memory_allocated()`."""
    peak_reserved_bytes: int
    """Comparable with `torch.cuda.max_memory_reserved()`."""
    device_used_bytes: int
    """Comparable with nvidia-smi: reserved by PyTorch plus the CUDA context and, with several GPUs, NCCL's buffers."""
    reserved_bytes_low: int
    """The low end of `peak_reserved_bytes`: with every part of `uncertainty` that counts in it at its low end."""
    reserved_bytes_high: int
    """The high end."""
    device_used_bytes_low: int
    """The low end of `device_used_bytes`: with every part of `uncertainty` at its low end."""
    device_used_bytes_high: int
    """The high end, what a card must offer for the job to fit for sure."""
    uncertainty: tuple[Uncertainty, ...]
    """What the ends are made of, the widest first; an end is the best estimate plus that end of the parts."""
    peak_phase: str
    """What was being done at the allocated peak."""
    breakdown: tuple[BreakdownItem, ...]
    """The allocated peak by category, largest first; sums to it exactly."""
    instants: tuple[Instant, ...]
    flops_per_step: int
    """FLOPs of one optimizer step, or of one decoding step; a multiply-add counts as two."""
    engine: Literal["tape", "trace"]
    gpu: str
    gpu_memory_bytes: int
    """What CUDA offers of the card (`cudaMemGetInfo`'s total), which is less than nvidia-smi's total."""
    verdict: Verdict
    """fits: the high end fits; does_not_fit: the low end does not; tight: between; unknown: nothing may be said."""
    assumptions: tuple[str, ...] = ()
    context_bytes: int
    """Device memory of the CUDA context, part of `device_used_bytes`."""
    context_uncertainty_bytes: int
    settings: dict[str, Any] = Field(default_factory=dict)
    """The job as asked, defaults filled in."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """Releases of the libraries whose code the forecast was recorded from."""

    @property
    def headroom_bytes(self) -> int:
        """What is left of the card; negative where it does not fit."""
        return self.gpu_memory_bytes - self.device_used_bytes

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `--json`: plain dicts, lists, strings and integers."""
        return self.model_dump(mode="json")

    def _repr_html_(self) -> str:
        from vramcast.views.html import forecast_html

        return forecast_html(self)
