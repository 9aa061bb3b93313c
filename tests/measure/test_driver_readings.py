from __future__ import annotations

import os
import sys

import pytest
from fake_nvml import FakeMismatchError, FakeNVML, FakeNVMLError

from vramcast.errors import MissingExtraError
from vramcast.measure.nvml import DriverError, GPUReading, ProcessReading, opened_nvml, process_used_bytes, read_gpus

GIB = 1 << 30


def test_gpus_and_their_processes_are_read() -> None:
    fake = FakeNVML([("NVIDIA H200", 140 * GIB, 9 * GIB, [(7, 8 * GIB), (8, None)])], names={7: "python"})
    with opened_nvml(fake) as nvml:
        (gpu,) = read_gpus(nvml)
    assert gpu == GPUReading(
        0,
        "NVIDIA H200",
        140 * GIB,
        9 * GIB,
        (ProcessReading(7, "python", 8 * GIB), ProcessReading(8, "", None)),
    )
    assert not fake.is_open


def test_no_driver_is_said() -> None:
    with (
        pytest.raises(DriverError, match=r"Driver Not Loaded.*need an NVIDIA GPU"),
        opened_nvml(FakeNVML(fails_at_start=True)),
    ):
        pass


def test_a_driver_that_stops_is_said_and_closed() -> None:
    fake = FakeNVML()
    with pytest.raises(DriverError, match="stopped answering"), opened_nvml(fake) as nvml:
        fake.is_open = False
        read_gpus(nvml)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"vramcast\[measure\]"), opened_nvml():
        pass


OTHER = 99_999_999


@pytest.mark.parametrize(
    ("processes", "used"),
    [
        ([(os.getpid(), 5), (1, 9)], 5),
        ([(OTHER, 4)], 4),  # in a container: other numbers, but nobody else is there
        ([(OTHER, 4), (OTHER - 1, 3)], None),
        ([(os.getpid(), None)], None),  # WSL, or a driver in WDDM mode
        ([], None),
    ],
)
def test_memory_of_this_process(processes: list[tuple[int, int | None]], used: int | None) -> None:
    with opened_nvml(FakeNVML([("x", 10, 10, processes)], uuids=["GPU-2b"])) as nvml:
        assert process_used_bytes(nvml, "2b") == used


def test_the_gpu_is_found_by_its_uuid_however_cuda_counts() -> None:
    mine = os.getpid()
    fake = FakeNVML([("slow", 10, 9, [(mine, 1)]), ("fast", 20, 9, [(mine, 2)])], uuids=["GPU-aa", "GPU-bb"])
    with opened_nvml(fake) as nvml:
        assert process_used_bytes(nvml, "bb") == 2
        assert process_used_bytes(nvml, "aa") == 1
        with pytest.raises(DriverError, match=r"GPU cc \(Not Found\)"):
            process_used_bytes(nvml, "cc")


def test_a_mig_instance_is_a_gpu_of_its_own() -> None:
    whole = ("NVIDIA A100", 40 * GIB, 8 * GIB, [])
    parts = {
        place: (f"MIG-{place}c", (f"MIG 1g.5gb {place}", 5 * GIB, GIB, [(os.getpid(), place)])) for place in (0, 5)
    }
    fake = FakeNVML([whole, ("other", GIB, 0, [])], uuids=["GPU-aa", "GPU-bb"], instances={0: parts})
    with opened_nvml(fake) as nvml:
        assert process_used_bytes(nvml, "5c") == 5
        readings = read_gpus(nvml)
    assert [(gpu.index, gpu.name) for gpu in readings] == [(0, "MIG 1g.5gb 0"), (0, "MIG 1g.5gb 5"), (1, "other")]


def test_a_gpu_with_mig_on_and_no_instance_is_shown_whole() -> None:
    with opened_nvml(FakeNVML([("NVIDIA A100", 40, 1, [])], instances={0: {}})) as nvml:
        assert [gpu.name for gpu in read_gpus(nvml)] == ["NVIDIA A100"]


@pytest.mark.parametrize("error", [FakeNVMLError("Not Supported"), FakeMismatchError("Unversioned function called")])
def test_what_one_gpu_does_not_tell_hides_nothing_else(error: Exception) -> None:
    gpus = [("integrated", 10, 4, [(7, 3)]), ("card", 20, 5, [(8, 2)])]
    for function, what in (
        ("nvmlDeviceGetMemoryInfo", "memory"),
        ("nvmlDeviceGetComputeRunningProcesses", "processes"),
    ):
        fake = FakeNVML(list(gpus), refuses={function: error}, refuses_on=0)
        with opened_nvml(fake) as nvml:
            first, second = read_gpus(nvml)
        assert first.problem == f"not told: {what} ({error})"
        assert (first.total_bytes, len(first.processes)) == ((None, 1) if what == "memory" else (10, 0))
        assert (second.total_bytes, second.problem) == (20, "")


def test_a_gpu_that_fell_off_the_bus_is_named() -> None:
    fake = FakeNVML(
        [("a", 10, 4, []), ("b", 20, 5, [])],
        refuses={"nvmlDeviceGetHandleByIndex": FakeNVMLError("GPU is lost")},
        refuses_on=1,
    )
    with opened_nvml(fake) as nvml:
        assert [gpu.problem for gpu in read_gpus(nvml)] == ["", "not told: everything (GPU is lost)"]


def test_a_driver_that_tells_no_processes_is_said() -> None:
    fake = FakeNVML(
        [("x", 10, 10, [])],
        uuids=["GPU-2b"],
        refuses={"nvmlDeviceGetComputeRunningProcesses": FakeMismatchError("old")},
    )
    with opened_nvml(fake) as nvml, pytest.raises(DriverError, match=r"processes of GPU 2b \(old\)"):
        process_used_bytes(nvml, "2b")


def test_what_this_relies_on_is_in_the_real_module() -> None:
    """The fake has the names of nvidia-ml-py, with its kinds of error."""
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in dir(FakeNVML) if name.startswith(("nvml", "NVML"))]
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert not issubclass(pynvml.NVMLLibraryMismatchError, pynvml.NVMLError)
