"""One job asked twice: of its tape with the numbers put in, and of its own code at full size."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from validation.tape_equality_cases import Case
from vramcast.errors import InputError, RecordingError
from vramcast.forecast import engine
from vramcast.forecast.answer import built_from, resolve_gpu
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.source import RecordedSource, Source, TapeSource
from vramcast.forecast.training_tapes import NoTape, bound_training
from vramcast.hardware import GPU
from vramcast.tapes import BoundTape
from vramcast.tapes.peak import live_sets
from vramcast.timeline import Allocation, OperatorTable, Recording, Timeline

Outcome = Literal["equal", "traced", "refused", "different", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("equal", "traced", "refused", "different", "failed")


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Attributes:
        outcome: `equal`; `traced`: the job has no tape and says so; `refused`: the job cannot run, and both say so;
            `different`: the tape answers otherwise than the trace; `failed`: an error that is none of ours.
        reason: Of any outcome but the first.
    """

    id: str
    family: str
    outcome: Outcome
    reason: str
    description: dict[str, Any]
    events: int = 0
    tape_seconds: float = 0.0
    trace_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compare(case: Case) -> Result:
    """Both answers to one case, beside each other; an error of the code becomes its outcome, so that other cases still run."""
    gpu = resolve_gpu(case.job.gpu, case.job.gpu_memory)
    start = time.perf_counter()
    bound = _bound(case, gpu)
    middle = time.perf_counter()
    recording = _recording(case, gpu)
    seconds = {"tape_seconds": middle - start, "trace_seconds": time.perf_counter() - middle}

    def result(outcome: Outcome, reason: str = "", events: int = 0) -> Result:
        return Result(case.id, case.family, outcome, reason, case.description, events, **seconds)

    if isinstance(bound, _Unforeseen) or isinstance(recording, _Unforeseen):
        return result("failed", "; ".join(str(each) for each in (bound, recording) if isinstance(each, _Unforeseen)))
    if isinstance(recording, str):
        if isinstance(bound, BoundTape):
            return result("different", f"the tape answers, and the code refuses: {recording}")
        return result("refused", recording)
    if isinstance(bound, str):
        return result("traced", bound)
    reason = next(differences(bound, recording, case, gpu), "")
    return result("different" if reason else "equal", reason, len(recording.timeline.events))


class _Unforeseen(str):
    """An error that is none of ours, in words."""


def _bound(case: Case, gpu: GPU) -> BoundTape | str | _Unforeseen:
    try:
        return bound_training(case.job, case.config, gpu)
    except NoTape as error:
        return str(error)
    except (InputError, RecordingError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return _Unforeseen(f"tape: {type(error).__name__}: {error}")


def _recording(case: Case, gpu: GPU) -> Recording | str | _Unforeseen:
    try:
        return engine.record_training(case.job, case.config, gpu)
    except (InputError, RecordingError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return _Unforeseen(f"trace: {type(error).__name__}: {error}")


def differences(bound: BoundTape, recording: Recording, case: Case, gpu: GPU) -> Iterator[str]:
    """Everything in which a tape differs from the trace, the first thing first; nothing where they are equal."""
    yield from timeline_differences(bound.timeline(), recording.timeline)
    tape, trace = TapeSource(bound, gpu), RecordedSource(recording)
    yield from _operator_differences(tape.operators["step"], recording.operators["step"])
    if tape.kernels != recording.kernels:
        yield f"kernels {tape.kernels}, traced {recording.kernels}"
    one, two = (_forecast(source, case, gpu) for source in (tape, trace))
    for name in (
        "parameters",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "device_used_bytes",
        "peak_phase",
        "breakdown",
        "instants",
        "flops_per_step",
        "verdict",
    ):
        if getattr(one, name) != getattr(two, name):
            yield f"{name} {getattr(one, name)}, traced {getattr(two, name)}"
    sums = live_sets(bound.tape, bound.values["L"], bound.micro_batches).peak_bytes(bound.values)
    if sums != bound.peak_live_bytes():
        yield f"the peak as short sums is {sums}, of all events {bound.peak_live_bytes()}"


def timeline_differences(tape: Timeline, trace: Timeline) -> Iterator[str]:
    """Events, allocations and marks that differ, the first of each."""
    if tape.marks != trace.marks:
        yield f"marks {tape.marks}, traced {trace.marks}"
    for position, (one, two) in enumerate(zip(tape.events, trace.events, strict=False)):
        if one[:2] != two[:2] or one.value != two.value:
            yield f"event {position} of {len(trace.events)}: {_what(tape, position)}, traced {_what(trace, position)}"
            break
        if one.kind == 0 and _facts(tape.allocations[one.target]) != _facts(trace.allocations[two.target]):
            yield f"event {position} of {len(trace.events)}: {_what(tape, position)}, traced {_what(trace, position)}"
            break
    if len(tape.events) != len(trace.events):
        yield f"{len(tape.events)} events, traced {len(trace.events)}"


def _facts(allocation: Allocation) -> tuple[Any, ...]:
    return (
        allocation.nbytes,
        allocation.stream,
        allocation.category,
        allocation.phase,
        allocation.module,
        allocation.op,
        allocation.dtype,
        allocation.shape,
    )


def _what(timeline: Timeline, position: int) -> str:
    event = timeline.events[position]
    if event.kind > 1:
        return f"{event.kind.name} {event.target} {event.value}"
    return f"{event.kind.name} {event.target} {_facts(timeline.allocations[event.target])}"


def _operator_differences(tape: OperatorTable, trace: OperatorTable) -> Iterator[str]:
    one, two = _counted(tape), _counted(trace)
    for operator in (one - two) | (two - one):
        yield f"operator {operator}: {one[operator]} calls, traced {two[operator]}"
    for name in ("flops", "bytes_moved", "dispatches"):
        if getattr(tape, name) != getattr(trace, name):
            yield f"{name} {getattr(tape, name)}, traced {getattr(trace, name)}"


def _counted(table: OperatorTable) -> Counter[tuple[Any, ...]]:
    """Calls of equal operators of all modules: a tape counts those of all layers together."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for each in table:
        counts[each.name, each.kind, each.phase, each.dtype, each.extents, each.flops, each.reads, each.writes] += (
            each.calls
        )
    return counts


def _forecast(source: Source, case: Case, gpu: GPU) -> Forecast:
    return built_from(source, case.job, "training", case.config, gpu).forecast
