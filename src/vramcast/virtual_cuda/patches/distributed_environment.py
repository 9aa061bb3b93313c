"""The environment variables that `torchrun` gives each process it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from vramcast.errors import InputError
from vramcast.virtual_cuda.patches.environment import environment_variables

DEFAULT_GPUS_PER_NODE = 8


@contextmanager
def distributed_environment(
    world_size: int, rank: int = 0, *, gpus_per_node: int = DEFAULT_GPUS_PER_NODE
) -> Iterator[None]:
    """Inside the block a script finds itself to be one of `world_size` processes, as if `torchrun` had started it.

    `LOCAL_RANK` is 0 for any rank: the first GPU of the virtual machine stands for the one of this rank.

    Args:
        world_size: number of processes, each with one GPU.
        rank: which of them is simulated.
        gpus_per_node: processes on one machine.

    Raises:
        InputError: a count is below 1, or the rank is not one of them.
    """
    for field, value in (("world_size", world_size), ("gpus_per_node", gpus_per_node)):
        if value < 1:
            raise InputError(field, value, "at least 1")
    if not 0 <= rank < world_size:
        raise InputError("rank", rank, f"from 0 to {world_size - 1}, for world_size is {world_size}")
    local = min(world_size, gpus_per_node)
    variables = {
        "RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": local,
        "GROUP_RANK": rank // local, "GROUP_WORLD_SIZE": -(-world_size // local),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500, "TORCHELASTIC_RUN_ID": "vramcast",
    }  # fmt: skip
    with environment_variables({name: str(value) for name, value in variables.items()}):
        yield


def as_one_of(processes: int, rank: int = 0) -> AbstractContextManager[None]:
    """The same; a single process is no distributed run: `torchrun`'s variables stay as they are."""
    return nullcontext() if processes == 1 else distributed_environment(processes, rank)
