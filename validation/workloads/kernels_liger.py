"""Plain PyTorch and Hugging Face baselines of the Liger-Kernel benchmark (`benchmark/data/all_benchmark_data.csv`).

Each `prepare_*` builds the tensors that the benchmark script builds before it resets the peak, and returns the pass
it measures. A pass finds the `.grad` that the pass before left, as in the script, and a retained graph lives until
its output dies.

Source: github.com/linkedin/Liger-Kernel, benchmark/scripts/ at the commits that added the rows (b5672a15, 7e3683e2,
2120862b).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from validation.workloads.kernels_measuring import measure_kernel

Pass = Callable[[], None]

_TORCH_BY_LIGER = {"0.2.1": "2.4.0", "0.4.0": "2.5.1", "0.4.2": "2.5.1", "0.7.0": "2.11.0", "0.8.1": "2.11.0"}
"""PyTorch release current when the rows were published; the rows name only the Liger release."""


def torch_version_of(row: dict[str, Any]) -> str:
    """PyTorch release of a row, whose `framework_version` reads `liger 0.4.2 2024-11-22`."""
    return _TORCH_BY_LIGER[row["framework_version"].split()[1]]


def _leaf(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, dtype=dtype, device="cuda", requires_grad=True)


def prepare_cross_entropy(row: dict[str, Any]) -> Pass:
    """Mean cross entropy of fp32 logits [B * T, V]."""
    config, vocab_size = row["extra"]["config"], int(row["extra"]["x_value"])
    tokens = config["B"] * config["T"]
    logits = _leaf(tokens, vocab_size, dtype=torch.float32)
    targets = torch.randint(vocab_size, (tokens,), device="cuda")
    return lambda: F.cross_entropy(logits, targets).backward()


def prepare_fused_linear_cross_entropy(row: dict[str, Any]) -> Pass:
    """Output projection [H, V] and cross entropy; the script builds the projections of both providers."""
    config, tokens = row["extra"]["config"], int(row["extra"]["x_value"])
    head, unused_head = (_projection(config["H"], config["V"]) for _ in range(2))
    hidden = _leaf(tokens, config["H"])
    targets = torch.randint(config["V"], (tokens,), device="cuda")

    def run() -> None:
        assert unused_head is not None
        F.cross_entropy(head(hidden), targets).backward()

    return run


def _projection(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16, device="cuda")


def prepare_gated_mlp(row: dict[str, Any], *, batch: str, activation: Callable[[Tensor], Tensor]) -> Pass:
    """down(act(gate(x)) * up(x)) on [B, T, H], the MLP of Llama."""
    config, tokens = row["extra"]["config"], int(row["extra"]["x_value"])
    hidden_size, intermediate_size = config["hidden_size"], config["intermediate_size"]
    x = _leaf(config[batch], tokens, hidden_size)
    gate, up = (_projection(hidden_size, intermediate_size) for _ in range(2))
    down = _projection(intermediate_size, hidden_size)

    def run() -> None:
        y = down(activation(gate(x)) * up(x))
        y.backward(torch.randn_like(y), retain_graph=True)

    return run


def prepare_rms_norm(row: dict[str, Any]) -> Pass:
    """RMSNorm computed in fp32 around a bf16 input, with the fp32 weight of both providers in memory."""
    config, hidden_size = row["extra"]["config"], int(row["extra"]["x_value"])
    weight, unused_weight = (nn.Parameter(torch.ones(hidden_size, device="cuda")) for _ in range(2))
    x = torch.randn(config["M"], hidden_size, dtype=torch.bfloat16, device="cuda")
    gradient = torch.randn_like(x)
    x.requires_grad_(True)

    def normalize() -> Tensor:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + config["eps"])
        return weight * wide.to(x.dtype)

    def run() -> None:
        assert unused_weight is not None
        # The name matters: it keeps the retained graph alive until the pass ends.
        y = normalize()
        y.backward(gradient, retain_graph=True)

    return run


def prepare_rope(row: dict[str, Any]) -> Pass:
    """Rotary embedding of queries and keys, and the gradients of both."""
    config, tokens = row["extra"]["config"], int(row["extra"]["x_value"])
    head_dim = config["hidden_size"] // config["num_q_heads"]
    # [B, T, H, D] -> [B, H, T, D]
    query, key = (
        _leaf(1, tokens, config[heads], head_dim).transpose(1, 2) for heads in ("num_q_heads", "num_kv_heads")
    )
    gradients = torch.randn_like(query), torch.randn_like(key)
    frequencies = 1.0 / 10_000 ** (torch.arange(0, head_dim, 2, device="cuda").float() / head_dim)
    positions = torch.arange(tokens, device="cuda")
    # An outer product by matmul, as Llama's rotary embedding makes it: this is what takes the cuBLAS workspace.
    angles = (frequencies[None, :, None] @ positions[None, None, :].float()).transpose(1, 2)
    cosine, sine = (
        function(torch.cat((angles, angles), dim=-1)).to(query.dtype) for function in (torch.cos, torch.sin)
    )
    del angles

    def run() -> None:
        assert frequencies is not None and positions is not None
        outputs = _rotate_pair(query, key, cosine, sine)
        torch.autograd.grad(outputs, (query, key), gradients, allow_unused=True, retain_graph=True)

    return run


def _rotate_pair(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)
    rotated_query = query * cosine + _turn_halves(query) * sine
    rotated_key = key * cosine + _turn_halves(key) * sine
    return rotated_query, rotated_key


def _turn_halves(x: Tensor) -> Tensor:
    # Two slices and not a chunk: each slice has a gradient of the full size.
    half = x.shape[-1] // 2
    first = x[..., :half]
    second = x[..., half:]
    return torch.cat((-second, first), dim=-1)


def prepare_megatron_swiglu(row: dict[str, Any]) -> Pass:
    """silu(first half) * second half of a joined projection's output [S, B, 2 F]; each pass drops `.grad` first."""
    config, width = row["extra"]["config"], int(row["extra"]["x_value"])
    joined = _leaf(config["S"], config["B"], 2 * width)

    def run() -> None:
        joined.grad = None
        y = _split_swiglu(joined)
        y.sum().backward()

    return run


def _split_swiglu(joined: Tensor) -> Tensor:
    gate, up = joined.chunk(2, dim=-1)
    return F.silu(gate) * up


def _run(prepare: Callable[[dict[str, Any]], Pass], row: dict[str, Any]) -> Any:
    return measure_kernel(row, prepare, torch_version=torch_version_of(row))


_swiglu = partial(prepare_gated_mlp, batch="B", activation=F.silu)
_geglu = partial(prepare_gated_mlp, batch="bsz", activation=partial(F.gelu, approximate="tanh"))

WORKLOADS = {
    "liger-005": partial(_run, prepare_cross_entropy),
    "liger-006": partial(_run, prepare_cross_entropy),
    "liger-011": partial(_run, prepare_fused_linear_cross_entropy),
    "liger-013": partial(_run, prepare_fused_linear_cross_entropy),
    "liger-018": partial(_run, _geglu),
    "liger-023": partial(_run, prepare_rms_norm),
    "liger-026": partial(_run, prepare_rope),
    "liger-031": partial(_run, _swiglu),
    "liger-033": partial(_run, _swiglu),
    "liger-043": partial(_run, prepare_megatron_swiglu),
}
