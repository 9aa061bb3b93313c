"""Published training speeds beside the lower bounds on the time of the same step: no accepted measurement is faster."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from validation.workloads.training_gpt import CONTEXT, GPT, AttentionKind, GPTVariant
from vramcast.compute import TimeOptions, TrainingTime, training_time
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.timeline import OperatorTable
from vramcast.virtual_cuda import VirtualGPU

DATA = Path(__file__).parent / "data" / "training_speed.toml"
GPU = "a100-80gb"
TORCH_VERSION = "2.6.0"
BATCH_SIZE = 8


@dataclass(frozen=True)
class PublishedSpeed:
    """One row of the data file: what is switched on, and how fast it was."""

    name: str
    tokens_per_second: int
    attention: AttentionKind = "mask buffer"
    fused_layers: bool = False
    fused_optimizer: bool = False
    bfloat16: bool = False
    tf32: bool = False
    compiled: bool = False


def load_speeds() -> list[PublishedSpeed]:
    """All rows, in the order of the page."""
    return [PublishedSpeed(**row) for row in tomllib.loads(DATA.read_text(encoding="utf-8"))["row"]]


def highest_speed(row: PublishedSpeed) -> float:
    """Tokens per second that the row cannot exceed: of the recorded code where it ran eagerly, else of any implementation."""
    time = bound_of(row)
    highest = time.any_implementation.highest_tokens_per_second if row.compiled else time.highest_tokens_per_second
    assert highest is not None
    return highest


def bound_of(row: PublishedSpeed) -> TrainingTime:
    """Lower bounds of one optimizer step of the publisher's model and loop."""
    job = TrainingJob(
        model="gpt2",
        batch_size=BATCH_SIZE,
        sequence_length=CONTEXT,
        precision="bf16" if row.bfloat16 else "fp32",
    )
    return training_time(record_step(row), find_gpu(GPU), job, TimeOptions(allow_tf32=row.tf32))


def record_step(row: PublishedSpeed) -> OperatorTable:
    """Operators of the second step, the first in which the optimizer has its states."""
    with VirtualGPU(find_gpu(GPU), torch_version=TORCH_VERSION, record=False) as machine:
        model = GPT(GPTVariant(row.attention, row.fused_layers))
        model.to("cuda", torch.bfloat16 if row.bfloat16 else torch.float32)
        fused = {"fused": True} if row.fused_optimizer else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1, **fused)

        def step() -> None:
            optimizer.zero_grad()
            token_ids, targets = (machine.host_tensor((BATCH_SIZE, CONTEXT), torch.long).to("cuda") for _ in range(2))
            F.cross_entropy(model(token_ids).flatten(0, 1), targets.flatten()).backward()
            optimizer.step()

        step()
        interval = machine.operators.begin()
        step()
        return machine.operators.end(interval).table()
