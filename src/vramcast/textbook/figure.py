"""One figure of a document, and the row that sets it beside the truth."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vramcast.job import GenerationJob, TrainingJob
from vramcast.textbook.claim import Claim, Unit, format_value
from vramcast.textbook.quantity import Quantity

Job = TrainingJob | GenerationJob
Relation = Literal["alone", "difference", "ratio", "saving", "fits", "largest_batch"]
"""How the truth is read: one job's quantity, it less that of a second job, over it, the share saved against it, whether the
job fits its card, or the largest batch that does."""


@dataclass(frozen=True, slots=True)
class TextbookFigure:
    """A number that a document prints, or that one of its formulas gives, and where the truth is to be found."""

    document: str
    section: str
    name: str
    claim: Claim
    claimed_for: Job | None
    """The job that the figure is about; None where the document names none that could be run."""
    quantity: Quantity
    reason: str
    """Why it departs; names in braces are filled in from the forecasts."""
    formula_text: str = ""
    formula_value: float | None = None
    """Exact value of the document's own formula, in base units."""
    arithmetic_note: str = ""
    """Where the document's own arithmetic is off: its formula does not give what it prints."""
    measured: bool = False
    """The document measured this figure on a GPU; it is no estimate."""
    relation: Relation = "alone"
    second_job: Job | None = None
    scale: Fraction = Fraction(1)
    """The truth is the quantity times this, such as steps over FLOPs per second for a time."""


TRUE_WITHIN = 0.05
"""Of the truth, or of the whole for shares: what a figure printed with two digits can claim."""


@dataclass(frozen=True, slots=True)
class TextbookRow:
    """Claim and truth side by side, in the claim's base unit."""

    figure: TextbookFigure
    claimed_value: float
    """The document's figure; of a range the point nearest to the truth; of a card its memory."""
    true_value: float | None
    """None where there is no job to forecast."""
    unit: Unit
    reason: str
    holds: bool | None = None
    """Of a card: whether the job fits. None for sizes, which are judged by their error."""
    departures: tuple[str, ...] = ()
    """Assumptions of the formula that this model or job does not keep."""

    @property
    def error(self) -> float | None:
        """claim / truth - 1, for shares claim - truth; None without a truth to divide by."""
        if self.unit == "share" and self.true_value is not None:
            return self.claimed_value - self.true_value
        return None if not self.true_value else self.claimed_value / self.true_value - 1

    @property
    def is_true(self) -> bool | None:
        """Whether the claim may be relied on: the card holds the job, or the error is at most `TRUE_WITHIN`; None without a truth."""
        if self.holds is not None:
            return self.holds
        return None if self.error is None else abs(self.error) <= TRUE_WITHIN

    @property
    def true_text(self) -> str:
        """The truth in the words of the guides."""
        return "" if self.true_value is None else format_value(self.true_value, self.unit)
