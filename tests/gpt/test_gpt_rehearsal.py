"""The forecast of one of several processes: what torch's wrappers take, rehearsed on one rank."""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from micro_model import MICRO

from vramcast.errors import RecordingError
from vramcast.forecast import Forecast
from vramcast.gpt.device_forecast import forecast_job, training_job
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.fitting_switches import flags_that_fit_spread
from vramcast.gpt.forecast_first import forecast_first
from vramcast.gpt.rehearsal import rehearsed_forecast
from vramcast.gpt.rehearsal_process import Question, ask_forecast
from vramcast.gpt.report import Silence
from vramcast.gpt.settings import Distribution, TrainSettings
from vramcast.gpt.start import named_config
from vramcast.hardware import GPU, custom_gpu, find_gpu
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig, model_from_fields

CARD = find_gpu("a100-80gb")
BLOCK = 512
"""Bytes that the caching allocator rounds a small request up to (`CUDACachingAllocator.cpp`, kMinBlockSize)."""


def rounded(nbytes: int) -> int:
    return math.ceil(nbytes / BLOCK) * BLOCK


def rehearsed(config: ModelConfig, processes: int, gpu: GPU = CARD, **given: Any) -> Forecast:
    asked = TrainSettings(name="m", input=Path("text"), **given)
    return rehearsed_forecast(asked, training_job(asked, config), config, gpu, processes)


def micro_config(**fields: int) -> ModelConfig:
    return model_from_fields(MICRO | fields, name="micro", source="file", origin="a test")


def instant(forecast: Forecast, name: str) -> int:
    return next(each.allocated_bytes for each in forecast.instants if each.name == name)


def weight_shapes(config: ModelConfig) -> list[tuple[int, ...]]:
    sizes = config.dimensions
    E = sizes.hidden_size
    block = [(3 * E, E), (E, E), (4 * E, E), (E, 4 * E), (E,), (E,)]
    return [
        (sizes.vocab_size, E),
        (sizes.context_length, E),
        (E,),
        (sizes.vocab_size, E),
        *block * sizes.num_hidden_layers,
    ]


@pytest.mark.parametrize("given", [{}, {"precision": "amp-bf16", "gradient_accumulation_steps": 2}], ids=str)
def test_one_process_alone_is_what_its_tape_says(given: dict[str, Any]) -> None:
    asked = TrainSettings(name="m", input=Path("text"), config="tiny_char", **given)
    config = named_config(asked)
    job = training_job(asked, config)
    alone, taped = rehearsed_forecast(asked, job, config, CARD, 1), forecast_job(job, config, CARD)
    for field in (
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "parameters",
        "flops_per_step",
        "verdict",
        "breakdown",
    ):
        assert getattr(alone, field) == getattr(taped, field)


@settings(max_examples=3, deadline=None)
@given(processes=st.integers(2, 9), heads=st.integers(1, 3), vocab_size=st.integers(3, 300))
def test_fsdp_holds_rows_shared_out_and_padded(processes: int, heads: int, vocab_size: int) -> None:
    """Every parameter is cut along its first dimension into equal parts, rounded up (`FSDPParam._init_sharded_param`)."""
    config = micro_config(n_head=heads, n_embd=8 * heads, vocab_size=vocab_size, n_layer=1)
    forecast = rehearsed(config, processes, distributed="fsdp", batch_size=2)
    rows = [(math.ceil(shape[0] / processes), *shape[1:]) for shape in weight_shapes(config)]
    shards = sum(rounded(4 * math.prod(shape)) for shape in rows)
    batch = rounded(2 * 32 * 8)
    assert instant(forecast, "after_load") == shards + batch
    assert forecast.parameters == sum(math.prod(shape) for shape in weight_shapes(config))
    assert (forecast.settings["distributed"], forecast.settings["processes"]) == ("fsdp", processes)


def test_ddp_holds_a_copy_of_the_gradients_in_buckets() -> None:
    config = micro_config()
    forecast = rehearsed(config, 2, batch_size=2)
    sizes = [4 * math.prod(shape) for shape in weight_shapes(config)]
    bucket = rounded(sum(sizes))  # all fit the first of them, of 1 MiB (`dist._DEFAULT_FIRST_BUCKET_BYTES`)
    assert sum(sizes) < 1 << 20
    assert instant(forecast, "after_load") == sum(map(rounded, sizes)) + bucket + rounded(2 * 32 * 8)


