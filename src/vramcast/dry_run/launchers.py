"""Launchers of several processes, followed: what they would start runs in this process, as one of them.

`torchrun`, `accelerate launch` and the launchers of notebooks end in torch's `elastic_launch`; accelerate with one process and DeepSpeed
start theirs by hand. Their own parsers read the command line, so that every flag means what it means to them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.distributed.launcher.api import elastic_launch

from vramcast.dry_run.launch import Launch
from vramcast.errors import InputError
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.patches.distributed_environment import distributed_environment
from vramcast.virtual_cuda.patches.environment import environment_variables
from vramcast.virtual_cuda.patches.patch_set import PatchSet

_LOCAL_RANK = "${local_rank}"
"""What torch's launcher writes where each process finds its own number (`torch.distributed.elastic.multiprocessing.macros`)."""


@contextmanager
def followed_launchers(launch: Launch, machine: VirtualGPU, rank: int) -> Iterator[None]:
    """Inside the block a launcher's processes are one: the one of this rank."""
    machine.rank = rank
    patches = PatchSet()
    try:
        patches.set(elastic_launch, "__call__", _elastic(machine, rank))
        _prepare(launch, machine, rank, patches)
        yield
    finally:
        patches.undo()


def _prepare(launch: Launch, machine: VirtualGPU, rank: int, patches: PatchSet) -> None:
    """Replace what starts processes in the launcher that is about to run, if it is one whose own code does so."""
    name = launch.target if launch.is_module else Path(launch.target).name
    if name.partition(".")[0] == "accelerate":
        from accelerate.commands import launch as accelerate_launch

        patches.set(accelerate_launch, "simple_launcher", _accelerate(accelerate_launch))
    elif name.partition(".")[0] == "deepspeed":
        from deepspeed.launcher import runner

        patches.set(runner, "main", _deepspeed(runner, machine, rank))


def _elastic(machine: VirtualGPU, rank: int) -> Callable[..., Any]:
    def call(self: Any, *args: Any) -> dict[int, Any]:
        config, entry = self._config, self._entrypoint
        result = None
        with _one_of(machine, config.nproc_per_node * config.min_nodes, rank, config.nproc_per_node):
            if callable(entry):
                result = entry(*args)
            else:
                run_command([entry, *args])
        return {rank: result}

    return call


@contextmanager
def _one_of(machine: VirtualGPU, world_size: int, rank: int, per_node: int) -> Iterator[None]:
    if rank >= world_size:
        raise InputError("rank", rank, f"the launcher starts {world_size} processes; give a number below that")
    machine.assumptions.add_once(
        f"process {rank} of the {world_size} that a launcher would start was run in place of all"
    )
    machine.world_size = max(machine.world_size, world_size)
    machine.see_devices(per_node)
    with distributed_environment(world_size, rank, gpus_per_node=per_node):
        yield


def _accelerate(accelerate_launch: Any) -> Callable[[Any], None]:
    def simple_launcher(args: Any) -> None:
        command, variables = accelerate_launch.prepare_simple_launcher_cmd_env(args)
        with environment_variables({name: value for name, value in variables.items() if os.environ.get(name) != value}):
            run_command(command)

    return simple_launcher


def _deepspeed(runner: Any, machine: VirtualGPU, rank: int) -> Callable[..., None]:
    def main(args: Sequence[str] | None = None) -> None:
        asked = runner.parse_args(args)
        per_node = asked.num_gpus if asked.num_gpus > 0 else machine.device_count
        nodes = max(asked.num_nodes, 1)
        own = [] if asked.no_local_rank else ["--local_rank=0"]
        python = [] if asked.no_python else [sys.executable, *(["-m"] if asked.module else [])]
        with _one_of(machine, per_node * nodes, rank, per_node):
            run_command([*python, asked.user_script, *own, *asked.user_args])

    return main


def run_command(command: Sequence[str]) -> None:
    """Run the Python script or module of a command line in this process.

    Raises:
        InputError: the command is no Python program.
    """
    program, *words = (word.replace(_LOCAL_RANK, "0") for word in command)
    is_python = Path(program).name.startswith("python") or program == sys.executable
    if not is_python:
        words.insert(0, shutil.which(program) or program)
    while words and words[0].startswith("-") and words[0] != "-m":
        words.pop(0)  # Python's own flags, such as -u
    is_module = words[:1] == ["-m"]
    target, *arguments = words[1:] if is_module else words
    launch = Launch(target, tuple(arguments), is_module)
    launch.check()
    with launch.as_main():
        launch.execute()
