"""Odds-ratio preference loss in plain PyTorch, the baseline of Liger's fused linear ORPO benchmark.

The batch's first half are chosen answers, the second half rejected ones. All fp32 log-probabilities of both are made at
once, beside the log-softmax of the cross entropy of the chosen half.

Source: github.com/linkedin/Liger-Kernel at 6b2fd02d, benchmark/scripts/benchmark_orpo_loss.py,
test/chunked_loss/test_orpo_loss.py and src/liger_kernel/chunked_loss/fused_linear_preference.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from validation.workloads.kernels_liger import torch_version_of
from validation.workloads.kernels_measuring import measure_kernel
from validation.workloads.result import WorkloadResult

NOTES = (
    "the published sweep lies 2084.0 MiB above the forecast at each of its four batch sizes (2, 4, 8, 16: within 0.2 "
    "MiB), so that part belongs to the process and not to the pass. The benchmark runs the Liger provider first; its "
    "torch.compile can keep a closure over the weight and its gradient alive, 2 x 1002 MiB; the other 80 MiB are not "
    "identified"
)

IGNORED_LABEL = -100
ODDS_RATIO_WEIGHT = 0.1


def mean_log_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-probability of the labels, [B], from logits [B, T, V]."""
    counted = labels != IGNORED_LABEL
    labels = torch.where(labels == IGNORED_LABEL, 0, labels)
    chosen = torch.gather(logits.log_softmax(-1), dim=2, index=labels.unsqueeze(2)).squeeze(2)
    return (chosen * counted).sum(-1) / counted.sum(-1)


def log_odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """log(odds(chosen) / odds(rejected)) from mean log-probabilities [B / 2]."""
    return (chosen - rejected) - (torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected)))


def preference_loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the chosen half less the weighted log-sigmoid of the odds ratio."""
    half = hidden.shape[0] // 2
    # Named, because the bf16 logits live to the end of the call in the reference too.
    outputs = hidden @ weight.t()
    logits = outputs.float()
    likelihood = F.cross_entropy(logits[:half].view(-1, logits.shape[-1]), labels[:half].view(-1))
    log_probabilities = mean_log_probabilities(logits, labels)
    ratio = F.logsigmoid(log_odds_ratio(log_probabilities[:half], log_probabilities[half:]))
    return likelihood - (ODDS_RATIO_WEIGHT * ratio).mean()


def prepare_orpo(row: dict[str, Any]) -> Callable[[], None]:
    """Two output projections (the script builds those of both providers), hidden states [B, T, H] and labels."""
    config, batch_size = row["extra"]["config"], int(row["extra"]["x_value"])
    head, unused_head = (
        nn.Linear(config["H"], config["V"], bias=False, dtype=torch.bfloat16, device="cuda") for _ in range(2)
    )
    hidden = torch.randn(batch_size, config["T"], config["H"], dtype=torch.bfloat16, device="cuda", requires_grad=True)
    labels = torch.randint(config["V"], (batch_size, config["T"]), device="cuda")

    def run() -> None:
        assert unused_head is not None
        preference_loss(hidden, head.weight, labels).backward()

    return run


def forecast_orpo(row: dict[str, Any]) -> WorkloadResult:
    """Allocated peak of one forward and backward pass."""
    result = measure_kernel(row, prepare_orpo, torch_version=torch_version_of(row))
    return replace(result, notes=NOTES)


WORKLOADS = {"liger-036": forecast_orpo}
