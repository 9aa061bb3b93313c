"""A script to run on a virtual GPU: what can be said about the run besides the script and its own arguments."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

MAX_STEPS = 10**9
MAX_WORLD_SIZE = 2**20
WORST_RANK = "worst"


class ScriptOptions(BaseModel):
    """Options of a dry run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 3
    """Optimizer steps after which the run stops; it also stops where the script ends."""
    until_end: bool = False
    """Run until the script ends, however many steps it takes."""
    gpu: str = "a100-80gb"
    """GPU to pretend: a row of `vramcast gpus`, or custom together with --gpu-memory."""
    gpu_memory: str | None = None
    """Memory of a custom GPU, such as 24GiB."""
    capacity: str | None = None
    """Memory of the GPU in place of its own, such as 24GiB; everything else stays the GPU's."""
    keep_going: bool = False
    """Go on where memory runs out, as if the GPU were large enough, and report what it would have taken."""
    expandable_segments: bool = False
    """Allocator setting `expandable_segments:True`; others are read from `PYTORCH_CUDA_ALLOC_CONF`."""
    world_size: Annotated[int, Field(ge=1, le=MAX_WORLD_SIZE)] = 1
    """Processes of a distributed run, one GPU each; the script runs as one of them. `torchrun` and its like say it themselves."""
    rank: str = "0"
    """Which of the processes to simulate, or `worst`: each in turn, and the answer of the one that needs the most."""
    keep_writes: bool = False
    """Leave what the script does to files as it is; else every file that was there before is put back."""
    margin: str | None = None
    """Memory to be left free besides, such as 1GiB, or a share of what is needed, such as 3%."""

    @field_validator("rank")
    @classmethod
    def _checked_rank(cls, rank: str) -> str:
        if rank != WORST_RANK and not rank.isdecimal():
            raise ValueError("write the number of a rank, or worst")
        return rank
