"""Errors of torch that a user's job causes, in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vramcast.errors import InputError, RecordingError
from vramcast.kernels.sdpa_choice import NoBackendError

_OVERFLOWS = ("overflow", "invalid argument", "exceeds the maximum")
_MISMATCHES = (
    "broadcast",
    "must match the size of tensor",
    "shapes cannot be multiplied",
    "is invalid for input of size",
)
"""What torch says where a configuration's sizes do not go together in a way that is not checked beforehand."""


@contextmanager
def explained(job: Any, sizes: str) -> Iterator[None]:
    """Turns what torch says of an impossible job into an `InputError`; every other error passes.

    Args:
        job: the job that is run.
        sizes: names of its fields that set the sizes of tensors, for the message.

    Raises:
        InputError: no attention kernel takes the job, or a tensor would be larger than torch can count.
        RecordingError: the model's own code fails with the sizes of its configuration.
    """
    try:
        yield
    except NoBackendError as error:
        raise InputError("attention", job.attention, f"it cannot run here. {error}") from error
    except RuntimeError as error:
        if any(words in str(error) for words in _MISMATCHES):
            raise RecordingError(
                f"the model's own code cannot run this configuration, its sizes do not go together: {error}"
            ) from error
        if not any(word in str(error) for word in _OVERFLOWS):
            raise
        values = " x ".join(str(getattr(job, name)) for name in sizes.split(" x "))
        raise InputError(
            sizes, values, f"a tensor of this job would be larger than torch can count (2**63 elements): {error}"
        ) from error
