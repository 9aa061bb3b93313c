"""One run of `model.generate` on a fresh virtual GPU, stopped after as many decode steps as are wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from vramcast.errors import InputError
from vramcast.record.building import attention_backend
from vramcast.record.caches import cached_tensors
from vramcast.record.decode_unrolling import GenerationRun
from vramcast.record.failures import explained
from vramcast.record.generation_loop import generate_greedily
from vramcast.timeline import Timeline
from vramcast.timeline.decode import AFTER_DECODE
from vramcast.virtual_cuda import VirtualGPU

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.job import GenerationJob
    from vramcast.virtual_cuda.operator_log import OperatorInterval

MAX_MASK_ELEMENTS = 1 << 24
"""Elements of the padding mask that are followed by value; beyond, its content (no padding) could not be known."""

MOST_INTERVALS = 8


class _EnoughSteps(Exception):
    """Leaves `generate` once the wanted steps are recorded."""


def run_generation(
    job: GenerationJob,
    build: Callable[[], Any],
    gpu: GPU,
    *,
    stop_after: int | None = None,
    keeps_empty_scratch: bool = False,
) -> GenerationRun:
    """Run the job, or its prefill and the first `stop_after` decode steps.

    Greedy decoding that never stops early, as `generate(input_ids, attention_mask=ones, do_sample=False,
    use_cache=True)` runs it, in eager mode. Marks: `after_load`; `after_prefill` and `decode_step` at the end of a
    forward pass; `after_decode` at the end of the last one. What follows a forward pass (choosing the token) belongs to
    the next step. With `keeps_empty_scratch` the run can stand for other sizes (see `VirtualGPU`).
    """
    sizes = "batch_size x prompt_length x max_new_tokens"
    with explained(job, sizes), VirtualGPU(gpu, keeps_empty_scratch=keeps_empty_scratch) as machine:
        _follow_mask_by_value(machine, job)
        with machine.in_phase("load"):
            model = build().to("cuda").eval()
        machine.mark("after_load")
        watch = _StepWatch(machine, job.max_new_tokens, stop_after)
        run = GenerationRun(machine.timeline, len(machine.timeline.allocations), watch.boundaries, watch.flops)
        run.parameters = sum(parameter.numel() for parameter in model.parameters())
        with attention_backend(job.attention):
            watch.follow(model, lambda: _generate(job, machine, model))
        run.timeline = run.head(stop_after) if stop_after is not None else _copied(machine.timeline)
        run.kernels, run.sliding_windows = dict(machine.kernels), watch.sliding_windows
        run.assumptions = machine.assumptions.sentences()
        run.operators = {name: interval.table() for name, interval in watch.operators.items()}
        run.section_operators = [interval.table() for interval in watch.intervals]
        run.attention_choices = list(machine.attention_choices)
    return run


def _copied(timeline: Timeline) -> Timeline:
    return Timeline(list(timeline.allocations), list(timeline.events), list(timeline.marks))


def _generate(job: GenerationJob, machine: VirtualGPU, model: Any) -> None:
    shape = (job.batch_size, job.prompt_length)
    prompt = machine.host_tensor(shape, torch.long).to("cuda")
    attention_mask = torch.ones(shape, dtype=torch.long, device="cuda")
    machine.categories.set(attention_mask, "inputs")
    with machine.in_phase("prefill"):
        generate_greedily(job, model, prompt, attention_mask)


class _StepWatch:
    """Hooks on the model's forward pass: marks, boundaries, categories of the cache."""

    def __init__(self, machine: VirtualGPU, max_new_tokens: int, stop_after: int | None) -> None:
        self.machine = machine
        self.max_new_tokens = max_new_tokens
        self.stop_after = stop_after
        self.boundaries: list[int] = []
        self.flops: list[int] = []
        self.operators: dict[str, OperatorInterval] = {}
        self.intervals: list[OperatorInterval] = []
        """Of each forward pass; more than a handful are not kept."""
        self.sliding_windows: tuple[int, ...] = ()
        self._interval = machine.operators.begin()
        self._phase = ExitStack()

    def follow(self, model: Any, generate: Callable[[], None]) -> None:
        """Call `generate` with the hooks in place; returns when it is done or enough steps were seen."""
        with self._phase:
            handle = model.register_forward_hook(self._forward_done)
            try:
                generate()
            except _EnoughSteps:
                pass
            finally:
                handle.remove()

    def _forward_done(self, model: Any, args: Any, output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        for tensor in cached_tensors(cache):
            self.machine.categories.set(tensor, "kv_cache")
        forwards = len(self.boundaries) + 1
        if forwards == 1:
            windows = {getattr(layer, "sliding_window", None) for layer in getattr(cache, "layers", ())}
            self.sliding_windows = tuple(sorted(window for window in windows if isinstance(window, int)))
            self._phase.enter_context(self.machine.in_phase("decode"))
            self.machine.mark("after_prefill")
        else:
            self.machine.mark(AFTER_DECODE if forwards == self.max_new_tokens else "decode_step")
        self.boundaries.append(len(self.machine.timeline.events))
        self.flops.append(self.machine.flops)
        self._cut_operators(forwards)
        if self.stop_after is not None and forwards == self.stop_after + 1:
            raise _EnoughSteps

    def _cut_operators(self, forwards: int) -> None:
        """A forward pass ends an interval; what chooses its token begins the next."""
        ended = self.machine.operators.end(self._interval)
        self._interval = self.machine.operators.begin()
        if forwards <= MOST_INTERVALS:
            self.intervals.append(ended)
        if forwards <= 2:
            self.operators["prefill" if forwards == 1 else "first_decode_step"] = ended
        if forwards > 1:
            self.operators["last_decode_step"] = ended


def _follow_mask_by_value(machine: VirtualGPU, job: GenerationJob) -> None:
    """Whether the padding mask is all ones decides if attention gets a dense mask, so it must be known at any length."""
    elements = job.batch_size * (job.prompt_length + job.max_new_tokens)
    if elements > MAX_MASK_ELEMENTS:
        fix = (
            f"batch_size x (prompt_length + max_new_tokens) is {elements}; at most {MAX_MASK_ELEMENTS} can be recorded"
        )
        raise InputError("batch_size", job.batch_size, fix)
    machine.max_known_elements = max(machine.max_known_elements, elements)
