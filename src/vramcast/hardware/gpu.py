"""One GPU: the facts about a card that a forecast needs."""

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from vramcast.errors import InputError

ComputeCapability = tuple[int, int]

ASSUMED_CAPABILITY: ComputeCapability = (8, 0)
"""Of a card that is not NVIDIA's: its kernels are taken to be an A100's."""
ASSUMED_MULTIPROCESSORS = 108
"""Of a card whose kernels are taken to be an A100's, or that is known by its memory alone."""


class DenseTflops(BaseModel):
    """Peak dense rates in 10**12 operations per second, a multiply-add counted as two; None where there is none.

    Never the vendors' figure "with sparsity", which is twice as large.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fp32: PositiveFloat | None = None
    """Without tensor cores."""
    tf32: PositiveFloat | None = None
    bf16: PositiveFloat | None = None
    """With fp32 accumulation, as PyTorch's kernels do; the same for fp16 and fp8."""
    fp16: PositiveFloat | None = None
    fp8: PositiveFloat | None = None
    int8: PositiveFloat | None = None
    fp4: PositiveFloat | None = None


class GPU(BaseModel):
    """One card (for AMD's two-die cards: one die, as PyTorch shows it)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Canonical name, such as `a100-80gb`."""
    aliases: tuple[str, ...] = ()
    """Other spellings, the strings of `torch.cuda.get_device_name` among them."""
    vendor: Literal["nvidia", "amd"]
    architecture: str
    """pascal, volta, turing, ampere, ada, hopper, blackwell, cdna2, cdna3."""
    compute_capability: ComputeCapability | None = None
    """NVIDIA's (major, minor); None for other vendors."""
    multiprocessor_count: PositiveInt | None = None
    """Streaming multiprocessors or compute units; None for a custom GPU."""
    memory_total_bytes: PositiveInt
    """The total that nvidia-smi prints: context, library buffers and PyTorch's reserved memory have to fit into it."""
    memory_bandwidth_bytes_per_second: PositiveInt | None = None
    dense_tflops: DenseTflops = Field(default_factory=DenseTflops)
    interconnect: str = ""
    source: str
    """Address of the vendor's data sheet."""
    date: datetime.date | None = None
    """Day the row was written."""
    verified: Literal["driver", "datasheet", "user"]
    """Where `memory_total_bytes` comes from; `datasheet` is the vendor's GB taken as GiB."""
    notes: str = ""

    @property
    def kernel_capability(self) -> ComputeCapability:
        """The compute capability that kernels and libraries choose their paths by: an A100's where the card has none."""
        return self.compute_capability or ASSUMED_CAPABILITY

    @property
    def kernel_multiprocessors(self) -> int:
        """Multiprocessors that kernels share their work out to: an A100's where kernels are taken to be an A100's."""
        if self.compute_capability is None or self.multiprocessor_count is None:
            return ASSUMED_MULTIPROCESSORS
        return self.multiprocessor_count

    def dense_flops_per_second(self, dtype: str) -> int:
        """Peak dense operations per second in `dtype` (fp32, tf32, bf16, fp16, fp8, int8, fp4).

        Raises:
            InputError: the card has no such path, or it is a custom GPU whose rates are unknown.
        """
        rates: dict[str, float] = self.dense_tflops.model_dump(exclude_none=True)
        if dtype not in rates:
            known = ", ".join(rates) or "none"
            raise InputError("dtype", dtype, f"no peak rate is known for it on {self.name}; known: {known}")
        return round(rates[dtype] * 10**12)
