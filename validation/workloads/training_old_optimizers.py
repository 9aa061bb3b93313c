"""The optimizers of transformers 4.15, parameter by parameter, and PyTorch's gradient clipping of that time.

A result lives until its name is bound again, so one parameter's temporary overlaps with the next one's.

Source: github.com/huggingface/transformers at v4.15.0, src/transformers/optimization.py; torch/nn/utils/clip_grad.py of
PyTorch 1.10.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MAX_GRADIENT_NORM = 1.0


class LoopAdamW(torch.optim.Optimizer):
    """Adam with decoupled decay; the denominator is the only temporary of a parameter's size."""

    def __init__(self, parameters: Iterable[Tensor], lr: float = 5e-5) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                mean, square = state["mean"], state["square"]
                mean.mul_(0.9).add_(parameter.grad, alpha=0.1)
                square.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                denominator = square.sqrt().add_(1e-8)
                parameter.addcdiv_(mean, denominator, value=-group["lr"])


class LoopAdafactor(torch.optim.Optimizer):
    """Adafactor with a given learning rate: row and column means of the squared gradient instead of the squares."""

    def __init__(self, parameters: Iterable[Tensor], lr: float = 5e-5) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    self._start(state, gradient)
                state["rms"] = _rms(parameter)
                update = (gradient**2) + 1e-30
                if gradient.dim() >= 2:
                    state["rows"].mul_(0.5).add_(update.mean(dim=-1), alpha=0.5)
                    state["columns"].mul_(0.5).add_(update.mean(dim=-2), alpha=0.5)
                    update = _outer_root(state["rows"], state["columns"])
                    update.mul_(gradient)
                else:
                    state["squares"].mul_(0.5).add_(update, alpha=0.5)
                    update = state["squares"].rsqrt().mul_(gradient)
                update.div_(_rms(update).clamp_(min=1.0))
                update.mul_(group["lr"])
                parameter.add_(-update)

    @staticmethod
    def _start(state: dict[str, Any], gradient: Tensor) -> None:
        if gradient.dim() >= 2:
            state["rows"] = torch.zeros(gradient.shape[:-1], device=gradient.device)
            state["columns"] = torch.zeros(gradient.shape[:-2] + gradient.shape[-1:], device=gradient.device)
        else:
            state["squares"] = torch.zeros_like(gradient)


def _rms(tensor: Tensor) -> Tensor:
    return tensor.norm(2) / (tensor.numel() ** 0.5)


def _outer_root(rows: Tensor, columns: Tensor) -> Tensor:
    by_row = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
    by_column = columns.unsqueeze(-2).rsqrt()
    return torch.mul(by_row, by_column)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor]) -> None:
    """Scale all gradients to a common norm of at most 1, one norm and one in-place product per tensor."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.norm(torch.stack([torch.norm(gradient, 2.0) for gradient in gradients]), 2.0)
    factor = torch.clamp(MAX_GRADIENT_NORM / (total + 1e-6), max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
