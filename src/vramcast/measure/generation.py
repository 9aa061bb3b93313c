"""Measures a generation job: its forecast first, then greedy `model.generate` with random weights on the device that is present."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vramcast.forecast.answer import built_from, checked_generation, generation_source
from vramcast.job import GenerationJob
from vramcast.measure.job_run import JobRun, measured_job
from vramcast.measure.stages import AllocatorStage
from vramcast.record.building import DTYPES, ModelBuilder, attention_backend
from vramcast.record.caches import cached_tensors
from vramcast.record.generation_loop import generate_greedily

if TYPE_CHECKING:
    from collections.abc import Callable

    from vramcast.hardware import GPU
    from vramcast.measure.measurement import Measurement
    from vramcast.measure.storage_watch import StorageWatch
    from vramcast.progress import Progress


def measure_generation(
    job: GenerationJob,
    *,
    offline: bool = False,
    trace: bool = False,
    snapshot: Path | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Forecast a generation job, run it, and set both side by side; arguments and errors as for `measure_training`."""

    def prepare(present: GPU | None) -> _GenerationRun:
        config, asked = checked_generation(job, offline)
        gpu = present or asked
        source = generation_source(job, config, gpu, trace=trace, progress=progress)
        return _GenerationRun(
            job, config, built_from(source, job, "generation", config, gpu, progress).forecast, source
        )

    return measured_job(prepare, snapshot=snapshot)


class _GenerationRun(JobRun[GenerationJob]):
    """A generation job on a real device."""

    workload = "generation"
    sizes = "batch_size x prompt_length x max_new_tokens"

    def builder(self) -> ModelBuilder:
        """See `JobRun`."""
        return ModelBuilder(self.config, attention=self.job.attention, dtype=DTYPES[self.job.precision])

    def run_on_cuda(self, built: Any) -> tuple[Any, list[dict[str, Any]]]:
        """See `JobRun`."""
        stage = AllocatorStage(self.vocab_size(built))
        model = built.to(stage.device).eval()
        stage.end("after_load")
        prompt, attention_mask = self._inputs(stage.device, model)
        self._generate(model, prompt, attention_mask, lambda name, cache: stage.end(name) if name else None)
        return model, stage.marks

    def run_watched(self, watch: StorageWatch, built: Any, before: Any = None) -> Any:
        """See `JobRun`; after a run on CUDA all of it is done again."""
        model = built.to(watch.device).eval()
        watch.adopt(model)
        watch.mark("after_load")
        prompt, attention_mask = self._inputs(watch.device, model)
        for tensor in (prompt, attention_mask):
            watch.set_category(tensor, "inputs")
        phases = ExitStack()

        def forward_done(name: str, cache: Any) -> None:
            for tensor in cached_tensors(cache):
                watch.set_category(tensor, "kv_cache")
            if name == "after_prefill":
                phases.enter_context(watch.in_phase("decode"))
            if name:
                watch.mark(name)

        with watch.in_phase("prefill"), phases:
            self._generate(model, prompt, attention_mask, forward_done)
        return model

    def _inputs(self, device: str, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.job.batch_size, self.job.prompt_length)
        prompt = torch.randint(self.vocab_size(model), shape).to(device)
        return prompt, torch.ones(shape, dtype=torch.long, device=device)

    def _generate(
        self, model: Any, prompt: torch.Tensor, attention_mask: torch.Tensor, forward_done: Callable[[str, Any], None]
    ) -> None:
        """`forward_done` is called after every forward pass with the mark it ends at (or nothing) and the cache."""
        names = {1: "after_prefill", self.job.max_new_tokens: "after_decode"}
        forwards = 0

        def hook(module: Any, args: Any, output: Any) -> None:
            nonlocal forwards
            forwards += 1
            forward_done(names.get(forwards, ""), getattr(output, "past_key_values", None))

        handle = model.register_forward_hook(hook)
        try:
            with attention_backend(self.job.attention):
                generate_greedily(self.job, model, prompt, attention_mask)
        finally:
            handle.remove()
