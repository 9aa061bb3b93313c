"""The forecast of a run, told before anything is allocated; a job that does not fit the GPUs present ends here."""

from __future__ import annotations

from functools import cache

from accelerate import Accelerator
from accelerate.utils import gather_object

from vramcast.forecast import Forecast
from vramcast.gpt.device_forecast import forecast_card, forecast_job
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.fitting_switches import flags_that_fit
from vramcast.gpt.processes import told_by_main
from vramcast.gpt.rehearsal_process import Question, ask_flags_that_fit, ask_forecast
from vramcast.gpt.report import TrainingReport
from vramcast.gpt.settings import TrainSettings
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.measure.device import gpu_present
from vramcast.models import ModelConfig
from vramcast.progress import Progress


def forecast_first(
    settings: TrainSettings, job: TrainingJob, config: ModelConfig, accelerator: Accelerator, report: TrainingReport
) -> Forecast:
    """The forecast of this process's GPU; every process of a run calls this.

    Raises:
        DoesNotFitError: the GPU is present, the job does not fit it and `settings.force` is not set.
    """
    present = _smallest_present(accelerator)
    gpu = present or forecast_card(settings)
    processes = accelerator.num_processes
    asked: _Alone | _OneOfMany = _Alone(job, config, gpu, report.working)
    if processes > 1:
        asked = _OneOfMany(accelerator, settings, job, config, gpu, report.working)
    forecast = asked.forecast()
    report.forecast(forecast, gpu_is_present=present is not None)
    if processes > 1:
        report.note(f"the forecast is of one GPU of {processes}, the one whose share is the largest")
    if present is not None and forecast.verdict == "does_not_fit" and not settings.force:
        raise DoesNotFitError(forecast, asked.flags_that_fit())
    return forecast


def _smallest_present(accelerator: Accelerator) -> GPU | None:
    """The GPU of the process that has least memory free: all hold about the same, and one that runs out ends all."""
    present = gpu_present()
    if present is None or accelerator.num_processes == 1:
        return present
    everywhere: list[GPU] = gather_object([present])
    return min(everywhere, key=lambda gpu: gpu.cuda_total_bytes)


class _Alone:
    """A run of one process, answered from a tape."""

    def __init__(self, job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress) -> None:
        self._job, self._config, self._gpu, self._progress = job, config, gpu, progress

    def forecast(self) -> Forecast:
        """Of the job."""
        return self._forecast_of(self._job)

    def flags_that_fit(self) -> str | None:
        """See `fitting_switches`."""
        forecast_of = cache(self._forecast_of)
        return flags_that_fit(
            self._job,
            self._gpu,
            lambda job: forecast_of(job).device_used_bytes,
            lambda job: forecast_of(job).verdict == "fits",
        )

    def _forecast_of(self, job: TrainingJob) -> Forecast:
        return forecast_job(job, self._config, self._gpu, self._progress)


class _OneOfMany:
    """A run of several processes, rehearsed by the main one, which tells the others."""

    def __init__(
        self,
        accelerator: Accelerator,
        settings: TrainSettings,
        job: TrainingJob,
        config: ModelConfig,
        gpu: GPU,
        progress: Progress,
    ) -> None:
        plain = TrainSettings.model_validate(settings.model_dump())
        self._accelerator, self._progress = accelerator, progress
        self._question = Question(settings=plain, job=job, config=config, gpu=gpu, processes=accelerator.num_processes)

    def forecast(self) -> Forecast:
        """Of one GPU."""
        return told_by_main(self._accelerator, lambda: ask_forecast(self._question, self._progress))

    def flags_that_fit(self) -> str | None:
        """See `fitting_switches`."""
        return told_by_main(self._accelerator, lambda: ask_flags_that_fit(self._question, self._progress))
