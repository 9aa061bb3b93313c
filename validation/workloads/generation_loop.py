"""Runs a hand-written generation loop on the virtual GPU and replays all its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from validation.workloads.result import WorkloadResult
from vramcast.allocator import replay
from vramcast.allocator.decode_replay import replay_generation
from vramcast.forecast.room import room_of
from vramcast.hardware import find_gpu
from vramcast.record.decode_unrolling import GenerationRun, unroll_generation
from vramcast.virtual_cuda import VirtualGPU


class Decoder(Protocol):
    """A model with its cache; made anew for every run."""

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """Prepare caches, after loading and before the prompt is read."""

    def forward(self, token_ids: torch.Tensor) -> Any:
        """Read tokens (the prompt, then one at a time)."""

    def next_token(self, token_ids: torch.Tensor, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(all tokens so far, what to read next)."""


@dataclass(frozen=True)
class Workload:
    """What a publisher ran."""

    build: Callable[[], Decoder]
    prompt_length: int
    max_new_tokens: int
    gpu: str = "a100-80gb"
    torch_version: str = "2.3.1"
    keeps_output: bool = False
    """The loop holds on to the output of a forward pass until the next one is done."""


class _Enough(Exception):
    """Enough steps are recorded."""


def run_workload(workload: Workload, notes: str) -> WorkloadResult:
    """Peaks of the whole generation, every step replayed."""

    def run(prompt_length: int, max_new_tokens: int, stop_after: int | None = None) -> GenerationRun:
        return _run(workload, prompt_length, max_new_tokens, stop_after)

    room = room_of(find_gpu(workload.gpu))
    unrolled = unroll_generation(run, workload.prompt_length, workload.max_new_tokens)
    if unrolled.decode is None:
        whole = replay(unrolled.timeline)
        return WorkloadResult(whole.peak_allocated_bytes, whole.peak_reserved_bytes, notes, room=room)
    result = replay_generation(unrolled.timeline, unrolled.decode)
    place = f"decode step {result.peak_step}" if result.peak_step else "loading, prefill or the first steps"
    notes = f"{notes} Peak in {place}."
    return WorkloadResult(result.peak_allocated_bytes, result.peak_reserved_bytes, notes, room=room)


def _run(workload: Workload, prompt_length: int, max_new_tokens: int, stop_after: int | None) -> GenerationRun:
    with VirtualGPU(find_gpu(workload.gpu), torch_version=workload.torch_version) as machine:
        decoder = workload.build()
        run = GenerationRun(machine.timeline, len(machine.timeline.allocations), [], [])

        def forward_done() -> None:
            run.boundaries.append(len(machine.timeline.events))
            run.flops.append(machine.flops)
            if stop_after is not None and len(run.boundaries) == stop_after + 1:
                raise _Enough

        try:
            with torch.no_grad():
                prompt = machine.host_tensor((1, prompt_length), torch.long).to("cuda")
                _loop(decoder, prompt, prompt_length, max_new_tokens, forward_done, workload.keeps_output)
        except _Enough:
            run.timeline = run.head(stop_after or 0)
    return run


def _loop(
    decoder: Decoder,
    token_ids: torch.Tensor,
    prompt_length: int,
    max_new_tokens: int,
    forward_done: Callable[[], None],
    keeps_output: bool,
) -> None:
    decoder.start(prompt_length, max_new_tokens)
    following = token_ids
    for _ in range(max_new_tokens):
        output = decoder.forward(following)
        forward_done()
        token_ids, following = decoder.next_token(token_ids, output)
        if not keeps_output:
            del output
