"""The campaign's code for a real GPU, run inside the virtual one: every call of torch.cuda that it makes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from validation.campaign_generation import run_generation
from validation.campaign_jobs import CampaignJob, find_job
from validation.campaign_machine import Machine, driver_used_bytes, process_used_bytes
from validation.campaign_probes import run_probe
from validation.campaign_training import run_training

from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

MIB = 1 << 20
TINY = find_job("tiny-train-gpt2-fp32")
REPLAY = CampaignJob("replay", "probe", fields={**TINY.fields, "probe": "replay"})
CONTEXT = find_job("probe-context")

NVIDIA_SMI = """#!/bin/sh
test "$1" = --id={gpu} || exit 6
case "$*" in
    *driver_version*) echo 580.65.06 ;;
    *memory.used*) echo 512 ;;
    *compute-apps*) {processes} ;;
esac
"""
InstallDriver = Callable[..., None]


@pytest.fixture
def gpu() -> Iterator[VirtualGPU]:
    with VirtualGPU(find_gpu("h200")) as gpu:
        yield gpu


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InstallDriver:
    """Puts an nvidia-smi in place that knows one GPU and these processes on it."""

    def install(processes: str, gpu: str = "0") -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(NVIDIA_SMI.format(processes=processes, gpu=gpu))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return install


@pytest.mark.parametrize("name", ["tiny-train-gpt2-fp32", "tiny-gen-gpt2-static"])
def test_a_job_reads_the_same_on_either_kind_of_gpu(name: str, driver: InstallDriver) -> None:
    driver("echo 7, 100")
    job = find_job(name)
    run = run_training if job.kind == "training" else run_generation
    expected = run(job, Machine("virtual", gpu="h200"), lambda: None)
    with VirtualGPU(find_gpu("h200")):
        readings = run(job, Machine("cuda"), lambda: None)
    assert readings == expected | {"process_used_bytes": 100 * MIB}
    assert readings["peak_allocated_bytes"] > 0


def test_the_context_is_asked_of_the_driver_at_every_stage(gpu: VirtualGPU, driver: InstallDriver) -> None:
    driver("echo 7, 2000")
    answers = run_probe(CONTEXT, Machine("cuda"), lambda: None)["answers"]
    assert answers["before_cuda"] == {"driver_used_bytes": 512 * MIB}
    for stage, reading in list(answers.items())[1:]:
        assert (reading["driver_used_bytes"], reading["process_used_bytes"]) == (512 * MIB, 2000 * MIB), stage
        assert reading["outside_allocator_bytes"] == reading["device_used_bytes"] - reading["reserved_bytes"]


def test_the_memory_history_is_switched_on_dumped_and_replayed(gpu: VirtualGPU) -> None:
    answers: dict[str, Any] = run_probe(REPLAY, Machine("cuda"), lambda: None)["answers"]
    assert answers["differences"] == 0
    assert answers["entries"] > 100
    for quantity in ("allocated", "reserved"):
        assert answers[f"replayed_peak_{quantity}_bytes"] == answers[f"measured_peak_{quantity}_bytes"] > 0


def test_a_gpu_is_described_with_its_driver(gpu: VirtualGPU, driver: InstallDriver) -> None:
    driver("true")
    described = Machine("cuda").describe()
    assert described["gpu"]["driver"] == "580.65.06"
    assert described["gpu"]["compute_capability"] == [9, 0]
    assert {"cuda", "cudnn"} <= set(described["versions"])


@pytest.mark.parametrize(
    ("processes", "used"),
    [
        ("echo 7, 100", 100 * MIB),  # a container: another number, but nobody else
        ("echo 7, 100; echo 8, 200", None),
        ("echo 7, 100; echo $PPID, 200", 200 * MIB),
        ("echo 7, '[N/A]'", None),
        ("true", None),
        ("exit 9", None),
    ],
)
def test_what_the_driver_counts_for_this_process(
    processes: str, used: int | None, driver: InstallDriver, gpu: VirtualGPU
) -> None:
    driver(processes)
    assert process_used_bytes() == used


def test_the_process_of_another_is_not_taken_for_this_one(driver: InstallDriver, gpu: VirtualGPU) -> None:
    driver("echo 7, 100")
    held = torch.empty(101 * MIB, dtype=torch.uint8, device="cuda")
    assert process_used_bytes() is None
    del held


def test_the_gpu_that_the_job_may_use_is_asked(
    monkeypatch: pytest.MonkeyPatch, driver: InstallDriver, gpu: VirtualGPU
) -> None:
    driver("echo 7, 100", gpu="3")
    assert driver_used_bytes() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert driver_used_bytes() == 512 * MIB
    assert process_used_bytes() == 100 * MIB


def test_a_machine_without_nvidia_smi_has_no_such_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process_used_bytes() is None
    assert driver_used_bytes() is None
