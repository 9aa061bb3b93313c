"""The probes by name."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from validation.campaign_jobs import CampaignJob
from validation.campaign_probe_attention import scratch_attention, sdpa_choice
from validation.campaign_probe_attention_memory import cudnn_attention, split_kv
from validation.campaign_probe_context import context
from validation.campaign_probe_cublas import cublas
from validation.campaign_probe_operators import saved, scratch_operators
from validation.campaign_probe_replay import replay_history

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "context": context,
    "cublas": cublas,
    "sdpa_choice": sdpa_choice,
    "scratch_attention": scratch_attention,
    "split_kv": split_kv,
    "cudnn_attention": cudnn_attention,
    "scratch_operators": scratch_operators,
    "saved": saved,
    "replay": replay_history,
}


def run_probe(job: CampaignJob, machine: Machine, ready: Callable[[], None]) -> dict[str, Any]:
    """The answers of one probe.

    Raises:
        RuntimeError: probes ask a CUDA allocator, real or simulated.
    """
    if not machine.has_allocator:
        raise RuntimeError("a probe needs --device cuda or --device virtual")
    ready()
    fields = {key: value for key, value in job.fields.items() if key != "probe"}
    with machine.entered(), _small_heap():
        return {"answers": PROBES[job.fields["probe"]](machine=machine, job=job, **fields)}


@contextmanager
def _small_heap() -> Iterator[None]:
    """Set the objects of the imported libraries aside, so that collecting before every observation costs nothing."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
