"""The engine's sums of gradients are in place exactly where a real backward pass makes them so."""

from collections.abc import Callable

import pytest
import torch
from tests.conftest import TINY_GPT2, TINY_LLAMA
from torch import nn
from torch.profiler import profile

from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU


def three_uses(device: str) -> None:
    x = torch.randn(8, 8, requires_grad=True, device=device)
    y = x * 1
    (torch.tanh(y) + torch.exp(y) + torch.sigmoid(y)).sum().backward()


def shared_gradient(device: str) -> None:
    # An addition hands one gradient to both of its inputs: the engine is not its only holder, so the sum must be a new tensor.
    x = torch.randn(8, 8, requires_grad=True, device=device)
    y = x * 2
    (y + torch.tanh(y)).sum().backward()


def held_by_a_hook(device: str) -> None:
    held: list[torch.Tensor] = []
    x = torch.randn(8, 8, requires_grad=True, device=device)
    y = x * 1
    parts = torch.tanh(y), torch.exp(y)
    y.register_hook(lambda gradient: held.append(gradient))
    (parts[0] + parts[1]).sum().backward()


def twice_backward(device: str) -> None:
    x = torch.randn(8, 8, requires_grad=True, device=device)
    for _ in range(2):
        (torch.tanh(x) * torch.exp(x)).sum().backward()


def transformer(config_class: str, fields: dict[str, object]) -> Callable[[str], None]:
    def run(device: str) -> None:
        import transformers

        sizes = {key: value for key, value in fields.items() if key != "model_type"}
        config = getattr(transformers, config_class)(**sizes)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(device).eval()
        ids = torch.zeros(2, 16, dtype=torch.long).to(device)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    return run


def residual_stack(device: str) -> None:
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)).to(device)
    x = torch.randn(4, 8, device=device)
    for layer in layers:
        x = x + torch.relu(layer(x)) * x
    x.sum().backward()


PROGRAMS = {
    "three uses": three_uses,
    "shared gradient": shared_gradient,
    "held by a hook": held_by_a_hook,
    "two backward passes": twice_backward,
    "residual stack": residual_stack,
    "gpt2": transformer("GPT2Config", TINY_GPT2),
    "llama": transformer("LlamaConfig", TINY_LLAMA),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_same_sums_in_place_as_on_real_tensors(program: Callable[[str], None]) -> None:
    # The profiler sees a real CPU run, where no dispatch mode keeps the engine from writing in place.
    with profile() as real:
        program("cpu")
    counts = {name: sum(event.name == name for event in real.events()) for name in ("aten::add", "aten::add_")}
    with VirtualGPU(find_gpu("a100-80gb")) as gpu:
        seen: dict[str, int] = {"add": 0, "add_": 0}
        count = gpu.end_operator

        def counting(func: object, name: str, *rest: object) -> None:
            if name in seen:
                seen[name] += 1
            count(func, name, *rest)  # type: ignore[arg-type]

        gpu.end_operator = counting  # type: ignore[method-assign]
        program("cuda")
    assert counts["aten::add_"] == seen["add_"]
    assert counts["aten::add"] == seen["add"]
