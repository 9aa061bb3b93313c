"""BERT-large fine-tuning runs of the transformers performance guide (2022), read with nvidia-smi on a V100.

The Trainer of 4.15 clips gradients, steps, and then zeroes gradients in place: their buffers are kept. Weights that
decay come first in the optimizer. The context is the guide's own reading, taken after one tensor was put on the GPU;
that tensor's segment is not counted twice.

Source: github.com/huggingface/transformers, docs/source/en/perf_train_gpu_one.md (2022) and
src/transformers/trainer.py at v4.15.0.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from validation.workloads.result import WorkloadResult, result_of
from validation.workloads.training_bert import BertClassifier
from validation.workloads.training_old_optimizers import LoopAdafactor, LoopAdamW, clip_gradients
from vramcast.hardware import find_gpu
from vramcast.units import MIB
from vramcast.virtual_cuda import VirtualGPU

GPU = "v100-16gb"
TORCH_VERSION = "2.0.0"
"""The oldest whose workspaces are known. The run had about 1.10, whose cuBLAS took its workspaces from the driver
itself: nvidia-smi sees them either way."""
CONTEXT_BYTES = 1343 * MIB
SMALL_SEGMENT_BYTES = 2 * MIB
STEPS = 3


class Run:
    """The Trainer's loop."""

    def __init__(self, machine: VirtualGPU, row: dict[str, Any], optimizer: type[torch.optim.Optimizer]) -> None:
        self.machine, self.shape = machine, (row["batch_size"], row["seq_len"])
        self.micro_batches: int = row["extra"]["grad_accum"]
        self.half = row["precision_mode"] == "amp_fp16"
        self.model = BertClassifier(checkpointing=row["checkpointing"] == "full").to("cuda").train()
        self.scaler = torch.amp.GradScaler("cuda") if self.half else None
        # Biases and norms do not decay and are stepped after the rest.
        parameters = sorted(
            self.model.named_parameters(), key=lambda item: "norm" in item[0] or item[0].endswith("bias")
        )
        self.optimizer = optimizer([parameter for _, parameter in parameters])

    def micro_batch(self) -> Tensor:
        """Forward and backward of one micro batch; the loss without its graph."""
        token_ids = self.machine.host_tensor(self.shape, torch.long).to("cuda")
        labels = self.machine.host_tensor(self.shape[:1], torch.long).to("cuda")
        with torch.autocast("cuda", torch.float16) if self.half else nullcontext():
            loss = self.model(token_ids, labels)
        if self.micro_batches > 1:
            loss = loss / self.micro_batches
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()

    def step(self) -> None:
        """One optimizer step."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        clip_gradients(self.model.parameters())
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.model.zero_grad(set_to_none=False)

    def train(self) -> None:
        """A few steps; the total loss is kept on the GPU."""
        total = torch.tensor(0.0).to("cuda")
        for _ in range(STEPS):
            for _ in range(self.micro_batches):
                total += self.micro_batch()
            self.step()


def forecast_run(row: dict[str, Any], *, optimizer: type[torch.optim.Optimizer]) -> WorkloadResult:
    """Peaks of the run, with the published context beside them."""
    with VirtualGPU(find_gpu(GPU), torch_version=TORCH_VERSION, record=False) as machine:
        Run(machine, row, optimizer).train()
        return result_of(machine, device_extra_bytes=CONTEXT_BYTES - SMALL_SEGMENT_BYTES)


WORKLOADS = {
    "hfbert-001": partial(forecast_run, optimizer=LoopAdamW),
    "hfbert-003": partial(forecast_run, optimizer=LoopAdamW),
    "hfbert-005": partial(forecast_run, optimizer=LoopAdamW),
    "hfbert-006": partial(forecast_run, optimizer=LoopAdafactor),
}
