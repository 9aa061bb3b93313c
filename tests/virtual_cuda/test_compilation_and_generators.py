"""Code that compiles or draws with a CUDA generator runs, and the forecast says what was left out."""

import torch
from torch import nn

import vramcast


def test_compiled_model_runs_eagerly_and_says_so() -> None:
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU()).to("cuda")
        compiled = torch.compile(model, mode="max-autotune")

        @torch.compile(fullgraph=True)
        def loss_of(x: torch.Tensor) -> torch.Tensor:
            return compiled(x).square().mean()  # type: ignore[no-any-return]

        model.compile()
        loss_of(torch.randn(8, 64, device="cuda")).backward()
    assert compiled is model
    notes = [line for line in gpu.assumptions.sentences() if "torch.compile was left out" in line]
    assert len(notes) == 3
    assert all("test_compilation_and_generators.py" in line for line in notes)


def test_cuda_generator_is_accepted() -> None:
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        generator = torch.Generator(device="cuda").manual_seed(1)
        assert isinstance(generator, torch.Generator)
        x = torch.randn(1024, 1024, device="cuda", generator=generator)
        torch.multinomial(x.softmax(-1), 1, generator=generator)
        assert x.is_cuda
    assert gpu.peak_allocated_bytes >= 4 << 20
    assert torch.Generator().device.type == "cpu"
