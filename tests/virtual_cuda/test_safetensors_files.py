"""safetensors and the save_pretrained of transformers: weights without data are left out and found again, real files are read."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import transformers
from safetensors import safe_open
from torch import nn
from virtual_gpu_helpers import allocated, virtual_gpu

CONFIG = transformers.LlamaConfig(
    num_hidden_layers=2,
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)


def test_weights_are_left_out_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the good one")
    with virtual_gpu() as machine:
        weight = nn.Linear(64, 32).to("cuda").weight.data
        safetensors.torch.save_file({"weight": weight, "step": torch.tensor([4])}, path, metadata={"format": "pt"})
        assert path.read_bytes() == b"the good one"
        loaded = safetensors.torch.load_file(path)
        assert (loaded["weight"].shape, loaded["weight"].device.type) == ((32, 64), "cpu")
        assert loaded["step"].tolist() == [4]
        before = allocated(machine)
        with safetensors.safe_open(path, framework="pt", device="cuda") as file:
            assert (list(file.keys()), file.metadata()) == (["step", "weight"], {"format": "pt"})
            part = file.get_slice("weight")
            assert (part.get_shape(), part.get_dtype()) == ([32, 64], "F32")
            assert part[:4].shape == (4, 64) and part[:4].is_cuda
            assert file.get_tensor("weight").device == torch.device("cuda", 0)
        assert allocated(machine) == before
        assert any("safetensors left out the weights" in sentence for sentence in machine.assumptions.sentences())
    assert path.read_bytes() == b"the good one"


def test_bytes_and_models(tmp_path: Path) -> None:
    with virtual_gpu():
        model = nn.Linear(8, 8).cuda()
        assert safetensors.torch.load(safetensors.torch.save(model.state_dict()))["bias"].shape == (8,)
        safetensors.torch.save_model(model, str(tmp_path / "m.safetensors"))
        assert safetensors.torch.load_model(nn.Linear(8, 8).cuda(), tmp_path / "m.safetensors") == (set(), [])
    assert list(tmp_path.iterdir()) == []


def test_real_files_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "real.safetensors"
    with virtual_gpu() as machine:
        safetensors.torch.save_file({"x": torch.arange(4.0)}, path)
        assert machine.assumptions.sentences() == []
        assert safetensors.torch.load_file(path)["x"].tolist() == [0, 1, 2, 3]
        on_gpu = safetensors.torch.load_file(path, device="cuda")["x"]
        assert on_gpu.is_cuda and on_gpu.tolist() == [0, 1, 2, 3]
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("x").tolist() == [0, 1, 2, 3]


def test_pretrained_models(tmp_path: Path) -> None:
    real, virtual = tmp_path / "real", tmp_path / "virtual"
    transformers.LlamaForCausalLM(CONFIG).save_pretrained(real)
    loaders = transformers.AutoModelForCausalLM.from_pretrained
    with virtual_gpu() as machine:
        moved = loaders(real, dtype=torch.bfloat16).to("cuda")
        mapped = loaders(real, dtype=torch.bfloat16, device_map="cuda")
        elements = sum(parameter.numel() for parameter in moved.parameters())
        assert {parameter.device.type for parameter in [*moved.parameters(), *mapped.parameters()]} == {"cuda"}
        assert allocated(machine) >= 2 * 2 * elements
        mapped.save_pretrained(virtual)
        again = loaders(virtual)
        assert [p.shape for p in again.parameters()] == [p.shape for p in moved.parameters()]
        tokens = torch.zeros(2, 5, dtype=torch.long, device="cuda")
        assert mapped.generate(tokens, max_new_tokens=3, do_sample=True, pad_token_id=0).shape[0] == 2
    assert sorted(path.name for path in virtual.iterdir()) == ["config.json", "generation_config.json"]
