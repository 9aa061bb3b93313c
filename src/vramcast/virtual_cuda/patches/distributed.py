"""`torch.distributed` on a virtual GPU: the script is one rank of many, and torch's own DDP, FSDP, ZeRO and tensor parallel code runs.

`init_process_group` makes a group whose collectives take no partner (`distributed_group`); the name of the backend stays what the script
asked for. NCCL's own buffers lie outside the caching allocator and are not in any figure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

import torch
import torch.cuda.nccl
import torch.distributed as dist
import torch.multiprocessing
import torch.testing._internal.distributed.fake_pg  # registers the backend `fake`
from torch.distributed import distributed_c10d

from vramcast.errors import InputError
from vramcast.virtual_cuda.patches import (
    distributed_checkpoint,
    distributed_data_parallel,
    distributed_functional,
    distributed_objects,
    distributed_parameters,
)
from vramcast.virtual_cuda.patches.distributed_group import VirtualProcessGroup
from vramcast.virtual_cuda.patches.distributed_state import keep_state
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

PRETENDED_NCCL_VERSION = (2, 28, 9)
NCCL_TIMEOUT = timedelta(minutes=10)
"""As in a PyTorch that has NCCL (`torch.distributed.constants`)."""


def install(machine: VirtualGPU, patches: PatchSet) -> list[Callable[[], None]]:
    """Replace how process groups come to be; returns what takes away the groups that were made."""
    _install_groups(machine, patches)
    _install_names(patches)
    for part in (
        distributed_objects,
        distributed_data_parallel,
        distributed_functional,
        distributed_parameters,
        distributed_checkpoint,
    ):
        part.install(machine, patches)
    patches.set(torch.multiprocessing, "spawn", _spawn(machine))
    return [keep_state(), distributed_parameters.draw_uniform_by_kernel()]


def _install_groups(machine: VirtualGPU, patches: PatchSet) -> None:
    make_group = distributed_c10d._new_process_group_helper

    def make_virtual_group(size: int, rank: int, ranks: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs |= {"backend_options": None, "device_id": None}  # meant for NCCL itself
        requested = dist.Backend(backend)
        config = distributed_c10d.BackendConfig(requested)

        def create(options: Any, backend_options: Any) -> VirtualProcessGroup:
            return VirtualProcessGroup(machine, options.group_rank, options.group_size, config.get_device_backend_map())

        with _fake_backend_makes(create):
            group, store = make_group(size, rank, ranks, dist.Backend.FAKE, *args, **kwargs)
        if isinstance(group, VirtualProcessGroup):
            # `get_backend()` and `get_backend_config()` answer what the script asked for.
            world = distributed_c10d._world
            world.pg_map[group] = (requested, store)
            world.pg_backend_config[group] = str(config)
            if not ranks:
                machine.world_size = max(machine.world_size, size)
                _note_assumptions(machine, rank, size)
        return group, store

    patches.set(distributed_c10d, "_new_process_group_helper", make_virtual_group)
    patches.set(distributed_c10d, "rendezvous", rendezvous)
    for module in (dist, distributed_c10d):
        patches.set(module, "split_group", split_group)
    patches.set(distributed_c10d, "_store_based_barrier", lambda *args, **kwargs: None)


@contextmanager
def _fake_backend_makes(create: Callable[[Any, Any], VirtualProcessGroup]) -> Iterator[None]:
    plugins = dist.Backend._plugins
    original = plugins["FAKE"]
    plugins["FAKE"] = original._replace(creator_fn=create, extended_api=True)
    try:
        yield
    finally:
        plugins["FAKE"] = original


def _note_assumptions(machine: VirtualGPU, rank: int, size: int) -> None:
    machine.assumptions.add_once(
        f"rank {rank} of {size} processes was simulated; what it receives is taken to equal what it holds itself"
    )


def _install_names(patches: PatchSet) -> None:
    for module in (dist, distributed_c10d):
        patches.set(module, "is_nccl_available", lambda: True)
    patches.set(distributed_c10d, "default_pg_nccl_timeout", NCCL_TIMEOUT)
    patches.set(torch.cuda.nccl, "version", lambda: PRETENDED_NCCL_VERSION)
    # The classes for any accelerator; torch's own would look for one.
    patches.set(torch, "Event", torch.cuda.Event)
    patches.set(torch, "Stream", torch.cuda.Stream)


def rendezvous(url: str, rank: int = -1, world_size: int = -1, **kwargs: Any) -> Iterator[tuple[Any, int, int]]:
    """Who this process is, from the arguments, the address or the environment; no other process is looked for."""
    query = parse_qs(urlparse(url).query)
    numbers = []
    for given, name in ((rank, "rank"), (world_size, "world_size")):
        found = given if given >= 0 else query.get(name, [os.environ.get(name.upper())])[0]
        if found is None:
            raise InputError(
                name.upper(),
                None,
                "torch.distributed needs it in the environment: say which world is simulated (--world-size)",
            )
        numbers.append(int(found))
    yield torch._C._distributed_c10d.HashStore(), numbers[0], numbers[1]


def split_group(parent_pg: Any = None, split_ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The part of a group that this rank falls in, made as a group of its own."""
    ranks, rank = dist.get_process_group_ranks(parent_pg), dist.get_rank(parent_pg)
    own = next((part for part in split_ranks or () if rank in part), None)
    return None if own is None else dist.new_group([ranks[member] for member in own])


def _spawn(machine: VirtualGPU) -> Callable[..., Any]:
    def spawn(fn: Any, args: Any = (), nprocs: int = 1, join: bool = True, daemon: bool = False, **kwargs: Any) -> None:
        rank = machine.rank
        if rank >= nprocs:
            raise InputError("rank", rank, f"the script starts {nprocs} processes; give a number below that")
        machine.assumptions.add_with_line(f"process {rank} of {nprocs} was run in place of all,")
        machine.see_devices(nprocs)
        machine.recorded_device = rank
        fn(rank, *args)

    return spawn
