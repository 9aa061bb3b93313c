"""One job over many cards: the document behind `vramcast fit` and its JSON."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vramcast.forecast.forecast import SCHEMA_VERSION
from vramcast.forecast.room import Verdict
from vramcast.plan.largest import FitResult
from vramcast.plan.question import LengthField

Basis = Literal["cheapest card that fits", "smallest card that fits", "smallest card that fits (no priced card does)"]


class FitRow(BaseModel):
    """One job on one card, in bytes; where `refusal` is set the job cannot run there at all and the answers are None."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    gpu: str
    gpu_memory_bytes: int
    """What CUDA offers of the card."""
    memory_bandwidth_bytes_per_second: int | None
    context_bytes: int
    context_uncertainty_bytes: int
    usd_per_hour: float | None = None
    """As given by the user."""
    refusal: str | None = None
    """Why the job cannot run on this card at any size, such as an attention kernel it has not."""
    verdict: Verdict | None = None
    """At the batch size and length asked for."""
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    device_used_bytes: int | None = None
    """Comparable with nvidia-smi: reserved by PyTorch plus the CUDA context."""
    device_used_bytes_low: int | None = None
    device_used_bytes_high: int | None = None
    num_alloc_retries: int = 0
    largest_batch: FitResult | None = None
    """At the length asked for."""
    longest_length: FitResult | None = None
    """At the batch size asked for; its `limit` is the model's."""

    @property
    def headroom_bytes(self) -> int | None:
        """What is left of the card; negative where the job does not fit."""
        return None if self.device_used_bytes is None else self.gpu_memory_bytes - self.device_used_bytes

    def is_tight(self, result: FitResult) -> bool:
        """Does the largest size run only within what is uncertain, or by giving cached memory back?"""
        return result.verdict == "tight"


class Choice(BaseModel):
    """The card to take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    basis: Basis
    verdict: Verdict
    usd_per_hour: float | None = None


class FitMatrix(BaseModel):
    """Where a job fits, how large it may be there, and which card to take."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    workload: Literal["training", "generation"]
    model: str
    batch_size: int
    length_field: LengthField
    """What `length` and `longest_length` count."""
    length: int
    longest_length: int
    """What the model takes."""
    rows: tuple[FitRow, ...]
    choice: Choice | None
    """None where the job fits on none of the cards."""
    settings: dict[str, Any] = {}
    """The job as asked, defaults filled in."""
    assumptions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `--json`: plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")
