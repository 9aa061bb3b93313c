"""Training runs of "Build a Large Language Model From Scratch", ch05/10: GPT-2 124M, batch 8, context 1024, on an A100.

The script evaluates on one batch of each set every 15 steps, samples 50 tokens after each epoch and prints what is
reserved at the end; reserved memory never shrinks, so that is its peak.

Source: github.com/rasbt/LLMs-from-scratch, ch05/10_llm-training-speed/00_orig.py and README.md (steps 1, 5 and 7).
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from validation.workloads.result import WorkloadResult, result_of
from validation.workloads.training_gpt import CONTEXT, GPT, GPTVariant
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

GPU = "a100-80gb"
TORCH_VERSION = "2.6.0"
EPOCHS = 2
STEPS_PER_EPOCH = 4
"""Of 15 epochs with 51 steps: steps of equal shapes repeat the memory of the ones before."""
EVALUATE_EVERY = 3
SAMPLED_TOKENS = 50
PROMPT_TOKENS = 4
"""Tokens of the prompt "Every effort moves you"."""


class Run:
    """The script's loop on batches of unknown content."""

    def __init__(self, machine: VirtualGPU, row: dict[str, Any], model: GPT, optimizer: torch.optim.Optimizer) -> None:
        self.machine, self.model, self.optimizer = machine, model, optimizer
        self.shape = row["batch_size"], row["seq_len"]

    def batch_loss(self) -> Tensor:
        """Mean cross entropy of one batch; logits die on return, unless autograd keeps them."""
        token_ids, targets = (self.machine.host_tensor(self.shape, torch.long).to("cuda") for _ in range(2))
        logits = self.model(token_ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return loss

    @torch.no_grad()
    def evaluate(self) -> None:
        """One batch of the training set and one of the validation set, in evaluation mode."""
        self.model.eval()
        for _ in range(2):
            self.batch_loss().item()
        self.model.train()

    @torch.no_grad()
    def sample(self) -> None:
        """Greedy decoding without a cache."""
        self.model.eval()
        token_ids = torch.zeros(1, PROMPT_TOKENS, dtype=torch.long).to("cuda")
        for _ in range(SAMPLED_TOKENS):
            context = token_ids[:, -CONTEXT:]
            logits = self.model(context)
            logits = logits[:, -1, :]
            chosen = torch.argmax(logits, dim=-1, keepdim=True)
            token_ids = torch.cat((token_ids, chosen), dim=1)
        self.model.train()

    def train(self) -> None:
        """Gradients are dropped before each step, not after it."""
        step = 0
        for _ in range(EPOCHS):
            for _ in range(STEPS_PER_EPOCH):
                self.optimizer.zero_grad()
                loss = self.batch_loss()
                loss.backward()
                self.optimizer.step()
                if step % EVALUATE_EVERY == 0:
                    self.evaluate()
                step += 1
            self.sample()


def forecast_run(row: dict[str, Any], *, variant: GPTVariant) -> WorkloadResult:
    """Peaks of the run; bf16 rows hold weights in bf16 and step with the fused AdamW."""
    half = row["weight_dtype"] == "bf16"
    with VirtualGPU(find_gpu(GPU), torch_version=TORCH_VERSION, record=False) as machine:
        model = GPT(variant)
        model.to("cuda")
        if half:
            model.to(torch.bfloat16)
        fused = {"fused": True} if half else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1, **fused)
        Run(machine, row, model, optimizer).train()
        return result_of(machine)


WORKLOADS = {
    "rasbt-001": partial(forecast_run, variant=GPTVariant()),
    "rasbt-002": partial(forecast_run, variant=GPTVariant("mask on the fly")),
    "rasbt-003": partial(forecast_run, variant=GPTVariant("mask on the fly")),
    "rasbt-005": partial(forecast_run, variant=GPTVariant("fused", fused_layers=True)),
}
