from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from validation.campaign_jobs import CampaignJob
from validation.campaign_process import Outcome
from validation.campaign_schedule import (
    RESERVE_SECONDS,
    TIMEOUT_EXTRA_SECONDS,
    TIMEOUT_FACTOR,
    CampaignResult,
    run_within_budget,
)


@dataclass
class FakeMachine:
    """Processes whose durations are given, and a clock that only they move."""

    durations: dict[str, float]
    now: float = 100.0
    log: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    def launch(self, job: CampaignJob) -> FakeProcess:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.log.append(f"launch {job.id}")
        return FakeProcess(self, job)

    def run(
        self, jobs: list[CampaignJob], budget_seconds: float, ahead: int = 2, patience: float = 1.0
    ) -> CampaignResult:
        return run_within_budget(
            jobs,
            budget_seconds=budget_seconds,
            clock=lambda: self.now,
            launch=self.launch,
            on_outcome=lambda job, outcome: self.outcomes.append(job.id),
            ahead=ahead,
            patience=patience,
        )


@dataclass
class FakeProcess:
    machine: FakeMachine
    job: CampaignJob

    def finish(self, timeout_seconds: float) -> Outcome:
        self.machine.open -= 1
        needed = self.machine.durations[self.job.id]
        self.machine.now += min(needed, timeout_seconds)
        self.machine.log.append(f"finish {self.job.id}")
        return Outcome("ok" if needed <= timeout_seconds else "timeout")

    def discard(self) -> None:
        self.machine.open -= 1
        self.machine.log.append(f"discard {self.job.id}")


def _job(name: str, cost_seconds: float = 10.0) -> CampaignJob:
    return CampaignJob(name, "training", cost_seconds)


def test_jobs_run_in_order_and_the_next_is_started_ahead() -> None:
    machine = FakeMachine({"a": 1, "b": 1, "c": 1})
    result = machine.run([_job("a"), _job("b"), _job("c")], 100, ahead=1)
    assert machine.log == ["launch a", "launch b", "finish a", "launch c", "finish b", "finish c"]
    assert machine.outcomes == ["a", "b", "c"]
    assert not result.left_out


def test_a_job_that_does_not_fit_is_left_out_and_a_cheaper_one_still_runs() -> None:
    machine = FakeMachine({"a": 60, "dear": 1, "cheap": 5})
    result = machine.run([_job("a", 60), _job("dear", 50), _job("cheap", 10)], 100)
    assert machine.outcomes == ["a", "cheap"]
    assert [job.id for job in result.left_out] == ["dear"]
    assert "discard dear" in machine.log


def test_a_job_that_hangs_gets_its_own_limit() -> None:
    machine = FakeMachine({"hangs": 1e9, "b": 1})
    result = machine.run([_job("hangs", 20), _job("b", 5)], 1000)
    assert [outcome.status for _, outcome in result.finished] == ["timeout", "ok"]
    assert machine.now == 100 + TIMEOUT_FACTOR * 20 + TIMEOUT_EXTRA_SECONDS + 1


def test_patience_raises_the_limit() -> None:
    slow = 3 * (TIMEOUT_FACTOR * 20 + TIMEOUT_EXTRA_SECONDS)
    for patience, status in ((2.9, "timeout"), (3.1, "ok")):
        ((_, outcome),) = FakeMachine({"slow": slow}).run([_job("slow", 20)], 1000, patience=patience).finished
        assert outcome.status == status


def test_a_job_that_the_end_of_the_budget_cuts_off_is_left_for_the_next_time() -> None:
    machine = FakeMachine({"slow": 60, "b": 1})
    result = machine.run([_job("slow", 20), _job("b", 5)], 50)
    assert machine.now == 100 + 50 - RESERVE_SECONDS
    assert [job.id for job in result.left_out] == ["slow", "b"]
    assert machine.outcomes == []
    assert machine.open == 0


def test_nothing_is_started_without_time() -> None:
    machine = FakeMachine({})
    result = machine.run([_job("a")], 0)
    assert machine.log == []
    assert [job.id for job in result.left_out] == ["a"]


@given(
    durations=st.lists(st.floats(0, 500), max_size=12),
    costs=st.lists(st.floats(1, 100), min_size=12, max_size=12),
    budget=st.floats(0, 600),
    ahead=st.integers(0, 4),
)
def test_the_budget_holds_and_no_process_is_left(
    durations: list[float], costs: list[float], budget: float, ahead: int
) -> None:
    jobs = [_job(str(i), cost) for i, (_, cost) in enumerate(zip(durations, costs, strict=False))]
    machine = FakeMachine({str(i): duration for i, duration in enumerate(durations)})
    result = machine.run(jobs, budget, ahead)
    assert machine.now <= 100 + budget + 1e-6
    assert machine.open == 0
    assert machine.most_open <= ahead + 1
    seen = [job.id for job, _ in result.finished] + [job.id for job in result.left_out]
    assert sorted(seen) == sorted(job.id for job in jobs)
