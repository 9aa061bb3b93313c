"""A mixture of experts as a Python loop over experts, the baseline of Liger's fused MoE benchmark.

Routing decides the sizes: it is drawn at random by the script, so it is drawn here too, from a generator of our own.
The published sweeps over tokens and over experts meet in one point with 1.1 MiB between them (0.016 %): the spread of
the draw.

Source: github.com/linkedin/Liger-Kernel at 1faa0131, benchmark/scripts/benchmark_fused_moe.py.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from validation.workloads.kernels_liger import torch_version_of
from validation.workloads.kernels_measuring import measure_kernel
from validation.workloads.result import WorkloadResult

WEIGHT_SCALE = 0.02
SEED = 42


def expert_loop(x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor, routing: Tensor) -> Tensor:
    """Sum over each token's experts of weight * expert(x), [T, H].

    `gate_up` [E, 2 I, H], `down` [E, H, I], `experts` and `weights` [T, K] on the GPU; `routing` is `experts` again
    on the host, because the sizes below depend on its values.
    """
    result = torch.zeros_like(x)
    with torch.no_grad():
        # [T, K, E] -> [E, K, T]
        assigned = F.one_hot(experts.long(), num_classes=gate_up.shape[0]).permute(2, 1, 0)
    for expert in routing.unique().tolist():
        # What `torch.where(assigned[expert])` gives: one [N, 2] result whose columns are slots and tokens.
        slots, tokens = (routing == expert).t().nonzero().to("cuda").unbind(1)
        current = x[tokens]
        gate, up = F.linear(current, gate_up[expert]).chunk(2, dim=-1)
        current = F.silu(gate) * up
        current = F.linear(current, down[expert])
        current = current * weights[tokens, slots, None]
        result.index_add_(0, tokens, current.to(result.dtype))
    del assigned
    return result


def draw_routing(tokens: int, num_experts: int, experts_per_token: int) -> Tensor:
    """Chosen experts [T, K], int32, on the host: the top of random logits."""
    logits = torch.randn(tokens, num_experts, generator=torch.Generator().manual_seed(SEED))
    return torch.topk(logits, experts_per_token, dim=-1).indices.to(torch.int32)


def prepare_moe(row: dict[str, Any]) -> Callable[[], None]:
    """Scaled weights: the unscaled leaves stay alive behind them, and take the gradients."""
    config, tokens = row["extra"]["config"], int(row["extra"]["x_value"])
    hidden_size, intermediate_size, num_experts = config["H"], config["intermediate_dim"], config["E"]

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.bfloat16, device="cuda", requires_grad=True)

    x = leaf(tokens, hidden_size)
    gate_up = leaf(num_experts, 2 * intermediate_size, hidden_size) * WEIGHT_SCALE
    down = leaf(num_experts, hidden_size, intermediate_size) * WEIGHT_SCALE
    routing = draw_routing(tokens, num_experts, config["K"])
    experts = routing.to("cuda")
    weights = leaf(tokens, config["K"])

    def run() -> None:
        y = expert_loop(x, gate_up, down, experts, weights, routing)
        y.backward(torch.randn_like(y), retain_graph=True)

    return run


def forecast_moe(row: dict[str, Any]) -> WorkloadResult:
    """Allocated peak of one forward and backward pass."""
    return measure_kernel(row, prepare_moe, torch_version=torch_version_of(row))


WORKLOADS = {"liger-040": forecast_moe}
