"""Known values: small tensors whose content is known carry a real CPU copy, so that branches on data go the right way.

Model code reads masks (`attention_mask.all()`), positions and lengths. Without their values the wrong attention kernel would be
traced, silently. A value is kept beside the tensor, and an operator whose inputs are all known and small is also executed on the
copies. A value that nobody knows (a loss) is answered by a stated rule and reported with the source line that asked.
"""

from collections import Counter

import torch

from vramcast.virtual_cuda.source_lines import SourceLine, running_line
from vramcast.virtual_cuda.storages import StorageRecord

MAX_KNOWN_ELEMENTS = 65_536
"""Larger tensors are data or weights; copying them would cost host memory and time for nothing."""

ATTRIBUTE = "_vramcast_known_value"
"""Where a tensor carries its generation and its known value."""


def known_value(tensor: torch.Tensor, record: StorageRecord | None) -> torch.Tensor | None:
    """The real CPU copy of a virtual tensor, or None if its content is unknown."""
    stored = tensor.__dict__.get(ATTRIBUTE)
    if stored is None:
        return None
    generation, value = stored
    if generation != (None if record is None else record.generation):
        return None
    return value  # type: ignore[no-any-return]


def remember_value(tensor: torch.Tensor, record: StorageRecord | None, value: torch.Tensor) -> None:
    """Keep `value` as the content of a virtual tensor until its storage is written by something unknown."""
    tensor.__dict__[ATTRIBUTE] = (None if record is None else record.generation, value)


_ASKS_TO_GO_ON = {("_beam_search", "transformers/generation/utils.py")}
"""Functions that read whether to go on, and the end of their path: taken to go on until something known stops them."""


def assumed_scalar(dtype: torch.dtype, line: SourceLine | None = None) -> bool | int | float:
    """What an unknown scalar is taken to be, read at `line`.

    bool is False ("no NaN found") unless it asks whether to go on, uint8 is 0 (an overflow flag), other integers are 1, floats are 1.0
    (a loss). The choice only steers branches; each reading is listed in the assumptions with its line.
    """
    if dtype == torch.bool:
        return line is not None and any(
            line.function == function and line.path.endswith(file) for function, file in _ASKS_TO_GO_ON
        )
    if dtype == torch.uint8:
        return 0
    return 1.0 if dtype.is_floating_point else 1


class Assumptions:
    """What had to be assumed while code ran: each sentence once, with how often."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, sentence: str) -> None:
        """Note one sentence for the user."""
        self._counts[sentence] += 1

    def add_once(self, sentence: str) -> None:
        """Note one sentence, however often it holds."""
        self._counts[sentence] = 1

    def add_with_line(self, sentence: str) -> None:
        """Note one sentence with the user's source line that led to it."""
        line = running_line()
        self.add(sentence.removesuffix(",") if line.is_recorders else f"{sentence} at {line}")

    def sentences(self) -> list[str]:
        """All sentences in order of first appearance, with a count where it is not one."""
        return [text if count == 1 else f"{text} ({count} times)" for text, count in self._counts.items()]
