"""A fit matrix as plain rows of text, smallest card first."""

from dataclasses import dataclass

from vramcast.plan import FitMatrix, FitResult, FitRow
from vramcast.units import format_gib
from vramcast.views.rows import VERDICTS

LENGTH_NAMES = {"sequence_length": "sequence length", "prompt_length": "prompt length"}
TIGHT_MARK = "*"
LIMIT_MARK = " max"
LIMIT_NOTE = "max: the model takes no more; there is memory for it"
TIGHT_NOTE = f"{TIGHT_MARK} runs by the best estimate; not if all that is uncertain turns out large, or only by giving cached memory back"


@dataclass(frozen=True, slots=True)
class FitTextRow:
    """One card as text."""

    gpu: str
    memory: str
    verdict: str | None
    """The verdict's key, for its colour; None where the job cannot run."""
    verdict_text: str
    device_used: str
    headroom: str
    largest_batch: str
    longest_length: str
    price: str
    """Empty where none was given."""


def choice_line(matrix: FitMatrix) -> str:
    """`SMALLEST CARD THAT FITS  rtx-3060-12gb`, or that there is none."""
    choice = matrix.choice
    if choice is None:
        return f"FITS NONE of the {len(matrix.rows)} cards"
    price = "" if choice.usd_per_hour is None else f" at {_price(choice.usd_per_hour)} per hour"
    tight = ", and there it is tight" if choice.verdict == "tight" else ""
    return f"{choice.basis.upper()}  {choice.gpu}{price}{tight}"


def question_line(matrix: FitMatrix) -> str:
    """The job in one line."""
    settings = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in matrix.settings.items() if value not in (None, False)
    )
    return f"{matrix.workload} of {matrix.model}: {settings}"


def column_names(matrix: FitMatrix) -> tuple[str, ...]:
    """Headings of the rows."""
    length = LENGTH_NAMES[matrix.length_field]
    return (
        "GPU",
        "memory",
        "verdict",
        "device used",
        "headroom",
        f"largest batch at {length} {matrix.length}",
        f"longest {length} at batch {matrix.batch_size}",
        "USD/hour",
    )


def fit_rows(matrix: FitMatrix) -> list[FitTextRow]:
    """A row of text per card, by memory and then by name."""
    return [_text_row(row) for row in sorted(matrix.rows, key=lambda row: (row.gpu_memory_bytes, row.gpu))]


def notes(matrix: FitMatrix) -> list[str]:
    """What the marks in the rows mean, and why some cards cannot run the job."""
    texts = [text for row in fit_rows(matrix) for text in (row.largest_batch, row.longest_length)]
    marks = {TIGHT_MARK: TIGHT_NOTE, LIMIT_MARK: LIMIT_NOTE}
    lines = [note for mark, note in marks.items() if any(mark in text for text in texts)]
    refusals: dict[str, list[str]] = {}
    for row in matrix.rows:
        if row.refusal is not None:
            refusals.setdefault(row.refusal, []).append(row.gpu)
    return lines + [f"cannot run on {', '.join(gpus)}: {reason}" for reason, gpus in refusals.items()]


def _text_row(row: FitRow) -> FitTextRow:
    price = "" if row.usd_per_hour is None else _price(row.usd_per_hour)
    return FitTextRow(
        gpu=row.gpu,
        memory=format_gib(row.gpu_memory_bytes),
        verdict=row.verdict,
        verdict_text="CANNOT RUN" if row.verdict is None else VERDICTS[row.verdict],
        device_used="" if row.device_used_bytes is None else format_gib(row.device_used_bytes),
        headroom="" if row.headroom_bytes is None else format_gib(row.headroom_bytes),
        largest_batch=_largest(row, row.largest_batch, ""),
        longest_length=_largest(row, row.longest_length, LIMIT_MARK),
        price=price,
    )


def _largest(row: FitRow, result: FitResult | None, at_the_limit: str) -> str:
    if result is None:
        return ""
    if not result.largest:
        return f"0, short of {format_gib(result.shortfall_bytes)}"
    mark = TIGHT_MARK if row.is_tight(result) else ""
    return f"{result.largest:,}{mark}{at_the_limit if result.stopped_by == 'limit' else ''}"


def _price(usd_per_hour: float) -> str:
    return f"${usd_per_hour:.2f}"
