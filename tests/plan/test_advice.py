"""Switches ranked by what they save, and waterfalls that stop where the job fits."""

import io
from typing import Any

import pytest
from plan_fakes import a_forecast
from rich.console import Console

from vramcast.errors import InputError
from vramcast.forecast import Forecast
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.plan import advise, advise_model
from vramcast.plan.switches import Switch, has_bf16, offered_switches
from vramcast.units import GIB
from vramcast.views.advice_terminal import print_advice

GPU = find_gpu("rtx-3090")
JOB = TrainingJob(model="tiny", batch_size=8, gpu="rtx-3090")


class FakeForecasts:
    """A job whose activations are 4 GiB a sequence in fp32, and whose states are 8 GiB with AdamW."""

    def __init__(self, capacity_gib: float) -> None:
        self.capacity = capacity_gib
        self.asked: list[TrainingJob] = []

    def used_gib(self, job: TrainingJob) -> float:
        activations = job.batch_size * {"fp32": 4, "amp-bf16": 3, "amp-fp16": 3, "bf16": 2}[job.precision]
        if job.checkpointing == "full":
            activations /= 4
        return activations + {"sgd": 0, "sgd-momentum": 4, "adafactor": 1, "adamw-loop": 9}.get(job.optimizer, 8)

    def __call__(self, job: TrainingJob) -> Forecast:
        self.asked.append(job)
        if job.attention == "flash":
            raise InputError("attention", "flash", "not in fp32")
        used = self.used_gib(job)
        return a_forecast(
            device_used_bytes=int(used * GIB),
            verdict="fits" if used <= self.capacity else "does_not_fit",
            flops_per_step=400 if job.checkpointing == "full" else 300,
            settings=job.model_dump(mode="json"),
        )


def test_each_switch_alone_is_ranked() -> None:
    advice = advise(JOB, GPU, FakeForecasts(24))
    saved = {switch.flags: switch.saved_bytes for switch in advice.switches}
    assert saved["--checkpointing full"] == 24 * GIB
    assert saved["--precision bf16"] == saved["--batch-size 4 --gradient-accumulation-steps 2"] == 16 * GIB
    assert saved["--precision amp-bf16"] == saved["--optimizer sgd"] == 8 * GIB
    assert saved["--optimizer adamw-loop"] == -GIB
    assert saved["--expandable-segments"] == 0
    figures = [switch.saved_bytes for switch in advice.switches if switch.saved_bytes is not None]
    assert figures == sorted(figures, reverse=True)
    assert advice.device_used_bytes == 40 * GIB


def test_a_switch_that_cannot_run_is_last_and_says_why() -> None:
    last = advise(JOB, GPU, FakeForecasts(24)).switches[-1]
    assert (last.flags, last.refusal, last.saved_bytes) == ("--attention flash", "attention='flash': not in fp32", None)


def test_the_cost_in_flops_is_counted() -> None:
    advice = advise(JOB, GPU, FakeForecasts(24))
    checkpointing = next(switch for switch in advice.switches if switch.flags == "--checkpointing full")
    assert (checkpointing.flops_per_step, advice.flops_per_step) == (400, 300)


def steps(capacity_gib: float, job: TrainingJob = JOB) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """(flags, GiB) of the bars of both waterfalls."""
    same, every = advise(job, GPU, FakeForecasts(capacity_gib)).waterfalls
    assert same.effects == ("same_mathematics",)
    return tuple([(bar.flags, bar.device_used_bytes / GIB) for bar in fall.bars] for fall in (same, every))  # type: ignore[return-value]


def test_the_best_switch_comes_first_and_it_stops_where_the_job_fits() -> None:
    same, every = steps(16)
    assert same == every == [("", 40), ("--checkpointing full", 16)]


def test_the_batch_is_halved_again_and_again() -> None:
    same, _ = steps(9)
    assert same == [
        ("", 40),
        ("--checkpointing full", 16),
        ("--batch-size 4 --gradient-accumulation-steps 2", 12),
        ("--batch-size 2 --gradient-accumulation-steps 4", 10),
        ("--batch-size 1 --gradient-accumulation-steps 8", 9),
    ]


def test_it_stops_where_nothing_more_saves() -> None:
    same, every = steps(0.4)
    assert same[-1][1] == 9
    assert every[-1] == ("--batch-size 1 --gradient-accumulation-steps 8", 0.5)
    assert not advise(JOB, GPU, FakeForecasts(0.4)).waterfalls[1].fits


