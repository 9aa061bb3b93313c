"""One GPU: the facts about a card that a forecast needs."""

import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from vramcast.errors import InputError

ComputeCapability = tuple[int, int]

ASSUMED_CAPABILITY: ComputeCapability = (8, 0)
"""Of a card that is not NVIDIA's: its kernels are taken to be an A100's."""
ASSUMED_MULTIPROCESSORS = 108
"""Of a card whose kernels are taken to be an A100's, or that is known by its memory alone."""
_CAPABILITIES: dict[ComputeCapability, str] = {
    (6, 0): "pascal",
    (6, 1): "pascal",
    (7, 0): "volta",
    (7, 5): "turing",
    (8, 0): "ampere",
    (8, 6): "ampere",
    (8, 9): "ada",
    (9, 0): "hopper",
    (10, 0): "blackwell",
    (10, 3): "blackwell",
    (12, 0): "blackwell",
    (12, 1): "blackwell",
}


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


def _memory_total(data: dict[str, Any]) -> int:
    total: int = data["memory_total_bytes"]
    return total


def _cuda_total(data: dict[str, Any]) -> int:
    total: int = data["cuda_total_bytes"]
    return total


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
    """The total that nvidia-smi prints. The driver keeps a part of it for itself, so nothing is measured against it."""
    cuda_total_bytes: PositiveInt = Field(default_factory=_memory_total)
    """The total that CUDA offers (`cudaMemGetInfo`, `torch.cuda.mem_get_info`), best estimate: context, library buffers and
    PyTorch's reserved memory have to fit into it. A card made by hand offers all that it is said to have."""
    cuda_total_low_bytes: PositiveInt = Field(default_factory=_cuda_total)
    """The least that a card of this name may offer; its drivers and firmware differ."""
    cuda_total_high_bytes: PositiveInt = Field(default_factory=_cuda_total)
    """The most."""
    cuda_total_source: str = "all of its memory"
    """Where the three come from."""
    cuda_total_is_read: bool = False
    """Read on such cards. False: worked out from similar cards, or what the user said of a custom one."""
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

    def with_memory(self, nbytes: int) -> Self:
        """The same card with `nbytes` of memory, all of it for CUDA: what a user who gives a capacity means."""
        return self.with_cuda_total(nbytes, "given by the user").model_copy(update={"memory_total_bytes": nbytes})

    def with_cuda_total(self, nbytes: int, source: str, *, is_read: bool = False) -> Self:
        """The same card where CUDA is known to offer `nbytes`, no more and no less."""
        return self.model_copy(
            update={
                "cuda_total_bytes": nbytes,
                "cuda_total_low_bytes": nbytes,
                "cuda_total_high_bytes": nbytes,
                "cuda_total_source": source,
                "cuda_total_is_read": is_read,
            }
        )

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


def architecture_of(compute_capability: ComputeCapability) -> str:
    """Name of the NVIDIA architecture with that compute capability, such as `ampere` for (8, 6).

    Raises:
        InputError: no known card has it.
    """
    if compute_capability in _CAPABILITIES:
        return _CAPABILITIES[compute_capability]
    known = ", ".join(f"{major}.{minor}" for major, minor in _CAPABILITIES)
    raise InputError(
        "compute_capability", ".".join(map(str, compute_capability)), f"not one of the known ones: {known}"
    )
