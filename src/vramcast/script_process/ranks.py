"""A dry run as one process of a distributed run, or as each in turn to find the one that needs the most."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from vramcast.errors import InputError
from vramcast.job.script import WORST_RANK
from vramcast.script_process.run_folder import Request
from vramcast.script_process.watch import Watched, watched_run
from vramcast.units import format_bytes

MOST_RANKS = 64
"""Each takes the time of a whole dry run."""


def run_on_ranks(request: Request, environment: Mapping[str, str]) -> Watched:
    """The run of the rank that was asked for; of `worst` the run of the rank whose device use is the largest.

    Errors as for `watched_run`.

    Raises:
        InputError: there are too many processes to try each.
    """
    if request.options.rank != WORST_RANK:
        return watched_run(request, environment)
    first = _of_rank(request, 0, environment)
    world_size = first.answer.world_size
    if world_size > MOST_RANKS:
        raise InputError(
            "--rank",
            WORST_RANK,
            f"the run has {world_size} processes, more than {MOST_RANKS} to try; name one, such as 0",
        )
    tried = [first]
    for rank in range(1, world_size):
        if first.answer.ended == "interrupted":
            break
        print(f"rank {rank} of {world_size}", file=sys.stderr)
        tried.append(_of_rank(request, rank, environment))
    worst = max(tried, key=_need)
    peaks = ", ".join(f"{run.answer.rank}: {format_bytes(run.answer.peak_reserved_bytes)}" for run in tried)
    told = f"every process was simulated in turn; peak reserved by rank: {peaks}"
    assumptions = (told, *worst.answer.assumptions)
    return worst._replace(answer=worst.answer.model_copy(update={"assumptions": assumptions}))


def _of_rank(request: Request, rank: int, environment: Mapping[str, str]) -> Watched:
    options = request.options.model_copy(update={"rank": str(rank)})
    return watched_run(request.model_copy(update={"options": options}), environment)


def _need(run: Watched) -> tuple[bool, int, int]:
    answer = run.answer
    return answer.verdict == "unknown", answer.device_used_bytes_high, answer.peak_allocated_bytes
