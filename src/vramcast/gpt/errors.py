"""What can stop a training run besides bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vramcast.errors import VramcastError

if TYPE_CHECKING:
    from vramcast.forecast import Forecast


class TrainingError(VramcastError):
    """The run cannot go on: the message says what happened and which checkpoint is kept."""


class DoesNotFitError(VramcastError):
    """The forecast says that the job does not fit the device present, and nothing was started."""

    def __init__(self, forecast: Forecast, flags: str | None, doing: str = "trains") -> None:
        self.forecast = forecast
        self.flags = flags
        """Switches that would make it fit, as written on the command line; None where none would."""
        fix = f"it would with: {flags}" if flags else "no switch makes it fit; take a smaller model or a larger GPU"
        super().__init__(f"the job does not fit this GPU; {fix}. --force {doing} all the same")

    def to_dict(self) -> dict[str, Any]:
        """What stands in the place of a result in JSON."""
        return {"schema_version": 1, "refused": True, "flags_that_fit": self.flags, "forecast": self.forecast.to_dict()}
