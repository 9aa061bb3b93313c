"""A generation job on real hardware: greedy `model.generate`, as vramcast's recorder runs it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from validation.campaign_jobs import CampaignJob
from validation.campaign_training import model_config
from vramcast.record.building import DTYPES, ModelBuilder, attention_backend
from vramcast.record.caches import cached_tensors
from vramcast.record.generation_loop import generate_greedily

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

_DEFAULTS = {
    "batch_size": 1,
    "prompt_length": 512,
    "max_new_tokens": 128,
    "precision": "bf16",
    "kv_cache_dtype": None,
    "cache": "dynamic",
    "attention": "sdpa",
}


def run_generation(job: CampaignJob, machine: Machine, ready: Callable[[], None]) -> dict[str, Any]:
    """The prefill and every decode step; `ready` is called after the part that needs no GPU."""
    options = SimpleNamespace(**(_DEFAULTS | job.options()))
    build = ModelBuilder(model_config(job), attention=options.attention, dtype=DTYPES[options.precision])
    built = None if machine.kind == "virtual" else build()
    ready()
    with machine.entered():
        model = (build() if built is None else built).to(machine.device).eval()
        machine.adopt(model)
        machine.mark("after_load")
        with attention_backend(options.attention):
            _generate(options, machine, model)
        machine.synchronize()
        return machine.readings()


def _generate(options: SimpleNamespace, machine: Machine, model: Any) -> None:
    shape = (options.batch_size, options.prompt_length)
    machine.vocab_size = model.config.get_text_config().vocab_size
    prompt = machine.batch(*shape)
    attention_mask = torch.ones(shape, dtype=torch.long, device=machine.device)
    machine.set_category(attention_mask, "inputs")
    forwards = 0

    def forward_done(module: Any, args: Any, output: Any) -> None:
        nonlocal forwards
        forwards += 1
        for tensor in cached_tensors(output.past_key_values):
            machine.set_category(tensor, "kv_cache")
        if forwards == 1:
            machine.mark("after_prefill")
        elif forwards == options.max_new_tokens:
            machine.mark("after_decode")

    handle = model.register_forward_hook(forward_done)
    with machine.in_phase("prefill"):
        generate_greedily(options, model, prompt, attention_mask)
    handle.remove()
