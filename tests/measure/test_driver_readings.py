from __future__ import annotations

import os
import sys

import pytest
from fake_nvml import FakeNVML

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


@pytest.mark.parametrize(
    ("processes", "used"),
    [
        ([(os.getpid(), 5), (1, 9)], 5),
        ([(99_999_999, 4)], 4),  # in a container: other numbers, but nobody else is there
        ([(99_999_999, 4), (99_999_998, 3)], None),
        ([], None),
    ],
)
def test_memory_of_this_process(processes: list[tuple[int, int | None]], used: int | None) -> None:
    with opened_nvml(FakeNVML([("x", 10, 10, processes)])) as nvml:
        assert process_used_bytes(nvml) == used
