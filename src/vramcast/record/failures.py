"""Errors of torch and transformers that a user's job causes, in our own words."""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType
from typing import Any

import torch

from vramcast.errors import InputError, ModelConfigError, RecordingError, VramcastError, shortened
from vramcast.kernels.sdpa_choice import NoBackendError

_OVERFLOWS = ("overflow", "invalid argument", "exceeds the maximum")
_MISMATCHES = (
    "broadcast",
    "must match the size of tensor",
    "shapes cannot be multiplied",
    "is invalid for input of size",
)
"""What torch says where a configuration's sizes do not go together in a way that is not checked beforehand."""
_NOT_ITS_OWN = (VramcastError, NoBackendError, torch.OutOfMemoryError)
_STRICT = re.compile(r"(Validation|Class validation) error for ")
_FIELD = re.compile(r"^Validation error for field '(\w+)'")
"""How the errors of huggingface_hub's strict dataclasses begin; what is wrong is said by their cause."""
_LONGEST_REASON = 160


class ConfigurationRefused(ModelConfigError, RecordingError):
    """transformers does not take a configuration, or cannot build its model.

    It is bad input where the configuration is the user's own. It is a failed recording where the recorder put sizes of its own into
    it, which other fields (lists of factors, one for each part of a head) do not go with: then the model is run at its full size.
    """


@contextmanager
def refused_configuration(name: str, what: str, fields: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """Turns whatever transformers raises while it reads a configuration or builds a model into one line.

    Args:
        name: the model's.
        what: what transformers does not do: "refuses this configuration".
        fields: the configuration; a field that the error names is told with its value.

    Raises:
        ConfigurationRefused: transformers, or what it calls, raised anything but an error of ours or a simulated one of memory.
    """
    try:
        with warnings.catch_warnings():
            # Advice for who wrote the file, in lines of its own before the one that counts.
            warnings.simplefilter("ignore")
            yield
    except _NOT_ITS_OWN:
        raise
    except Exception as error:
        named = _FIELD.search(str(error))
        cause = error.__cause__ if error.__cause__ is not None and _STRICT.match(str(error)) else error
        field, value = ("model", name) if named is None else (named[1], fields.get(named[1]))
        raise ConfigurationRefused(field, value, f"transformers {what}: {one_line(cause)}") from error


@contextmanager
def explained(job: Any, sizes: str) -> Iterator[None]:
    """Turns what torch and a model's own code say of an impossible job into one line; errors of ours pass.

    Args:
        job: the job that is run.
        sizes: names of its fields that set the sizes of tensors, for the message.

    Raises:
        InputError: no attention kernel takes the job, or a tensor would be larger than torch can count.
        RecordingError: the model's own code fails with its configuration.
    """
    try:
        yield
    except NoBackendError as error:
        raise InputError("attention", job.attention, f"it cannot run here. {error}") from error
    except _NOT_ITS_OWN:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError):
            if any(words in str(error) for words in _MISMATCHES):
                reason = f"its sizes do not go together: {one_line(error)}"
                raise RecordingError(f"the model's own code cannot run this configuration, {reason}") from error
            if any(word in str(error) for word in _OVERFLOWS):
                values = " x ".join(str(getattr(job, name)) for name in sizes.split(" x "))
                fix = f"a tensor of this job would be larger than torch can count (2**63 elements): {one_line(error)}"
                raise InputError(sizes, values, fix) from error
        if not _is_of_the_model(error):
            raise
        raise RecordingError(f"the model's own code cannot run this configuration: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An error's kind and message, as short as a line."""
    return shortened(f"{type(error).__name__}: {error}", _LONGEST_REASON)


def _is_of_the_model(error: BaseException) -> bool:
    """Whether it came up beneath the model's code; what fails elsewhere is a fault of this package, and shows where."""
    return any("transformers" in Path(frame.f_code.co_filename).parts for frame, _ in walk_tb(error.__traceback__))
