"""Every error that vramcast raises for a user.

    VramcastError(ValueError)
    ├── InputError              a value given by the user is not usable; names the field, the value and the fix
    │   ├── UnknownModelError   no preset, folder, config.json or Hub id of that name
    │   ├── UnknownGPUError     no row of the hardware file of that name
    │   ├── ModelConfigError    a config.json has a missing or absurd field
    │   └── SnapshotError       a memory snapshot cannot be read
    ├── MissingExtraError       an optional dependency is needed; carries the exact install line
    ├── AllocatorOutOfMemory    a replay within a capacity finds no memory (`vramcast.allocator`)
    ├── ScriptError             a script that is dry-run fails by itself
    ├── TrainingError           a loss or a weight is no longer finite (`vramcast.gpt`)
    ├── DoesNotFitError         the forecast of a training run says so (`vramcast.gpt`)
    ├── DriverError             the NVIDIA driver cannot be asked (`vramcast.measure`)
    └── RecordingError          the recorder cannot follow this code; names the operator or the call

The command line prints the message of any of them on stderr and exits with code 2.
"""

from importlib.util import find_spec


class VramcastError(ValueError):
    """Base of all errors meant for the user: the message alone must tell what to do."""


class InputError(VramcastError):
    """A value given by the user is not usable.

    `field` is the name the user knows it by (a flag or a key of a file), `value` is echoed back, `fix` says what to write instead.
    """

    def __init__(self, field: str, value: object, fix: str) -> None:
        self.field, self.value, self.fix = field, value, fix
        super().__init__(f"{field}={value!r}: {fix}")


class UnknownModelError(InputError):
    """No preset, local folder, `config.json` or Hub id of that name."""


class UnknownGPUError(InputError):
    """No row of the hardware file of that name."""


class ModelConfigError(InputError):
    """A model configuration has a missing or absurd field."""


class SnapshotError(InputError):
    """A memory snapshot cannot be read: not a snapshot, truncated, or holding more than plain data."""


class MissingExtraError(VramcastError):
    """An optional dependency is needed for this question."""

    def __init__(self, needed_for: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{needed_for} needs an optional dependency. Install it with: pip install 'vramcast[{extra}]'")


def check_installed(needed_for: str, extra: str, *libraries: str) -> None:
    """Look for libraries without importing them.

    Raises:
        MissingExtraError: one is not installed; names it.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtraError(f"{needed_for} ({library})", extra)


class RecordingError(VramcastError):
    """The recorder cannot follow this code: an operator, call or library whose memory it does not know."""


class ScriptError(VramcastError):
    """A script that is dry-run from Python failed by itself: an error of its own, or an exit code that is not 0."""
