"""Which switch of a training job saves how much, alone and one after the other until the job fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from vramcast.errors import InputError
from vramcast.forecast.forecast import SCHEMA_VERSION, Forecast
from vramcast.forecast.room import Verdict
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.plan.switches import Effect, Switch, offered_switches
from vramcast.progress import Progress

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SwitchSaving(BaseModel):
    """One switch thrown in the job as asked."""

    model_config = _FROZEN

    name: str
    flags: str
    """As written on the command line."""
    effect: Effect
    cost: str
    """What is known of the price besides FLOPs; wall time is not."""
    refusal: str | None = None
    """Why the job cannot run with it; the figures are None then."""
    saved_bytes: int | None = None
    """Of device used; negative where it takes more."""
    device_used_bytes: int | None = None
    verdict: Verdict | None = None
    flops_per_step: int | None = None


class Bar(BaseModel):
    """The job after one more switch; the first bar is the job as asked."""

    model_config = _FROZEN

    name: str
    flags: str
    effect: Effect | None
    """None for the job as asked."""
    saved_bytes: int
    """By this switch, of device used."""
    device_used_bytes: int
    verdict: Verdict
    flops_per_step: int


class Waterfall(BaseModel):
    """Switches one after the other, the one that saves most first, until the job fits or nothing more saves."""

    model_config = _FROZEN

    effects: tuple[Effect, ...]
    """Switches of other effects are left alone."""
    bars: tuple[Bar, ...]

    @property
    def fits(self) -> bool:
        """Does the last bar fit?"""
        return self.bars[-1].verdict == "fits"


class Advice(BaseModel):
    """What to change about a job."""

    model_config = _FROZEN

    schema_version: int = SCHEMA_VERSION
    model: str
    gpu: str
    gpu_memory_bytes: int
    device_used_bytes: int
    """Of the job as asked."""
    verdict: Verdict
    flops_per_step: int
    switches: tuple[SwitchSaving, ...]
    """Each alone, what saves most first."""
    waterfalls: tuple[Waterfall, ...]
    """First with the mathematics left as it is, then with any switch."""
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and integers."""
        return self.model_dump(mode="json")


def advise(
    job: TrainingJob, gpu: GPU, forecast: Callable[[TrainingJob], Forecast], progress: Progress | None = None
) -> Advice:
    """Every switch that could save memory, measured by forecasts of the changed job.

    Args:
        job: as asked.
        gpu: the job's card, which decides what is offered.
        forecast: answers for a job; asked once for each.
        progress: told before every forecast of a switch alone.

    Raises:
        InputError: the job as asked cannot run.
    """
    ask = _Forecasts(forecast)
    asked = ask(job)
    offered = offered_switches(job, gpu)
    savings = []
    for done, switch in enumerate(offered):
        if progress is not None:
            progress("trying switches", done, len(offered))
        savings.append(_saving(switch, job, asked, ask))
    every: tuple[Effect, ...] = get_args(Effect)
    return Advice(
        model=asked.model,
        gpu=asked.gpu,
        gpu_memory_bytes=asked.gpu_memory_bytes,
        device_used_bytes=asked.device_used_bytes,
        verdict=asked.verdict,
        flops_per_step=asked.flops_per_step,
        switches=tuple(sorted(savings, key=_most_saved)),
        waterfalls=tuple(_waterfall(job, gpu, effects, ask) for effects in (every[:1], every)),
        settings=asked.settings,
    )


class _Forecasts:
    """Forecasts by job, each asked for once; a job that cannot run answers with its refusal."""

    def __init__(self, forecast: Callable[[TrainingJob], Forecast]) -> None:
        self._forecast = forecast
        self._known: dict[TrainingJob, Forecast | InputError] = {}

    def __call__(self, job: TrainingJob) -> Forecast:
        if job not in self._known:
            try:
                self._known[job] = self._forecast(job)
            except InputError as refusal:
                self._known[job] = refusal
        answer = self._known[job]
        if isinstance(answer, InputError):
            raise answer
        return answer


def _saving(switch: Switch, job: TrainingJob, asked: Forecast, ask: _Forecasts) -> SwitchSaving:
    words: dict[str, Any] = {"name": switch.name, "flags": switch.flags, "effect": switch.effect, "cost": switch.cost}
    try:
        changed = ask(switch.applied(job))
    except InputError as refusal:
        return SwitchSaving(**words, refusal=str(refusal))
    return SwitchSaving(
        **words,
        saved_bytes=asked.device_used_bytes - changed.device_used_bytes,
        device_used_bytes=changed.device_used_bytes,
        verdict=changed.verdict,
        flops_per_step=changed.flops_per_step,
    )


def _most_saved(saving: SwitchSaving) -> tuple[bool, int]:
    return saving.saved_bytes is None, -(saving.saved_bytes or 0)


def _waterfall(job: TrainingJob, gpu: GPU, effects: Sequence[Effect], ask: _Forecasts) -> Waterfall:
    bars = [_bar("as asked", "", None, 0, ask(job))]
    while bars[-1].verdict != "fits":
        switches = [switch for switch in offered_switches(job, gpu) if switch.effect in effects]
        ranked = sorted(((_saving(switch, job, ask(job), ask), switch) for switch in switches), key=_rank)
        if not ranked or (ranked[0][0].saved_bytes or 0) <= 0:
            break
        saving, switch = ranked[0]
        job = switch.applied(job)
        bars.append(_bar(switch.name, switch.flags, switch.effect, saving.saved_bytes or 0, ask(job)))
    return Waterfall(effects=tuple(effects), bars=tuple(bars))


def _rank(candidate: tuple[SwitchSaving, Switch]) -> tuple[bool, int]:
    return _most_saved(candidate[0])


def _bar(name: str, flags: str, effect: Effect | None, saved_bytes: int, forecast: Forecast) -> Bar:
    return Bar(
        name=name,
        flags=flags,
        effect=effect,
        saved_bytes=saved_bytes,
        device_used_bytes=forecast.device_used_bytes,
        verdict=forecast.verdict,
        flops_per_step=forecast.flops_per_step,
    )
