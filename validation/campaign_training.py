"""A training job on real hardware: the loop that vramcast's recorder runs, on a machine that reads at every mark."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from validation.campaign_jobs import CampaignJob
from vramcast.record.building import ModelBuilder, weight_dtype
from vramcast.record.training_loop import Trained
from vramcast.record.training_loop import run_training as run_loop

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

_DEFAULTS = {
    "batch_size": 1,
    "precision": "fp32",
    "optimizer": "adamw",
    "attention": "sdpa",
    "checkpointing": "none",
    "dropout": None,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": None,
}


def training_options(job: CampaignJob) -> SimpleNamespace:
    """The job's options, defaults filled in as `vramcast.job.TrainingJob` fills them in."""
    return SimpleNamespace(**(_DEFAULTS | job.options()))


def model_config(job: CampaignJob) -> Any:
    """What `vramcast.record.building.ModelBuilder` reads of a model's configuration."""
    fields = job.config()
    return SimpleNamespace(name=job.fields["model"], model_type=fields["model_type"], fields=fields)


def run_training(job: CampaignJob, machine: Machine, ready: Callable[[], None]) -> dict[str, Any]:
    """Three optimizer steps; `ready` is called after the part that needs no GPU."""
    options = training_options(job)
    build = ModelBuilder(
        model_config(job),
        attention=options.attention,
        dtype=weight_dtype(options.precision),
        dropout=options.dropout,
    )
    # The virtual GPU wants to see the birth of the parameters; a real one only their move.
    built = None if machine.kind == "virtual" else build()
    ready()
    with machine.entered():
        trained = train(options, machine, build() if built is None else built)
        readings = machine.readings()
        del trained
    return readings


def train(options: SimpleNamespace, machine: Machine, built: Any) -> Trained:
    """Move the model to the device and run the steps."""
    machine.vocab_size = built.config.get_text_config().vocab_size
    machine.adopt(built)
    trained = run_loop(options, machine, built)
    machine.synchronize()
    if trained.scaler is not None:
        # A scale below the first one tells of steps that the scaler skipped, and of states that came later.
        machine.notes["loss_scale"] = trained.scaler.get_scale()
    return trained