def test_bars_add_up() -> None:
    for waterfall in advise(JOB, GPU, FakeForecasts(2)).waterfalls:
        for before, bar in zip(waterfall.bars, waterfall.bars[1:], strict=False):
            assert before.device_used_bytes - bar.device_used_bytes == bar.saved_bytes > 0


def test_a_job_that_fits_has_nothing_to_do() -> None:
    same, every = steps(100)
    assert same == every == [("", 40)]


def test_no_job_is_forecast_twice() -> None:
    forecasts = FakeForecasts(0)
    advise(JOB, GPU, forecasts)
    assert len(forecasts.asked) == len(set(forecasts.asked))


def test_a_job_that_cannot_run_as_asked_is_an_error() -> None:
    with pytest.raises(InputError, match="not in fp32"):
        advise(JOB.model_copy(update={"attention": "flash"}), GPU, FakeForecasts(1))


def offered(gpu: str = "rtx-3090", **fields: Any) -> set[str]:
    return {switch.flags for switch in offered_switches(TrainingJob(model="tiny", **fields), find_gpu(gpu))}


def test_only_what_changes_the_job_is_offered() -> None:
    assert "--checkpointing full" not in offered(checkpointing="full")
    assert "--expandable-segments" not in offered(expandable_segments=True)
    assert "--dropout 0.0" not in offered(dropout=0.0)
    assert not any("batch" in flags for flags in offered(batch_size=1))
    assert not any("optimizer" in flags for flags in offered(optimizer="sgd"))
    assert "--precision amp-bf16" not in offered(precision="bf16")
    assert {"--attention sdpa", "--attention flash"} <= offered(attention="eager")


def test_bf16_only_where_the_card_has_it() -> None:
    assert {"--precision amp-bf16", "--precision bf16"} <= offered("rtx-3090")
    assert "--precision amp-fp16" not in offered("rtx-3090")
    assert "--precision amp-fp16" in offered("t4")
    assert not {"--precision amp-bf16", "--precision bf16"} & offered("t4")
    assert has_bf16(find_gpu("mi300x"))


@pytest.mark.parametrize(("batch_size", "smaller", "times"), [(2, 1, 2), (15, 5, 3), (7, 1, 7)])
def test_the_global_batch_is_kept(batch_size: int, smaller: int, times: int) -> None:
    assert f"--batch-size {smaller} --gradient-accumulation-steps {3 * times}" in offered(
        batch_size=batch_size, gradient_accumulation_steps=3
    )


def test_every_switch_makes_a_job_that_can_be_asked() -> None:
    for gpu in ("rtx-3090", "t4"):
        for optimizer in ("adamw", "adamw-loop", "adafactor"):
            job = TrainingJob(model="tiny", batch_size=8, optimizer=optimizer, attention="eager")  # type: ignore[arg-type]
            for switch in offered_switches(job, find_gpu(gpu)):
                changed = switch.applied(job)
                assert TrainingJob(**changed.model_dump()) == changed != job
                assert isinstance(switch, Switch)


def test_the_terminal_tells_costs_and_waterfalls() -> None:
    out = io.StringIO()
    print_advice(advise(JOB, GPU, FakeForecasts(9)), Console(file=out, width=160))
    text = out.getvalue()
    assert text.startswith("DOES NOT FIT  device used 40.00 GiB of 24.00 GiB (rtx-3090)")
    for part in (
        "each alone, leaves the mathematics as it is",
        "each alone, changes the precision",
        "each alone, changes the training",
        "+33%",
        "one after the other, the mathematics left as it is: fits",
        "cannot run: attention='flash': not in fp32",
    ):
        assert part in text
    bars = [line.count("█") for line in text.splitlines() if "█" in line]
    assert bars[:2] == [32, 13]  # 40 GiB, then 16


def test_advise_model_asks_for_forecasts_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    forecasts, offline_flags = FakeForecasts(24), set()

    def forecast(job: TrainingJob, *, offline: bool) -> Forecast:
        offline_flags.add(offline)
        return forecasts(job)

    monkeypatch.setattr("vramcast.plan.ask.training_forecast", forecast)
    advice = advise_model("gpt2", batch_size=8, gpu="t4", offline=True)
    assert forecasts.asked[0] == TrainingJob(model="gpt2", batch_size=8, gpu="t4")
    assert offline_flags == {True}
    assert "--precision bf16" not in {switch.flags for switch in advice.switches}
    assert advice.to_dict()["schema_version"] == 1
