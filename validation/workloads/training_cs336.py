"""Snapshots of a course assignment (CS336, assignment 2), taken by two profiling scripts.

Source: `cs336_systems/nsys_profile.py` in github.com/Wedsonlin/assignment2-systems at 87b08641, `cs336_systems/benchmarking_script.py` in
github.com/MAGMA27/assignment2-systems at 143265cb.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from validation.workloads.result import WorkloadResult, result_of
from validation.workloads.training_cs336_model import CourseAdamW, Transformer, cross_entropy
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

GPU = "a100-80gb"
NOTES = "The card is not named; its cuBLAS workspace of 8.125 MiB is not Hopper's, and an A100 is taken."
BACKWARD_NOTES = (
    f"{NOTES} The recorder makes one buffer too many in the backward of gather and max: autograd works out of place where a dispatch mode "
    "is on."
)
CAST_NOTES = (
    f"{NOTES} PyTorch since 2.10 keeps no cast weight under inference_mode (pull request 165068); the recorder keeps each until "
    "autocast ends."
)
VOCABULARY = 10_000
BATCHES, WARM_UP = 5, 2
"""Batches that are on the GPU before the measured one, and steps taken with them here: each repeats the memory of the one before."""


def profile_step(row: dict[str, Any]) -> WorkloadResult:
    """`nsys_profile.py --memory-profiler pytorch`: some steps, then the one whose peak is read; or forward passes alone."""
    shape = (row["batch_size"], row["seq_len"])
    mixed = "autocast" in row["precision_mode"]
    with VirtualGPU(find_gpu(GPU), torch_version="2.11.0", record=False) as machine:
        model = Transformer(row["model"], row["seq_len"]).to("cuda")
        optimizer = CourseAdamW(model.parameters())
        token_ids = [torch.randint(VOCABULARY, (steps, *shape), device="cuda") for steps in (BATCHES, 1)]
        if row["workload"] == "train":
            _train(model, optimizer, token_ids, mixed)
        else:
            _infer(model, token_ids, mixed)
        notes = BACKWARD_NOTES if row["workload"] == "train" else CAST_NOTES if mixed else NOTES
        return result_of(machine, notes)


def _train(model: Transformer, optimizer: CourseAdamW, token_ids: list[Tensor], mixed: bool) -> None:
    targets = [torch.randint(VOCABULARY, each.shape, device="cuda") for each in token_ids]
    for i in range(WARM_UP):
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            output = model(token_ids[0][i])
            loss = cross_entropy(output, targets[0][i])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    del output, loss
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        output = model(token_ids[1][0])
        loss = cross_entropy(output, targets[1][0])
    loss.backward()
    optimizer.step()


def _infer(model: Transformer, token_ids: list[Tensor], mixed: bool) -> None:
    model.eval()
    with torch.inference_mode():
        for i in range(WARM_UP):
            with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
                model(token_ids[0][i])
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            model(token_ids[1][0])


def accumulate(row: dict[str, Any]) -> WorkloadResult:
    """`benchmarking_script.py`: forward, loss and backward of one batch again and again; nobody drops the gradients."""
    shape = (row["batch_size"], row["seq_len"])
    with VirtualGPU(find_gpu(GPU), torch_version="2.11.0", record=False) as machine:
        model = Transformer(row["model"], row["seq_len"]).to("cuda")
        token_ids, targets = (torch.randint(VOCABULARY, shape).to("cuda") for _ in range(2))
        for step in range(WARM_UP + 1):
            if step == WARM_UP:
                torch.cuda.reset_peak_memory_stats()
            logits = model(token_ids)
            loss = cross_entropy(logits, targets)
            loss.backward()
        return result_of(machine, BACKWARD_NOTES)


_CASES = [
    f"{kind}{tokens}" for kind, lengths in (("i", (128, 256, 512)), ("t", (128, 256, 512, 1024))) for tokens in lengths
]
WORKLOADS = {f"csw-{case}{figure}": profile_step for case in _CASES for figure in "ar"}
WORKLOADS |= {f"csm-1{figure}": accumulate for figure in "ar"}
