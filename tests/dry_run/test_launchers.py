"""Launchers of several processes, followed in one: the numbers each process finds, and the answer of the rank that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
DDP = """
import os, sys, torch, torch.distributed as dist
print(sys.argv[1:], *(os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")), torch.cuda.device_count())
dist.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
own = torch.empty((1 + dist.get_rank()) * 2**20, dtype=torch.uint8, device="cuda")
"""
SPAWN = """
import torch, torch.multiprocessing as mp, torch.distributed as dist
def train(rank, world):
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:29501", rank=rank, world_size=world)
    torch.cuda.set_device(rank)
    own = torch.empty((1 + rank) * 2**20, dtype=torch.uint8, device="cuda")
if __name__ == "__main__":
    mp.spawn(train, (4,), nprocs=4)
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
accelerator = Accelerator()
print(accelerator.num_processes, accelerator.process_index, accelerator.mixed_precision)
own = torch.empty(2**20, dtype=torch.uint8, device=accelerator.device)
"""

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "train.py").write_text(DDP)
    (tmp_path / "spawned.py").write_text(SPAWN)
    (tmp_path / "accelerated.py").write_text(ACCELERATE)
    programs = str(Path(sys.executable).parent)

    def do(*words: str) -> tuple[int, dict[str, Any], str]:
        done = subprocess.run(
            [sys.executable, "-m", "vramcast", "run", "--json", "--gpu", "h100", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    return do


@pytest.mark.parametrize(
    ("words", "numbers", "rank"),
    [
        (["torchrun", "--nproc_per_node=2"], "0 2 0 2 2", 0),
        (["--rank", "1", "-m", "torch.distributed.run", "--nproc-per-node", "2"], "1 2 0 2 2", 1),
        (["--rank", "5", "torchrun", "--nnodes=2", "--nproc_per_node=4"], "5 8 0 4 4", 5),
    ],
)
def test_torchrun(run: Run, words: list[str], numbers: str, rank: int) -> None:
    code, answer, printed = run(*words, "train.py", "--x", "1")
    assert f"['--x', '1'] {numbers}\n" in printed
    assert (code, answer["verdict"], answer["rank"], answer["world_size"]) == (0, "fits", rank, int(numbers.split()[1]))
    assert answer["peak_allocated_bytes"] == (1 + rank) * MIB
    assert any(line.startswith(f"process {rank} of the ") for line in answer["assumptions"])
    assert "NCCL" in {part["name"] for part in answer["uncertainty"]}


def test_the_worst_rank_is_found_by_trying_each(run: Run) -> None:
    code, answer, _ = run("--rank", "worst", "torchrun", "--nproc_per_node=3", "train.py")
    assert (code, answer["rank"], answer["peak_allocated_bytes"]) == (0, 2, 3 * MIB)
    assert "every process was simulated in turn; peak reserved by rank: 0: 2.00 MiB, 1: " in answer["assumptions"][0]


@pytest.mark.parametrize("rank", [0, 3])
def test_mp_spawn(run: Run, rank: int) -> None:
    code, answer, _ = run("--rank", str(rank), "spawned.py")
    assert (code, answer["verdict"], answer["peak_allocated_bytes"]) == (0, "fits", (1 + rank) * MIB)
    assert (answer["rank"], answer["world_size"]) == (rank, 4)


@pytest.mark.parametrize(
    ("words", "printed", "world_size"),
    [
        (["--num_processes", "1"], "1 0 no", 1),
        (["--multi_gpu", "--num_processes", "2", "--mixed_precision", "bf16"], "2 0 bf16", 2),
    ],
)
def test_accelerate_launch(run: Run, words: list[str], printed: str, world_size: int) -> None:
    code, answer, err = run("accelerate", "launch", *words, "accelerated.py")
    assert printed in err.splitlines()
    assert (code, answer["verdict"], answer["world_size"]) == (0, "fits", world_size)
    assert answer["children"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rank", "7", "torchrun", "--nproc_per_node=2", "train.py"], "the launcher starts 2 processes"),
        (["--rank", "4", "spawned.py"], "the script starts 4 processes"),
        (["--rank", "1", "accelerated.py"], "the run has 1 process"),
        (["--rank", "2", "--world-size", "2", "train.py"], "from 0 to 1"),
        (["--rank", "last", "train.py"], "write the number of a rank, or worst"),
    ],
)
def test_a_rank_that_is_not_there(run: Run, words: list[str], message: str) -> None:
    code, answer, err = run(*words)
    assert (code, answer) == (2, {})
    assert message in err and "--rank=" in err
    assert "Traceback" not in err
