"""Training from beginning to end, to be read from top to bottom: text, forecast, tokens, model, loop, measurement."""

from __future__ import annotations

from accelerate import Accelerator

from vramcast.allocator import AllocatorConfig
from vramcast.forecast import Forecast
from vramcast.gpt.device_forecast import training_job
from vramcast.gpt.forecast_first import forecast_first
from vramcast.gpt.loop import Loop
from vramcast.gpt.measured import highest_peaks, reset_peaks
from vramcast.gpt.processes import build_accelerator, launched_alone
from vramcast.gpt.report import Silence, TrainingReport, TrainingResult
from vramcast.gpt.run_folder import RunFolder
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.start import Start, begin, open_run
from vramcast.gpt.text import TextSpan, split_text
from vramcast.gpt.tokenizer import encode, vocabulary_sha256
from vramcast.gpt.tokens import TokenFiles, cached_tokens, check_lengths
from vramcast.gpt.trainee import Trainee
from vramcast.job import TrainingJob
from vramcast.measure.allocator_settings import differing_settings, set_allocator
from vramcast.measure.announcement import announced_run
from vramcast.record.building import quiet_transformers


def train(settings: TrainSettings, report: TrainingReport | None = None) -> TrainingResult:
    """Train a model, or go on with one. `vramcast watch` knows of the run while it lasts.

    Under torchrun or accelerate launch every process calls this; the main one reports and writes.

    Raises:
        InputError: a setting or a file is not usable.
        DoesNotFitError: the forecast says so and `settings.force` is not set; nothing was started.
        TrainingError: the loss or a weight is no longer finite.
    """
    quiet_transformers()
    about_allocator = set_allocator("expandable_segments:True") if settings.expandable_segments else []
    spans = split_text(settings.input.expanduser(), settings.validation_fraction)
    accelerator = build_accelerator(settings)
    report = report if report is not None and accelerator.is_main_process else Silence()
    run = RunFolder(settings.models_dir, settings.name)
    try:
        with accelerator.main_process_first():
            open_run(run, settings, accelerator.is_main_process)
            start = begin(settings, run, spans)
        job = training_job(settings, start.config)
        if accelerator.device.type == "cuda":
            about_allocator += differing_settings(AllocatorConfig(expandable_segments=job.expandable_segments))
        for note in (*launched_alone(accelerator), *about_allocator):
            report.note(note)
        forecast = forecast_first(settings, job, start.config, accelerator, report)
        files = _tokens(settings, job, run, spans, start, accelerator, report)
        loop = _loop(settings, job, run, files, start, accelerator, report)
        with announced_run(forecast):
            loop.go()
    finally:
        if accelerator.is_main_process:
            run.discard_building()
    result = _result(loop, forecast)
    report.end(result)
    if accelerator.num_processes > 1:
        accelerator.end_training()
    return result


def _tokens(
    settings: TrainSettings,
    job: TrainingJob,
    run: RunFolder,
    spans: tuple[TextSpan, TextSpan],
    start: Start,
    accelerator: Accelerator,
    report: TrainingReport,
) -> TokenFiles:
    """The text as tokens on disk, next to the model."""
    assert job.sequence_length is not None
    with accelerator.main_process_first():
        files = cached_tokens(
            run.here / "tokens",
            spans,
            lambda text: encode(start.tokenizer, text),
            vocabulary_sha256(start.tokenizer),
            report.working,
        )
    check_lengths(files, job.sequence_length, settings.input)
    return files


def _loop(
    settings: TrainSettings,
    job: TrainingJob,
    run: RunFolder,
    files: TokenFiles,
    start: Start,
    accelerator: Accelerator,
    report: TrainingReport,
) -> Loop:
    """The model on the device, new and saved once, or as its checkpoint left it."""
    reset_peaks(accelerator.device)
    trainee = Trainee.build(settings, job, start, accelerator)
    if start.state is None:
        trainee.save_first(run, start, vocabulary_sha256(start.tokenizer))
        return Loop(settings, trainee, files, run, report, first=0)
    trainee.restore(start.state)
    report.note(f"going on from step {start.state.step} of {run.place}")
    if settings.pretrained is not None:
        report.note(
            f"--from {settings.pretrained} is not read again: {run.place} has begun; --no-resume starts over from it"
        )
    return Loop(settings, trainee, files, run, report, first=start.state.step)


def _result(loop: Loop, forecast: Forecast) -> TrainingResult:
    accelerator = loop.trainee.accelerator
    device = accelerator.device
    return TrainingResult(
        name=loop.settings.name,
        path=str(loop.run.place),
        ending="done" if loop.step >= loop.settings.max_iters else "interrupted",
        signal_number=loop.signal_number,
        step=loop.step,
        resumed_from=loop.first or None,
        losses=tuple(loop.log.losses),
        validation=loop.validation,
        tokens_per_second=loop.tokens_per_second,
        parameters=loop.trainee.parameters,
        device=device.type,
        processes=accelerator.num_processes,
        forecast=forecast,
        measured=highest_peaks(accelerator),
    )
