"""Errors of torch that a user's job causes, in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vramcast.errors import InputError
from vramcast.kernels.sdpa_choice import NoBackendError

_OVERFLOWS = ("overflow", "invalid argument", "exceeds the maximum")


@contextmanager
def explained(job: Any, sizes: str) -> Iterator[None]:
    """Turns what torch says of an impossible job into an `InputError`; every other error passes.

    Args:
        job: the job that is run.
        sizes: names of its fields that set the sizes of tensors, for the message.

    Raises:
        InputError: no attention kernel takes the job, or a tensor would be larger than torch can count.
    """
    try:
        yield
    except NoBackendError as error:
        raise InputError("attention", job.attention, f"it cannot run here. {error}") from error
    except RuntimeError as error:
        if not any(word in str(error) for word in _OVERFLOWS):
            raise
        values = " x ".join(str(getattr(job, name)) for name in sizes.split(" x "))
        raise InputError(
            sizes, values, f"a tensor of this job would be larger than torch can count (2**63 elements): {error}"
        ) from error
