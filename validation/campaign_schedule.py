"""Jobs one after the other inside a time budget, the next ones started ahead while one measures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from validation.campaign_jobs import CampaignJob
from validation.campaign_process import Outcome

TIMEOUT_FACTOR = 4
TIMEOUT_EXTRA_SECONDS = 45.0
"""A job gets so many times its estimate, and this much more for a slow start of the process."""
RESERVE_SECONDS = 5.0
"""Kept back at the end of the budget for ending processes and writing."""


class Process(Protocol):
    """What `MeasuringProcess` offers."""

    def finish(self, timeout_seconds: float) -> Outcome:
        """Let it measure."""

    def discard(self) -> None:
        """End it without an outcome."""


@dataclass(slots=True)
class CampaignResult:
    """What became of the jobs."""

    finished: list[tuple[CampaignJob, Outcome]] = field(default_factory=list)
    left_out: list[CampaignJob] = field(default_factory=list)
    """Jobs that did not fit into the budget, the one that its end cut off among them."""


def run_within_budget(
    jobs: Sequence[CampaignJob],
    *,
    budget_seconds: float,
    clock: Callable[[], float],
    launch: Callable[[CampaignJob], Process],
    on_outcome: Callable[[CampaignJob, Outcome], None],
    ahead: int = 2,
    patience: float = 1.0,
) -> CampaignResult:
    """Measure jobs in order, one at a time.

    A job whose estimate exceeds what is left is left out; a cheaper later one still runs.

    Args:
        jobs: in order of value.
        budget_seconds: for everything.
        clock: seconds that only grow.
        launch: starts a job's process, which then waits.
        on_outcome: called after each job.
        ahead: processes that are started while another one measures.
        patience: times the usual limit of a job, for a machine that is slower than the estimates.
    """
    end = clock() + budget_seconds - RESERVE_SECONDS
    waiting, started = deque(jobs), deque[tuple[CampaignJob, Process]]()
    result = CampaignResult()
    try:
        while waiting or started:
            while waiting and len(started) <= ahead:
                job = waiting.popleft()
                if job.cost_seconds > end - clock():
                    result.left_out.append(job)
                else:
                    started.append((job, launch(job)))
            if not started:
                break
            job, process = started.popleft()
            remaining = end - clock()
            if job.cost_seconds > remaining:
                process.discard()
                result.left_out.append(job)
                continue
            own_limit = patience * (TIMEOUT_FACTOR * job.cost_seconds + TIMEOUT_EXTRA_SECONDS)
            outcome = process.finish(min(remaining, own_limit))
            if outcome.status == "timeout" and remaining < own_limit:
                # No fault of the job: a record would keep the next campaign from measuring it.
                result.left_out.append(job)
                continue
            result.finished.append((job, outcome))
            on_outcome(job, outcome)
    finally:
        for _, process in started:
            process.discard()
    return result
