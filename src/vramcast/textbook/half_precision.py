"""Why fp16 saves so little: the question that "Transformer Memory Requirements" ends with, answered from forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass

from vramcast.errors import InputError
from vramcast.forecast import Forecast
from vramcast.job import TrainingJob
from vramcast.textbook.claim import format_value
from vramcast.textbook.compare import Answer, forecast_answer, remembering
from vramcast.textbook.quantity import category_bytes, gradient_bytes
from vramcast.timeline import CATEGORIES

HALF = "amp-fp16"


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """One category at one batch size, in fp32 and under fp16 autocast. Bytes."""

    batch_size: int
    category: str
    fp32_bytes: int
    fp16_bytes: int

    @property
    def saved_bytes(self) -> int:
        """Negative where autocast adds."""
        return self.fp32_bytes - self.fp16_bytes


@dataclass(frozen=True, slots=True)
class ActivationGrowth:
    """Activations as a straight line in the batch: what every sequence adds, and what is there without any. Bytes."""

    precision: str
    per_sequence_bytes: int
    fixed_bytes: int
    """Under autocast the half-precision copies of the weights, which it keeps for backward."""


@dataclass(frozen=True, slots=True)
class HalfPrecisionAnswer:
    """The answer, as rows and as a paragraph."""

    rows: tuple[PrecisionRow, ...]
    """Categories at the allocated peak, then the peak, gradients after backward, what is reserved, and what the device shows."""
    growth: tuple[ActivationGrowth, ...]
    sentence: str


def why_fp16_saves_little(
    model: str = "gpt2",
    batch_sizes: Sequence[int] = (8, 1),
    *,
    sequence_length: int = 1024,
    attention: str = "eager",
    gpu: str = "v100-32gb",
    answer: Answer | None = None,
) -> HalfPrecisionAnswer:
    """Compare fp32 with fp16 autocast at each batch size. The defaults are the document's own jobs.

    Raises:
        InputError: fewer than two different batch sizes, which a line cannot be drawn through.
    """
    if len(set(batch_sizes)) < 2:
        raise InputError("batch_sizes", tuple(batch_sizes), "give two different batch sizes, such as 8 and 1")
    answer = forecast_answer() if answer is None else remembering(answer)

    def forecast(batch_size: int, precision: str) -> Forecast:
        fields = {"sequence_length": sequence_length, "attention": attention, "gpu": gpu}
        return answer(
            TrainingJob.model_validate({"model": model, "batch_size": batch_size, "precision": precision, **fields})
        )

    pairs = {size: (forecast(size, "fp32"), forecast(size, HALF)) for size in sorted(set(batch_sizes), reverse=True)}
    rows = tuple(row for size, pair in pairs.items() for row in _rows(size, *pair))
    small, large = min(pairs), max(pairs)
    growth = tuple(
        _growth(precision, small, large, pairs[small][index], pairs[large][index])
        for index, precision in enumerate(("fp32", HALF))
    )
    return HalfPrecisionAnswer(rows, growth, _sentence(large, small, pairs, growth))


def _rows(batch_size: int, fp32: Forecast, fp16: Forecast) -> list[PrecisionRow]:
    shown = [category for category in CATEGORIES if category_bytes(fp32, category) or category_bytes(fp16, category)]
    rows = [
        PrecisionRow(batch_size, category, category_bytes(fp32, category), category_bytes(fp16, category))
        for category in shown
    ]
    return [
        *rows,
        PrecisionRow(batch_size, "peak allocated", fp32.peak_allocated_bytes, fp16.peak_allocated_bytes),
        PrecisionRow(batch_size, "gradients after backward", gradient_bytes(fp32), gradient_bytes(fp16)),
        PrecisionRow(batch_size, "peak reserved", fp32.peak_reserved_bytes, fp16.peak_reserved_bytes),
        PrecisionRow(batch_size, "device used", fp32.device_used_bytes, fp16.device_used_bytes),
    ]


def _growth(precision: str, small: int, large: int, at_small: Forecast, at_large: Forecast) -> ActivationGrowth:
    low, high = category_bytes(at_small, "activations"), category_bytes(at_large, "activations")
    per_sequence = (high - low) // (large - small)
    return ActivationGrowth(precision, per_sequence, low - small * per_sequence)


def _sentence(
    large: int,
    small: int,
    pairs: dict[int, tuple[Forecast, Forecast]],
    growth: tuple[ActivationGrowth, ...],
) -> str:
    fp32, fp16 = pairs[large]
    words = {
        "saved_large": _text(fp32.device_used_bytes - fp16.device_used_bytes),
        "used_large": _text(fp32.device_used_bytes),
        "saved_small": _text(pairs[small][0].device_used_bytes - pairs[small][1].device_used_bytes),
        "used_small": _text(pairs[small][0].device_used_bytes),
        "static": _text(category_bytes(fp16, "parameters", "optimizer_states") + gradient_bytes(fp16)),
        "temporary": _text(category_bytes(fp16, "temporary")),
        "per_fp32": _text(growth[0].per_sequence_bytes),
        "per_fp16": _text(growth[1].per_sequence_bytes),
        "fixed": _text(growth[1].fixed_bytes - growth[0].fixed_bytes),
        "large": str(large),
        "small": str(small),
    }
    return _ANSWER.format_map(words)


_ANSWER = (
    "It is mixed precision: autocast computes matrix products in fp16 and leaves the rest. It saves {saved_large} of "
    "{used_large} at batch {large} and {saved_small} of {used_small} at batch {small}. Parameters, gradients and optimizer "
    "states stay fp32: {static} that do not shrink. A sequence's activations go from {per_fp32} to {per_fp16}, which is not "
    "half, because softmax, residual sums and the loss are kept in fp32, as is what autocast's list of fp32 operators touches "
    "(pow inside GPT-2's GELU), dropout masks are one byte either way, and casts leave copies. The gradients of the logits are "
    "fp32 as well: {temporary} of temporary tensors at batch {large}. And autocast keeps a half-precision copy of the weights, "
    "{fixed} that no batch size shrinks, so that the smaller the batch, the less is saved."
)


def _text(nbytes: int) -> str:
    return format_value(nbytes, "bytes")
