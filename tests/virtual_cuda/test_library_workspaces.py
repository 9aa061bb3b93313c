"""cuBLAS workspaces: one for the thread of forward and one for that of backward, by architecture and release."""

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import virtual_gpu

SMALL, LARGE, LT = 8_519_680, 33_554_432, 1_048_576


def workspaces(gpu: str, torch_version: str) -> list[tuple[str, int, str, bool]]:
    """(library, bytes, phase, alive at the end) of a step with two linear layers with bias, run twice."""
    with virtual_gpu(gpu, torch_version=torch_version) as machine:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).cuda()
        for _ in range(2):
            model(torch.randn(4, 8, device="cuda")).sum().backward()
        live = set(machine.timeline.live_at(len(machine.timeline.events)))
        made = [(i, a) for i, a in enumerate(machine.timeline.allocations) if a.category == "workspace"]
        return [(a.op.split()[0], a.nbytes, a.phase, i in live) for i, a in made]


@pytest.mark.parametrize(
    ("gpu", "torch_version", "size"),
    [
        ("a100-80gb", "2.13.0", SMALL),
        ("v100-16gb", "2.13.0", SMALL),
        ("rtx-4090", "2.13.0", SMALL),
        ("h100-sxm", "2.13.0", LARGE),
        ("b200", "2.13.0", LARGE),
        ("rtx-5090", "2.13.0", LARGE),
    ],
)
def test_one_in_forward_and_one_in_backward(gpu: str, torch_version: str, size: int) -> None:
    assert workspaces(gpu, torch_version) == [("cublas", size, "forward", True), ("cublas", size, "backward", True)]


def test_older_releases_give_cublaslt_a_temporary_block() -> None:
    """Every `addmm`: four in forward, none in backward."""
    made = workspaces("h100-sxm", "2.8.0")
    assert made.count(("cublaslt", LT, "forward", False)) == 4
    assert [entry for entry in made if entry[0] == "cublas"] == [
        ("cublas", LARGE, "forward", True),
        ("cublas", LARGE, "backward", True),
    ]


def test_from_2_9_the_cublaslt_block_is_kept() -> None:
    made = workspaces("a100-80gb", "2.9.1")
    assert made.count(("cublaslt", LT, "forward", True)) == 1
    assert len(made) == 3


def test_from_2_14_workspaces_live_for_a_call() -> None:
    made = workspaces("h100-sxm", "2.14.0")
    assert {entry[3] for entry in made} == {False}
    assert len([entry for entry in made if entry[0] == "cublas"]) == 2 * (2 + 3)


def test_empty_cache_keeps_workspaces() -> None:
    with virtual_gpu():
        a = torch.randn(8, 8, device="cuda")
        a @ a
        torch.cuda.empty_cache()
        assert torch.cuda.memory_allocated() == SMALL + 512


def test_inference_takes_one() -> None:
    with virtual_gpu() as machine, torch.inference_mode():
        nn.Linear(8, 8).cuda()(torch.randn(4, 8, device="cuda"))
        assert [a.op for a in machine.timeline.allocations if a.category == "workspace"] == ["cublas workspace"]
