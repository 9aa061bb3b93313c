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

import math
from importlib.util import find_spec

LONGEST_VALUE = 100
"""Characters of a value that a message shows; the middle of a longer one is left out."""
LONGEST_FIX = 400
"""Characters of what a message says besides."""


class VramcastError(ValueError):
    """Base of all errors meant for the user: the message alone must tell what to do."""


class InputError(VramcastError):
    """A value given by the user is not usable.

    `field` is the name the user knows it by (a flag or a key of a file), `value` is echoed back, `fix` says what to write instead.
    The message is one line, however long the three are.
    """

    def __init__(self, field: str, value: object, fix: str) -> None:
        self.field, self.value, self.fix = field, value, fix
        named = shortened(field, LONGEST_VALUE)
        super().__init__(f"{named}={shown(value)}: {shortened(fix, LONGEST_FIX)}")


def shown(value: object) -> str:
    """`repr` of a value on one line; of a long one its two ends and how long it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _MOST_BITS:
        # Not as text: Python refuses to write numbers of more than some thousand digits.
        return f"(a whole number of about {int(value.bit_length() * math.log10(2)) + 1} digits)"
    try:
        text = repr(value)
    except Exception:  # a number too long to be written inside a list, an object that cannot show itself
        return f"({type(value).__name__})"
    if len(text) <= LONGEST_VALUE:
        return shortened(text, LONGEST_VALUE)
    length = f" ({len(value)} characters)" if isinstance(value, str) else ""
    return shortened(text, LONGEST_VALUE - len(length)) + length


def shortened(text: str, longest: int) -> str:
    """A text on one line of at most `longest` characters; the middle of a longer one is left out."""
    if len(text) > 2 * longest:  # so that what is looked at stays short, however long the text is
        text = f"{text[:longest]}{_LEFT_OUT}{text[-longest:]}"
    text = " ".join(text.split()) if not text.isprintable() else text
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - len(_LEFT_OUT)]}{_LEFT_OUT}{text[-tail:]}"


_LEFT_OUT = "..."
_MOST_BITS = 256
"""Of a whole number that is written out: 78 digits."""


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
