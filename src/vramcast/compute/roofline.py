"""The roofline of a program: the least time its operators can take one after the other, each limited by arithmetic or by memory.

An operator needs at least its FLOPs at the dense peak of its dtype, and at least its bytes at the memory bandwidth; the
larger of the two is its bound. 100 % of the data sheet, no efficiency factor, nothing measured: a lower bound on the
time, not an expectation of it.

It is a bound of the recorded code run eagerly, one kernel per operator, with tensors that travel through device memory.
Another way of running the same model can be faster: a compiler fuses operators, a serving engine does not copy the cache;
`any_implementation` keeps what they have in common. So can a model so small that its tensors stay in the L2 cache (tens
of MB), and a card that clocks above its data sheet.

Source: https://doi.org/10.1145/1498765.1498785
"""

from collections.abc import Callable, Iterable
from math import fsum
from typing import NamedTuple

from vramcast.compute.flops import necessary_flops
from vramcast.compute.rates import memory_bandwidth, operator_peak
from vramcast.compute.traffic import least_bytes_moved
from vramcast.hardware import GPU
from vramcast.result import Result
from vramcast.timeline import Operator

EAGER_RUN = "this code run eagerly (PyTorch, one kernel per operator)"
"""What the roofline of a recorded program is a bound of."""


class OperatorBound(NamedTuple):
    """Least times of one call."""

    compute_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        """The call cannot be faster than this."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def limited_by_compute(self) -> bool:
        """Arithmetic is the longer part."""
        return self.compute_seconds > self.memory_seconds


class RooflinePart(Result):
    """The operators of one phase or of one kind."""

    name: str
    lower_bound_seconds: float
    flops: int
    """As torch counts."""
    bytes_moved: int
    """At the least."""
    calls: int


class Roofline(Result):
    """Lower bound on the time of an interval of the recorded code run eagerly, and what it is made of."""

    lower_bound_seconds: float
    compute_limited_seconds: float
    """Part of the bound spent in operators whose arithmetic takes longer than their memory traffic."""
    bandwidth_limited_seconds: float
    """The other part."""
    flops: int
    """As torch counts."""
    bytes_moved: int
    """At the least."""
    phases: tuple[RooflinePart, ...]
    """In order of appearance."""
    kinds: tuple[RooflinePart, ...]
    """Longest first."""


def operator_bound(operator: Operator, gpu: GPU, *, allow_tf32: bool = False) -> OperatorBound:
    """Least times of one call of an operator.

    Raises:
        InputError: the GPU's rates are unknown, or there is none for the operator's dtype.
    """
    memory_seconds = least_bytes_moved(operator) / memory_bandwidth(gpu)
    if operator.kind == "view" or not operator.flops:
        return OperatorBound(0.0, memory_seconds)
    return OperatorBound(
        necessary_flops(operator) / operator_peak(gpu, operator, allow_tf32=allow_tf32), memory_seconds
    )


def roofline(operators: Iterable[Operator], gpu: GPU, *, allow_tf32: bool = False) -> Roofline:
    """Lower bound on the time of all calls, one after the other: of this code run eagerly.

    Args:
        operators: those of one interval, such as an `OperatorTable`.
        gpu: a card whose rates are known.
        allow_tf32: fp32 matrix products may use TF32 (`torch.backends.cuda.matmul.allow_tf32`).

    Raises:
        InputError: the GPU's rates are unknown, or there is none for an operator's dtype.
    """
    bounds = [(operator, operator_bound(operator, gpu, allow_tf32=allow_tf32)) for operator in operators]
    by_compute = fsum(bound.seconds * operator.calls for operator, bound in bounds if bound.limited_by_compute)
    by_bandwidth = fsum(bound.seconds * operator.calls for operator, bound in bounds if not bound.limited_by_compute)
    kinds = _parts(bounds, lambda operator: operator.kind)
    return Roofline(
        lower_bound_seconds=by_compute + by_bandwidth,
        compute_limited_seconds=by_compute,
        bandwidth_limited_seconds=by_bandwidth,
        flops=sum(part.flops for part in kinds),
        bytes_moved=sum(part.bytes_moved for part in kinds),
        phases=tuple(_parts(bounds, lambda operator: operator.phase)),
        kinds=tuple(sorted(kinds, key=lambda part: -part.lower_bound_seconds)),
    )


def _parts(bounds: list[tuple[Operator, OperatorBound]], name_of: Callable[[Operator], str]) -> list[RooflinePart]:
    groups: dict[str, list[tuple[Operator, OperatorBound]]] = {}
    for operator, bound in bounds:
        groups.setdefault(name_of(operator), []).append((operator, bound))
    return [
        RooflinePart(
            name=name,
            lower_bound_seconds=fsum(bound.seconds * operator.calls for operator, bound in group),
            flops=sum(operator.flops * operator.calls for operator, _ in group),
            bytes_moved=sum(least_bytes_moved(operator) * operator.calls for operator, _ in group),
            calls=sum(operator.calls for operator, _ in group),
        )
        for name, group in groups.items()
    ]
