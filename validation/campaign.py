"""Measure jobs on a GPU and keep the readings: `python validation/campaign.py --budget-seconds 540`.

Needs Python, torch, transformers and this source tree, nothing else. Every job runs in a fresh process; what is
measured already is not measured again, so the campaign can be stopped and started. Without a GPU: `--device cpu
--rehearse` (tiny jobs, no readings of an allocator) and `--device virtual` (every job on vramcast's virtual GPU, whose
readings are forecasts).
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "src")]

from validation.campaign_child import describe_machine, run_child  # noqa: E402
from validation.campaign_jobs import CampaignJob, all_jobs, rehearsal_jobs  # noqa: E402
from validation.campaign_process import SNAPSHOT_VARIABLE, MeasuringProcess, Outcome, allocator_variables, job_command  # noqa: E402
from validation.campaign_schedule import run_within_budget  # noqa: E402
from vramcast.measure.records import Record, append_record, check_appendable, measured_keys, record_key  # noqa: E402

RECORDS = Path(__file__).with_name("records")
_DESCRIBE_TIMEOUT_SECONDS = 120.0
_MIB = 1 << 20
_CORES_FOR_ONE, _MOST_AHEAD = 3, 5
"""Drawing the weights of a model of a billion parameters takes one core 20 s: started early, the GPU need not wait."""


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    if options.job:
        run_child(options.job, device=options.device, gpu=options.gpu, outcome=options.outcome, wait=options.wait)
        return 0
    if options.describe:
        describe_machine(device=options.device, gpu=options.gpu, outcome=options.outcome)
        return 0
    jobs = _selected(options.only, rehearse=options.rehearse)
    if options.list:
        for job in jobs:
            print(f"{job.id:40} {job.kind:10} {job.cost_seconds:5.0f} s")
        print(f"{len(jobs)} jobs, {sum(job.cost_seconds for job in jobs):.0f} s estimated")
        return 0
    _end_on_signals()
    return Campaign(options).run(jobs)


class Campaign:
    """One call of the program: who measures what, and where it is written."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started = time.monotonic()
        self.done = 0
        self.identity: dict[str, dict[str, str]] = {}
        self.path: Path = options.out

    def run(self, jobs: list[CampaignJob]) -> int:
        """Measure what is not measured yet; 0, 1 where jobs were left out, 2 where the machine cannot be used."""
        described = self._describe()
        if described.status != "ok":
            print(f"cannot use --device {self.options.device}: {described.message.splitlines()[-1]}", file=sys.stderr)
            return 2
        self.identity = described.readings
        self.path = self.options.out or RECORDS / _file_name(self.identity)
        try:
            check_appendable(self.path)
            known = measured_keys(self.path, retry=self.options.retry)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        waiting = [
            job for job in jobs if record_key(job.id, self.identity["versions"], self.identity["gpu"]) not in known
        ]
        say(
            f"{self.identity['gpu']['name']}: {len(waiting)} jobs to measure, "
            f"{len(jobs) - len(waiting)} in {self.path} already"
        )
        result = run_within_budget(
            waiting,
            budget_seconds=self.options.budget_seconds - (time.monotonic() - self.started),
            clock=time.monotonic,
            launch=self._launch,
            on_outcome=self._keep,
            ahead=self.options.ahead,
            patience=self.options.patience,
        )
        counts = Counter(outcome.status for _, outcome in result.finished)
        say(f"{dict(counts)} in {time.monotonic() - self.started:.0f} s; left out: {len(result.left_out)}")
        return 1 if result.left_out else 0

    def _describe(self) -> Outcome:
        process = self._process("--describe", variables=allocator_variables(False))
        return process.finish(_DESCRIBE_TIMEOUT_SECONDS)

    def _launch(self, job: CampaignJob) -> MeasuringProcess:
        variables = allocator_variables(job.expandable_segments)
        if self.options.keep_snapshots:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            variables[SNAPSHOT_VARIABLE] = str(self.path.with_name(f"{self.path.stem}.{job.id}.pickle.gz"))
        return self._process("--job", job.id, "--wait", variables=variables)

    def _process(self, *arguments: str, variables: dict[str, str]) -> MeasuringProcess:
        machine = ("--device", self.options.device, "--gpu", self.options.gpu)
        return MeasuringProcess(job_command(Path(__file__).resolve(), *arguments, *machine), variables=variables)

    def _keep(self, job: CampaignJob, outcome: Outcome) -> None:
        record = Record(
            id=job.id,
            kind=job.kind,
            job=job.to_dict(),
            readings=outcome.readings,
            versions=self.identity["versions"],
            gpu=self.identity["gpu"],
            status=outcome.status,
            message=outcome.message,
            seconds=outcome.seconds,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        append_record(self.path, record)
        self.done += 1
        peak = outcome.readings.get("peak_allocated_bytes")
        shown = (
            f"{peak / _MIB:10.1f} MiB allocated"
            if peak is not None
            else outcome.message.splitlines()[0][:90]
            if outcome.message
            else ""
        )
        say(
            f"{time.monotonic() - self.started:6.0f} s {self.done:3} {outcome.status:7} "
            f"{job.id:38} {outcome.seconds:6.1f} s {shown}"
        )


def say(line: str) -> None:
    """Print a line of progress at once, in colour where rich is installed."""
    try:
        from rich.console import Console
    except ImportError:
        print(line, flush=True)
        return
    Console(soft_wrap=True).print(line, markup=False)
    sys.stdout.flush()


def _end_on_signals() -> None:
    """So that a campaign that is told to end takes its processes with it; `nohup` is left alone."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda received, _: sys.exit(128 + received))


def _selected(prefix: str, *, rehearse: bool) -> list[CampaignJob]:
    return [job for job in (rehearsal_jobs() if rehearse else all_jobs()) if job.id.startswith(prefix)]


def _file_name(identity: dict[str, dict[str, str]]) -> str:
    """Such as `nvidia-h200-torch2.11.0.jsonl`."""
    gpu = re.sub(r"[^a-z0-9]+", "-", identity["gpu"]["name"].lower())
    prefix = "" if identity["gpu"]["kind"] == "cuda" else f"{identity['gpu']['kind']}-"
    return f"{prefix}{gpu}-torch{identity['versions']['torch'].split('+')[0]}.jsonl"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure GPU memory of training and generation jobs, in order of value."
    )
    parser.add_argument("--budget-seconds", type=float, default=540.0, help="time for everything (default: 540)")
    parser.add_argument(
        "--out", type=Path, help="file of the records (default: one for each GPU and torch, in validation/records)"
    )
    parser.add_argument("--only", default="", metavar="PREFIX", help="only jobs whose id starts so")
    parser.add_argument("--device", choices=("cuda", "cpu", "virtual"), default="cuda")
    parser.add_argument(
        "--gpu", default="h200", help="what --device virtual imitates: a row of the hardware file (default: h200)"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="tiny jobs instead of the campaign's; one fails on purpose"
    )
    parser.add_argument(
        "--ahead",
        type=int,
        default=max(1, min(_MOST_AHEAD, (os.cpu_count() or 1) // _CORES_FOR_ONE)),
        help="processes that import and build their model while another one measures (default: %(default)s here)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="times the usual limit of a job, on a machine slower than a data-center GPU (default: 1)",
    )
    parser.add_argument(
        "--keep-snapshots",
        action="store_true",
        help="keep the memory snapshots of the replay probes beside the records",
    )
    parser.add_argument("--retry", action="store_true", help="measure again what failed or ran out of time")
    parser.add_argument("--list", action="store_true", help="list the jobs and stop")
    for hidden in ("--job", "--outcome"):
        parser.add_argument(hidden, type=Path if hidden == "--outcome" else str, help=argparse.SUPPRESS)
    for hidden in ("--wait", "--describe"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
