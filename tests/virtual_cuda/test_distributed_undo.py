"""After the `with` block `torch.distributed` is as it was, also after an error, and the environment too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint
import torch.distributed.tensor._random
import torch.distributed.utils
import torch.multiprocessing
import torch.nn.parallel.distributed
from distributed_helpers import one_rank, small_model, train_step
from torch.distributed import _functional_collectives, distributed_c10d
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from virtual_gpu_helpers import virtual_gpu

from vramcast.virtual_cuda.patches.distributed_environment import distributed_environment

PLACES: tuple[ModuleType | type, ...] = (
    torch, torch.utils, torch.cuda.nccl, dist, distributed_c10d, dist.Backend, dist.ProcessGroup, dist.distributed_c10d._World,
    _functional_collectives, torch.distributed.utils, torch.nn.parallel.distributed, DistributedDataParallel, torch.multiprocessing,
    torch.distributed.checkpoint, state_dict_loader, state_dict_saver, torch.distributed.tensor._random,
)  # fmt: skip


def state() -> dict[str, Any]:
    """Every attribute of the places, what the world of groups holds, and the environment."""
    found = {
        f"{place.__name__}.{name}": value
        for place in PLACES
        for name, value in vars(place).items()
        if not name.startswith("__") or name in ("__init__", "__new__")
    }
    found["sys.excepthook"] = sys.excepthook
    found |= {f"plugin {name}": plugin for name, plugin in dist.Backend._plugins.items()}
    world = distributed_c10d._world
    found |= {name: len(getattr(world, name)) for name in ("pg_map", "pg_names", "pg_group_ranks", "tags_to_pg")}
    found |= {"initialized": dist.is_initialized(), "groups": world.group_count}
    return found | {f"environment {name}": value for name, value in os.environ.items() if "PYTEST" not in name}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    absent = object()
    return [name for name in before | after if before.get(name, absent) is not after.get(name, absent)]


def changed(before: dict[str, Any]) -> list[str]:
    after = state()
    return [name for name in differences(before, after) if before.get(name) != after.get(name)]


def use_everything() -> None:
    mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("replicate", "shard"))
    train_step(DistributedDataParallel(small_model(1).cuda()))
    sharded = fully_shard(small_model(1).cuda(), mesh=mesh)
    train_step(sharded)
    torch.nn.init.normal_(next(sharded.parameters()))
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    torch.distributed.checkpoint.save(sharded.state_dict(), checkpoint_id="nowhere")


def test_nothing_is_left() -> None:
    before = state()
    with one_rank(8):
        use_everything()
        assert dist.is_initialized()
        assert len(changed(before)) > 30
    assert changed(before) == []
    assert not dist.is_nccl_available()
    with pytest.raises(ValueError, match="has not been initialized"):
        dist.get_rank()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(error: type[BaseException]) -> None:
    before = state()
    with pytest.raises(error), one_rank(8):
        use_everything()
        raise error("in the script")
    assert changed(before) == []


def test_nothing_is_left_by_a_script_that_destroys_its_group() -> None:
    before = state()
    with one_rank(8):
        use_everything()
        dist.destroy_process_group()
        assert not dist.is_initialized()
        dist.init_process_group("nccl")
    assert changed(before) == []


def test_a_real_group_of_before_is_left_alone() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with virtual_gpu():
            torch.zeros(1, device="cuda")
        assert (dist.get_backend(), dist.get_world_size()) == ("gloo", 1)
        x = torch.ones(2)
        dist.all_reduce(x)
        assert x.tolist() == [1.0, 1.0]
    finally:
        dist.destroy_process_group()


def test_nothing_is_left_in_a_fresh_process() -> None:
    """What one run leaves behind, a second run in the same process would no longer show."""
    program = "from test_distributed_undo import *\nbefore = state()\nwith one_rank(8):\n    use_everything()\nprint(changed(before))"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert finished.stdout.strip() == "[]"


def test_two_worlds_one_after_another_are_independent() -> None:
    peaks = []
    for _ in range(2):
        with one_rank(8) as machine:
            use_everything()
        peaks.append((machine.peak_allocated_bytes, len(machine.timeline.events)))
    assert peaks[0] == peaks[1]


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "given")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt), distributed_environment(16, rank=9):
        assert {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")} == {
            "RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8",
        }  # fmt: skip
        assert (os.environ["GROUP_RANK"], os.environ["GROUP_WORLD_SIZE"]) == ("1", "2")
        assert dist.is_torchelastic_launched()
        raise KeyboardInterrupt
    assert dict(os.environ) == before
