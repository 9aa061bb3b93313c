"""Time and host memory of one traced training step, beside torch's own MemTracker on the same step.

    python benchmarks/trace_speed.py

Each case runs in a fresh process (`--case`), so that host memory is its own. Time is that of building the model and of one step (forward,
backward, optimizer), after imports; the step's own time stands beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from vramcast.units import GIB


@dataclass(frozen=True, slots=True)
class Case:
    """A model and the limits it must stay within."""

    model: str
    batch_size: int
    sequence_length: int
    dtype: str
    checkpointing: bool
    seconds_limit: float | None = None
    host_bytes_limit: int | None = None


CASES = {
    "gpt2": Case("gpt2", 8, 1024, "fp32", False, seconds_limit=1.5),
    "gpt2-xl": Case("gpt2-xl", 1, 1024, "fp32", False),
    "llama-3-8b": Case("llama-3-8b", 1, 2048, "bf16", False),
    "llama-3.1-70b": Case("llama-3.1-70b", 1, 4096, "bf16", True, seconds_limit=8.0, host_bytes_limit=2 * GIB),
}


def measure_vramcast(case: Case) -> dict[str, Any]:
    """One step on the virtual GPU."""
    import torch

    from vramcast.hardware import find_gpu
    from vramcast.models import load_model
    from vramcast.record.building import DTYPES, ModelBuilder, enable_checkpointing
    from vramcast.virtual_cuda import VirtualGPU

    build = ModelBuilder(load_model(case.model), attention="sdpa", dtype=DTYPES[case.dtype])
    begin = time.perf_counter()
    with VirtualGPU(find_gpu("a100-80gb")) as machine:
        model = build().to("cuda").train()
        if case.checkpointing:
            enable_checkpointing(model)
        optimizer = torch.optim.AdamW(model.parameters())
        built = time.perf_counter()
        ids = machine.host_tensor((case.batch_size, case.sequence_length), torch.long).to("cuda")
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    end = time.perf_counter()
    return {"total_seconds": end - begin, "step_seconds": end - built, "peak_bytes": machine.peak_allocated_bytes}


def measure_mem_tracker(case: Case) -> dict[str, Any]:
    """The same step under `torch.distributed._tools.mem_tracker.MemTracker` with fake CPU tensors, as its example shows."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    from vramcast.models import load_model
    from vramcast.record.building import DTYPES, ModelBuilder, enable_checkpointing

    build = ModelBuilder(load_model(case.model), attention="sdpa", dtype=DTYPES[case.dtype])
    begin = time.perf_counter()
    with FakeTensorMode():
        model = build().train()
        if case.checkpointing:
            enable_checkpointing(model)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        built = time.perf_counter()
        with tracker:
            ids = torch.zeros((case.batch_size, case.sequence_length), dtype=torch.long)
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()
    end = time.perf_counter()
    peak = max(snapshot["Total"] for snapshot in tracker.get_tracker_snapshot("peak").values())
    return {"total_seconds": end - begin, "step_seconds": end - built, "peak_bytes": peak}


TOOLS: dict[str, Callable[[Case], dict[str, Any]]] = {"vramcast": measure_vramcast, "MemTracker": measure_mem_tracker}


def in_fresh_process(tool: str, name: str) -> dict[str, Any]:
    """Run one case in its own process; a failure is a result too."""
    command = [sys.executable, __file__, "--case", name, "--tool", tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:80]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def print_case(tool: str, name: str) -> None:
    """Hidden entry: one measurement, as a line of JSON."""
    result = TOOLS[tool](CASES[name])
    result["host_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


def main() -> None:
    """Measure every case with both tools and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--tool", choices=TOOLS, default="vramcast")
    options = parser.parse_args()
    if options.case:
        print_case(options.tool, options.case)
        return
    columns = (
        "model",
        "tool",
        "build + step s",
        "step s",
        "limit s",
        "host GiB",
        "limit GiB",
        "peak GiB",
        "steps per MemTracker step",
    )
    table = Table(*columns, box=None)
    for name, case in CASES.items():
        results = {tool: in_fresh_process(tool, name) for tool in TOOLS}
        peer = results["MemTracker"].get("step_seconds")
        for tool, result in results.items():
            if "error" in result:
                table.add_row(name, tool, result["error"])
                continue
            ours = tool == "vramcast"
            table.add_row(
                name,
                tool,
                f"{result['total_seconds']:.2f}",
                f"{result['step_seconds']:.2f}",
                f"{case.seconds_limit:.1f}" if ours and case.seconds_limit else "",
                f"{result['host_bytes'] / GIB:.2f}",
                f"{case.host_bytes_limit / GIB:.0f}" if ours and case.host_bytes_limit else "",
                f"{result['peak_bytes'] / GIB:.3f}",
                f"{peer / result['step_seconds']:.2f}" if peer else "",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
