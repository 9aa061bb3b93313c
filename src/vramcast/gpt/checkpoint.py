"""Saving a run and going on from it: weights in Hugging Face's format, optimizer states under the names of their parameters.

Every process calls these; states spread by DDP or FSDP2 are gathered, so one process can go on from what several have saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from vramcast.errors import InputError
from vramcast.gpt.errors import TrainingError
from vramcast.gpt.gpt2_format import to_gpt2
from vramcast.gpt.model import ReferenceGPTForCausalLM
from vramcast.gpt.run_folder import WEIGHTS, RunFolder, sha256_of
from vramcast.gpt.writing import as_readable_as_others, scratch_folder, writing

_WHOLE_ON_HOST = StateDictOptions(full_state_dict=True, cpu_offload=True)
_KEY = "vramcast"
_ONE_FILE = "100TB"


class TrainerState(NamedTuple):
    """What a run needs besides weights to go on. Batches and dropout follow from seed and step, so no random state is among it."""

    step: int
    """Optimizer steps done."""
    optimizer: str
    """Its name as a job writes it."""
    scaler: dict[str, Any] | None
    """State of the gradient scaler of amp-fp16."""
    path: Path | None = None
    """Where it was read from."""


def save_checkpoint(
    run: RunFolder, model: nn.Module, bare: Any, optimizer: torch.optim.Optimizer, state: TrainerState, is_main: bool
) -> None:
    """Put a checkpoint in place of the last one, which stays whole if anything fails.

    Args:
        run: the model's folder.
        model: as it is trained, spread over processes or not.
        bare: the model inside.
        optimizer: its states are gathered from step 1 on; before it there are none.
        state: what else is saved.
        is_main: this process writes.

    Raises:
        TrainingError: weights are not finite.
        InputError: the disk is full or cannot be written.
    """
    weights, gathered = gathered_states(model, optimizer, state.step)
    if not is_main:
        return
    moments = _moments(gathered)
    _check_finite(weights, run, state.step)
    kept = "nothing was trained" if run.is_new else f"the last checkpoint in {run.place} is whole"
    with scratch_folder(run.here / ".saving") as unfinished, writing(run.place.parent, kept):
        _save_weights(bare, weights, unfinished)
        path = run.state_path(unfinished, state.step)
        about = state._replace(path=None)._asdict() | {"model_sha256": sha256_of(unfinished / WEIGHTS)}
        save_file(moments, path, metadata={_KEY: json.dumps(about)})
        as_readable_as_others(unfinished)
        run.publish(unfinished / WEIGHTS, path)


def gathered_states(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Whole weights and optimizer states on the host of the main process; before the first step there are no states."""
    weights: Mapping[str, Any] = get_model_state_dict(model, options=_WHOLE_ON_HOST)
    return weights, get_optimizer_state_dict(model, optimizer, options=_WHOLE_ON_HOST) if step else {"state": {}}


def read_trainer_state(run: RunFolder) -> TrainerState:
    """The state that belongs to the weights in place.

    Raises:
        InputError: there are no weights, or no state of just these weights.
    """
    weights = run.place / WEIGHTS
    if not weights.is_file():
        raise InputError("--name", run.name, f"{run.place} has no {WEIGHTS}; remove the folder or take another name")
    sha256 = sha256_of(weights)
    for path in run.states():
        about = _read_about(path)
        if about is not None and about.pop("model_sha256") == sha256:
            return TrainerState(**about | {"path": path})
    raise InputError(
        "--name",
        run.name,
        f"no trainer state in {run.place} belongs to its {WEIGHTS}: the file was truncated or changed, or comes from elsewhere. "
        "Fine-tune it under another name with --from, or start over with --no-resume",
    )


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainerState) -> None:
    """Load the optimizer's states that belong to `state`; before the first step there are none."""
    assert state.path is not None
    with safe_open(state.path, framework="pt") as file:
        moments = {key: file.get_tensor(key) for key in file.keys()}
    if not moments:
        return
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in moments.items():
        parameter, _, kind = key.rpartition("/")
        states.setdefault(parameter, {})[kind] = tensor
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    group = {"params": list(states), **settings}
    whole: Any = {"state": states, "param_groups": [group]}
    set_optimizer_state_dict(model, optimizer, whole, options=StateDictOptions(full_state_dict=True))
    # Loading runs a step at a learning rate of zero to have states to load into, and leaves gradients behind.
    optimizer.zero_grad(set_to_none=True)


def _moments(states: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """`parameter/kind` -> tensor. Settings of the optimizer are not among them: they come from the command line."""
    return {
        f"{parameter}/{kind}": value.contiguous()
        for parameter, kinds in states["state"].items()
        for kind, value in kinds.items()
        if isinstance(value, torch.Tensor)
    }


def _save_weights(bare: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    if isinstance(bare, ReferenceGPTForCausalLM):
        save_file(to_gpt2(weights, bare.config), folder / WEIGHTS, metadata={"format": "pt"})
    else:
        bare.save_pretrained(folder, state_dict=dict(weights), max_shard_size=_ONE_FILE)


def _check_finite(weights: Mapping[str, torch.Tensor], run: RunFolder, step: int) -> None:
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise TrainingError(
                f"{name} is not finite after step {step}; nothing was saved, the last checkpoint in {run.place} is whole. "
                "Lower --learning-rate, or take --precision amp-bf16 or fp32"
            )


def _read_about(path: Path) -> dict[str, Any] | None:
    """What a trainer state says of itself; None where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads(file.metadata()[_KEY])
        return about
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
