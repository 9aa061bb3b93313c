"""What can be said about the time and the price of a training, each field documented where it is defined."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vramcast.errors import InputError
from vramcast.job.options import MAX_BATCH

_MAX_COUNT = 10**18


class TimeOptions(BaseModel):
    """How fast the GPU is assumed to be, how much is trained and what an hour costs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mfu: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Model FLOPs utilization to assume: model FLOPs (no recomputation) over time and dense peak of the precision, such as 0.4."""
    steps: Annotated[int, Field(ge=1, le=_MAX_COUNT)] | None = None
    """Optimizer steps of the whole training."""
    tokens: Annotated[int, Field(ge=1, le=_MAX_COUNT)] | None = None
    """Tokens of the whole training, instead of steps."""
    sequences_per_step: Annotated[int, Field(ge=1, le=MAX_BATCH)] | None = None
    """Sequences of one optimizer step (the global batch), run as micro batches of batch_size one after the other."""
    price_per_gpu_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of one GPU for one hour, in any currency. Without an MFU the cost is one at the least, made from a lower bound."""
    allow_tf32: bool = False
    """fp32 matrix products may use TF32, which PyTorch does not do by default."""

    def check_together(self) -> None:
        """Check what single fields cannot tell.

        Raises:
            InputError: both steps and tokens, or a price without either.
        """
        if self.steps is not None and self.tokens is not None:
            raise InputError("tokens", self.tokens, f"steps={self.steps} is given too; give one of them")
        if self.price_per_gpu_hour is not None and self.steps is None and self.tokens is None:
            raise InputError(
                "price_per_gpu_hour",
                self.price_per_gpu_hour,
                "a cost needs an amount of training; give steps or tokens",
            )
