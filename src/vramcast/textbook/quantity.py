"""Which number of a forecast a claim is about, and every number of a forecast as text for the reasons."""

from collections.abc import Callable
from typing import Literal, get_args

from vramcast.forecast import Forecast
from vramcast.textbook.claim import Unit, format_value
from vramcast.timeline import CATEGORIES

Quantity = Literal[
    "peak_allocated",
    "peak_reserved",
    "device_used",
    "parameters",
    "gradients",
    "optimizer_states",
    "activations",
    "kv_cache",
    "working_memory",
    "static",
    "parameter_count",
    "activations_over_parameters",
    "device_used_over_parameters",
    "activations_share",
    "flops_per_step",
]
"""`activations`: what forward leaves for backward, see `activation_bytes`. `gradients`: what the optimizer step finds, see
`gradient_bytes`. `working_memory`: temporary, workspace and inputs at the peak.
`static`: parameters, gradients and optimizer states. `*_over_parameters`: bytes over the bytes of the parameters. `activations_share`:
of the allocated peak. Everything else is a field of the forecast, or a category of its breakdown at the allocated peak."""

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


def read_quantity(forecast: Forecast, quantity: Quantity) -> float:
    """The number of that name, in base units."""
    return _READERS[quantity](forecast)


def quantity_unit(quantity: Quantity) -> Unit:
    """Its base unit."""
    return _UNITS.get(quantity, "bytes")


def category_bytes(forecast: Forecast, *categories: str) -> int:
    """Bytes of these categories at the allocated peak."""
    return sum(item.bytes for item in forecast.breakdown if item.category in categories)


def gradient_bytes(forecast: Forecast) -> int:
    """Gradients when backward is done.

    The breakdown at the peak cannot tell: where the peak is at the start of backward, no gradient exists yet. `zero_grad` frees the
    gradients and nothing else, so they are what is allocated before the optimizer step less what is left after `zero_grad`.
    """
    instants = {instant.name: instant.allocated_bytes for instant in forecast.instants}
    return instants.get("after_backward", 0) - instants.get("after_step", 0)


def activation_bytes(forecast: Forecast) -> int:
    """Activations when forward is done; of a generation, those at the peak.

    Not read off the breakdown of a training job: where the peak is in the optimizer step, no activation is left. After `zero_grad`
    what stays is parameters and optimizer states, so activations are what forward has added to that; with several micro batches
    the gradients of those before the last are there too.
    """
    instants = {instant.name: instant.allocated_bytes for instant in forecast.instants}
    if "after_forward" not in instants:
        return category_bytes(forecast, "activations")
    earlier = gradient_bytes(forecast) if forecast.settings.get("gradient_accumulation_steps", 1) > 1 else 0
    return instants["after_forward"] - instants.get("after_step", 0) - earlier


def facts(forecast: Forecast, prefix: str = "") -> dict[str, str]:
    """Numbers of a forecast as text, under the names that reasons use in braces."""
    texts: dict[str, str] = {category: _gigabytes(category_bytes(forecast, category)) for category in CATEGORIES}
    texts |= {instant.name: _gigabytes(instant.allocated_bytes) for instant in forecast.instants}
    texts |= {name: format_value(read_quantity(forecast, name), quantity_unit(name)) for name in QUANTITIES}
    texts |= {
        "context": _gigabytes(forecast.context_bytes),
        "gpu": forecast.gpu,
        "gpu_memory": _gigabytes(forecast.gpu_memory_bytes),
        "model": forecast.model,
        "peak_phase": forecast.peak_phase,
        "verdict": forecast.verdict.replace("_", " "),
    }
    return {prefix + name: text for name, text in texts.items()}


def _gigabytes(nbytes: int) -> str:
    return format_value(nbytes, "bytes")


def _category(name: str) -> Callable[[Forecast], int]:
    return lambda forecast: category_bytes(forecast, name)


def _static(forecast: Forecast) -> int:
    return category_bytes(forecast, "parameters", "optimizer_states") + gradient_bytes(forecast)


def _over_parameters(forecast: Forecast, nbytes: int) -> float:
    return nbytes / category_bytes(forecast, "parameters")


_READERS: dict[Quantity, Callable[[Forecast], float]] = {
    "peak_allocated": lambda forecast: forecast.peak_allocated_bytes,
    "peak_reserved": lambda forecast: forecast.peak_reserved_bytes,
    "device_used": lambda forecast: forecast.device_used_bytes,
    "parameters": _category("parameters"),
    "gradients": gradient_bytes,
    "optimizer_states": _category("optimizer_states"),
    "activations": activation_bytes,
    "kv_cache": _category("kv_cache"),
    "working_memory": lambda forecast: category_bytes(forecast, "temporary", "workspace", "inputs"),
    "static": _static,
    "parameter_count": lambda forecast: forecast.parameters,
    "activations_over_parameters": lambda forecast: _over_parameters(forecast, activation_bytes(forecast)),
    "device_used_over_parameters": lambda forecast: _over_parameters(forecast, forecast.device_used_bytes),
    "activations_share": lambda forecast: category_bytes(forecast, "activations") / forecast.peak_allocated_bytes,
    "flops_per_step": lambda forecast: forecast.flops_per_step,
}
_UNITS: dict[Quantity, Unit] = {
    "parameter_count": "count",
    "activations_over_parameters": "ratio",
    "device_used_over_parameters": "ratio",
    "activations_share": "share",
    "flops_per_step": "flops",
}
