"""What is trained: model and optimizer as the forecast has them, on one process or several; saved, and restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from vramcast.gpt.checkpoint import TrainerState, restore_optimizer, save_checkpoint
from vramcast.gpt.model_folder import write_config
from vramcast.gpt.processes import spread
from vramcast.gpt.run_folder import RunFolder
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.start import Start
from vramcast.gpt.writing import writing
from vramcast.job import TrainingJob
from vramcast.record.building import enable_checkpointing
from vramcast.record.optimizers import build_optimizer


@dataclass
class Trainee:
    """A model with its optimizer."""

    accelerator: Accelerator
    model: nn.Module
    """As it is called: spread over processes or not."""
    bare: Any
    """The model inside."""
    optimizer: torch.optim.Optimizer
    stepping: Any
    """The optimizer as it is stepped: behind amp-fp16's gradient scaler, if there is one."""
    parameters: int
    """Elements of all parameters, tied ones once."""
    job: TrainingJob

    @classmethod
    def build(cls, settings: TrainSettings, job: TrainingJob, start: Start, accelerator: Accelerator) -> Trainee:
        """Model and optimizer on the device; a checkpoint's states are not in yet."""
        set_seed(settings.seed)
        bare = start.build(job, "--from" if start.state is None else "--name")
        if job.checkpointing == "full":
            enable_checkpointing(bare)
        parameters = sum(parameter.numel() for parameter in bare.parameters())
        model = spread(bare, accelerator, settings.distributed).train()
        optimizer = build_optimizer(job.optimizer, list(model.parameters()))
        stepping = accelerator.prepare_optimizer(optimizer)
        return cls(accelerator, model, bare, optimizer, stepping, parameters, job)

    def restore(self, state: TrainerState) -> None:
        """Optimizer states and gradient scaler of a checkpoint."""
        restore_optimizer(self.model, self.optimizer, state)
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)

    def save_first(self, run: RunFolder, start: Start, vocabulary: str) -> None:
        """The checkpoint of a new model before its first step: a disk too small is found before hours of training."""
        if self.accelerator.is_main_process:
            with writing(run.place.parent, "nothing was trained"):
                write_config(run.here, self.bare, dict(start.config.fields), vocabulary)
        self.save(run, 0)
        run.is_new = False

    def save(self, run: RunFolder, step: int) -> None:
        """A checkpoint after `step` steps."""
        scaler = self.accelerator.scaler
        state = TrainerState(step, self.job.optimizer, None if scaler is None else scaler.state_dict())
        save_checkpoint(run, self.model, self.bare, self.optimizer, state, self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