def test_what_is_spread_takes_less_than_what_is_copied() -> None:
    config = micro_config(n_layer=1)
    given: dict[str, Any] = {"batch_size": 1, "sequence_length": 8}
    alone, ddp = (rehearsed(config, processes, **given).peak_allocated_bytes for processes in (1, 2))
    shared = [rehearsed(config, n, distributed="fsdp", **given).peak_allocated_bytes for n in (2, 8)]
    assert ddp > alone > shared[0] > shared[1]


def question(distributed: Distribution, gpu: GPU, **given: Any) -> Question:
    asked = TrainSettings(name="m", input=Path("text"), distributed=distributed, **given)
    config = micro_config()
    return Question(settings=asked, job=training_job(asked, config), config=config, gpu=gpu, processes=2)


@pytest.mark.slow
def test_another_process_answers_the_same() -> None:
    said: list[tuple[str, int, int]] = []
    answer = ask_forecast(question("fsdp", CARD), lambda *progress: said.append(progress))
    assert answer == rehearsed(micro_config(), 2, distributed="fsdp")
    assert said == [("forecasting one of 2 processes", step, 3) for step in range(3)]


@pytest.mark.slow
def test_why_there_is_no_answer_is_passed_on() -> None:
    with pytest.raises(RecordingError, match="is not run with fsdp"):
        ask_forecast(question("fsdp", CARD, precision="amp-fp16"))


def test_spreading_is_the_first_switch() -> None:
    job = TrainingJob(model="tiny_char", batch_size=2, sequence_length=8)
    some = rehearsed(micro_config(), 1)
    tried: list[TrainingJob] = []

    def alone(job: TrainingJob) -> Forecast:
        """Invented: checkpointing saves 40 of 100 bytes, all else nothing."""
        return some.model_copy(update={"device_used_bytes": 60 if job.checkpointing == "full" else 100})

    def named(how: Distribution, limit: int) -> str | None:
        def spread(job: TrainingJob, how: Distribution) -> Forecast:
            """Sharding saves half of everything."""
            tried.append(job)
            used = alone(job).device_used_bytes // (2 if how == "fsdp" else 1)
            return some.model_copy(
                update={"device_used_bytes": used, "verdict": "fits" if used <= limit else "does_not_fit"}
            )

        gpu = CARD.with_memory(limit)
        return flags_that_fit_spread(job, gpu, how, spread, alone)

    assert named("ddp", 50) == "--distributed fsdp"
    assert named("ddp", 30) == "--distributed fsdp --checkpointing full"
    assert named("fsdp", 30) == "--checkpointing full"
    tried.clear()
    assert named("ddp", 5) is None
    assert set(tried) == {job}  # what is hopeless alone is not rehearsed


class Two(SimpleNamespace):
    """As much of an accelerator as the forecast asks for; without a process group nothing is sent."""

    num_processes, is_main_process = 2, True


@pytest.mark.slow
def test_what_one_of_several_cannot_hold_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    config = named_config(TrainSettings(name="m", input=Path("text"), config="tiny_char"))
    asked = TrainSettings(name="m", input=Path("text"), distributed="fsdp", batch_size=4096)
    job = training_job(asked, config)
    full = rehearsed(config, 2, distributed="fsdp", batch_size=4096, checkpointing="full")
    small = custom_gpu(full.device_used_bytes_high)
    monkeypatch.setattr("vramcast.gpt.forecast_first.gpu_present", lambda: small)
    with pytest.raises(DoesNotFitError) as refused:
        forecast_first(asked, job, config, cast(Accelerator, Two()), Silence())
    assert refused.value.forecast.settings["processes"] == 2
    assert refused.value.flags is not None
    written = re.findall(r"--(\S+)(?: (?!--)(\S+))?", refused.value.flags)
    thrown = {name.replace("-", "_"): value or True for name, value in written}
    changed = TrainSettings.model_validate(asked.model_dump() | thrown)
    assert rehearsed_forecast(changed, training_job(changed, config), config, small, 2).verdict == "fits"
    forced = asked.model_copy(update={"force": True})
    assert forecast_first(forced, job, config, cast(Accelerator, Two()), Silence()).verdict == "does_not_fit"
