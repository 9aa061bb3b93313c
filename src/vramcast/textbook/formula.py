"""A document's formula: a function of named sizes with what it assumes and why it departs from the truth."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vramcast.textbook.assumptions import Assumption
from vramcast.textbook.claim import Unit
from vramcast.textbook.quantity import Quantity

FormulaFunction = Callable[..., float]
Workload = Literal["training", "generation"]


@dataclass(frozen=True, slots=True)
class Formula:
    """One formula of a document."""

    document: str
    name: str
    text: str
    """As the document writes it."""
    unit: Unit
    quantity: Quantity
    """What of a forecast it estimates."""
    workloads: tuple[Workload, ...]
    assumes: tuple[Assumption, ...]
    reason: str
    """Why it departs; names in braces are filled in from the forecast."""
    function: FormulaFunction
    scale: Fraction = Fraction(1)
    """The truth is the quantity times this."""
    in_values: bool = False
    """It counts values: bytes of the truth are divided by those of a value."""
    per_sequence: bool = False
    """It counts one sequence: the truth is divided by the batch."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes it takes."""
        return tuple(inspect.signature(self.function).parameters)

    def truth_scale(self, bytes_per_value: int, batch_size: int = 1) -> Fraction:
        """What the quantity is multiplied with to be compared."""
        scale = self.scale / bytes_per_value if self.in_values else self.scale
        return scale / batch_size if self.per_sequence else scale

    def evaluate(self, sizes: Mapping[str, int]) -> float:
        """Its value at these sizes; sizes it does not take are left aside."""
        return self.function(**{name: sizes[name] for name in self.sizes})
