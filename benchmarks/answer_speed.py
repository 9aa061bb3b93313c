"""How long an answer takes: vramcast beside other tools and beside the floor of its own work, in one run on one machine.

    python benchmarks/answer_speed.py --peers-python PEERS/bin/python --markdown speed.md --json speed.json

Runs of what is compared alternate. The median counts; the fastest run and the CPU time stand beside it, for a machine may be busy.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

import vramcast
from cold_commands import Timing, commands, run
from speed_table import COLUMNS, Row, TapeSize, cells_of, machine, markdown, row_of
from trace_speed import in_fresh_process
from vramcast.allocator import replay_plain
from vramcast.forecast.answer import training_forecast
from vramcast.forecast.peaks import PeakSource, peak_source
from vramcast.forecast.training_tapes import bound_training
from vramcast.hardware import GPU, find_gpu
from vramcast.job import TrainingJob
from vramcast.models import load_model
from vramcast.plan import fit_model
from vramcast.tapes import BoundTape, Tape, find_tapes
from vramcast.tapes.format import dump
from vramcast.tapes.key import model_key, optimizer_key

JOB = TrainingJob(model="gpt2", batch_size=8, sequence_length=1024)
GRID = (range(1, 101), range(8, 801, 8))


def timed(what: str, ask: Callable[[], object], runs: int, goal: float | None = None, beside: str | None = None) -> Row:
    """Ask so often within this process, after a first time that does not count."""
    ask()
    timings = []
    for _ in range(runs):
        begin, cpu = time.perf_counter(), time.process_time()
        ask()
        timings.append(Timing(time.perf_counter() - begin, time.process_time() - cpu))
    return row_of(what, timings, goal, beside)


def cold_rows(runs: int, peers_python: str | None) -> Iterator[Row]:
    """Process start to answer."""
    with tempfile.TemporaryDirectory() as folder:
        asked = commands(Path(folder), peers_python)
        timings: dict[str, list[Timing]] = {command.name: [] for command in asked}
        for number in range(runs + 1):
            for command in asked:
                timing = run(command)
                if number:
                    timings[command.name].append(timing)
    for name, found in timings.items():
        is_ours = name.startswith("vramcast")
        yield row_of(name, found, 0.5 if is_ours else None, "accelerate estimate-memory" if is_ours else None)


def warm_rows(runs: int) -> Iterator[Row]:
    """The same question again and again within one process."""
    config, gpu = load_model(JOB.model), find_gpu(JOB.gpu)
    bound = bound_training(JOB, config, gpu)
    sizes, events, marks = bound.allocation_bytes, bound.unrolled.event_list, bound.unrolled.marks
    source, batch_sizes = peak_source(JOB, config, gpu), count(2)
    adding = "add up live bytes event by event (the floor of a replay)"
    replaying = "replay through the caching allocator"
    traced = "trace the model's own code at full size"
    tracked = "torch's MemTracker, one step on fake tensors"
    yield timed(adding, lambda: add_up(sizes, events), runs)
    yield timed(replaying, lambda: replay_plain(sizes, events, marks), runs, None, adding)
    yield timed("bind: bytes of every allocation", lambda: BoundTape(bound.tape, bound.values).allocation_bytes, runs)
    yield timed("unroll a tape that was just read", lambda: unroll_anew(bound), runs)
    yield timed(
        "whole forecast: vramcast.training('gpt2', batch_size=8)",
        lambda: vramcast.training(JOB.model, batch_size=JOB.batch_size, offline=True),
        runs,
        0.015,
        tracked,
    )
    yield timed(
        "peak of live tensors at another batch size",
        lambda: source.live_bytes(next(batch_sizes), JOB.sequence_length or 0),
        runs,
        0.001,
        tracked,
    )
    for model in ("gpt2", "llama-3-8b"):
        yield timed(f"grid of 100 x 100 live peaks, {model}", grid_of(model, gpu), runs, 0.05)
    yield timed(
        "fit on every card (reserved, exact), gpt2 amp-bf16",
        lambda: fit_model("gpt2", precision="amp-bf16", offline=True),
        min(runs, 3),
        2.0,
    )
    yield timed(traced, lambda: training_forecast(JOB, offline=True, trace=True), min(runs, 3), None, tracked)
    yield row_of(tracked, [mem_tracker() for _ in range(min(runs, 3))])


def add_up(sizes: list[int], events: list[int]) -> int:
    """Peak of live bytes in plain Python."""
    live = peak = 0
    for event in events:
        if event >= 0:
            live += sizes[event]
            if live > peak:
                peak = live
        else:
            live -= sizes[~event]
    return peak


def unroll_anew(bound: BoundTape) -> object:
    """A copy of the tape is another tape to every cache."""
    return BoundTape(dataclasses.replace(bound.tape), bound.values).unrolled


def grid_of(model: str, gpu: GPU) -> Callable[[], object]:
    """A whole grid at once."""
    source: PeakSource = peak_source(JOB.model_copy(update={"model": model}), load_model(model), gpu)
    return lambda: source.live_grid(*map(list, GRID))  # type: ignore[attr-defined]


def mem_tracker() -> Timing:
    """Building the model and one step, after imports, in a process of its own."""
    seconds = in_fresh_process("MemTracker", "gpt2")["total_seconds"]
    return Timing(seconds, seconds)


def tape_sizes() -> list[TapeSize]:
    """The two tapes of the job, as they are stored."""
    config = load_model(JOB.model)
    tapes: dict[str, Tape] = {
        "gpt2, forward and backward": next(find_tapes(model_key(JOB, config))),
        "AdamW": next(find_tapes(optimizer_key(JOB, config))),
    }
    return [TapeSize(name, len(dump(tape))) for name, tape in tapes.items()]


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--peers-python", help="interpreter of an environment with llm-analysis")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = machine()
    rows = [*cold_rows(options.runs, options.peers_python), *warm_rows(options.runs)]
    sizes, where = tape_sizes(), f"{before} before, {machine().rpartition('average ')[2]} after"
    table = Table(*COLUMNS, box=None, title=where)
    for cells in cells_of(rows):
        table.add_row(*cells)
    Console(width=200).print(table)
    for size in sizes:
        print(f"tape of {size.tape}: {size.bytes} bytes gzipped, goal {size.goal_bytes}")
    if options.markdown:
        options.markdown.write_text(markdown(cells_of(rows), sizes, where))
    if options.json:
        found = {"machine": where, "rows": rows, "tapes": sizes}
        options.json.write_text(json.dumps(found, default=dataclasses.asdict, indent=1))


if __name__ == "__main__":
    main()
