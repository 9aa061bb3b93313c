from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from fake_nvml import FakeNVML
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import vramcast.cli.watch as command
from vramcast.cli import main
from vramcast.measure.announcement import Announcement
from vramcast.measure.nvml import GPUReading, ProcessReading
from vramcast.views.watch_rows import WatchRow, elsewhere_rows, forecast_share, process_rows
from vramcast.views.watch_terminal import bar, watch_renderable

GIB = 1 << 30
GPU = GPUReading(
    0,
    "NVIDIA H200",
    100 * GIB,
    30 * GIB,
    (ProcessReading(7, "python", 10 * GIB), ProcessReading(8, "other", 20 * GIB)),
)
RUN = Announcement(7, "training of gpt2", "h200", 40 * GIB, 45 * GIB, 50 * GIB)


def text_of(
    *runs: Announcement, gpus: Sequence[GPUReading] = (GPU,), width: int = 160, height: int | None = None
) -> str:
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        console = Console(width=width, record=True, file=nowhere)
        console.print(watch_renderable(gpus, runs, height=height))
    return console.export_text()


def ends_with(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["watch", *arguments])
    assert end.value.code == code


def test_a_run_of_ours_comes_first_and_carries_its_forecast() -> None:
    assert process_rows(GPU, [RUN]) == [
        WatchRow("7", "training of gpt2", "10.00 GiB", "forecast 50.00 GiB"),
        WatchRow("8", "other", "20.00 GiB"),
    ]


def test_a_run_over_its_forecast_says_by_how_much() -> None:
    small = replace(RUN, device_used_bytes=9 * GIB)
    assert process_rows(GPU, [small])[0] == WatchRow(
        "7", "training of gpt2", "10.00 GiB", "1.00 GiB over forecast", is_over=True
    )


def test_the_line_stands_where_others_and_the_forecast_end() -> None:
    assert forecast_share(GPU, []) is None
    assert forecast_share(GPU, [RUN]) == (20 + 50) / 100
    assert bar(0.3, 0.7, 60).plain == "█" * 18 + "·" * 24 + "┃" + "·" * 17
    assert bar(0.3, 1.0, 60).plain[-1] == "┃"
    assert bar(0.3, None, 60).plain == "█" * 18 + "·" * 42


def test_what_is_past_the_line_is_red() -> None:
    over = bar(0.5, 0.2, 20)
    assert over.plain == "████┃█████" + "·" * 10
    assert [span.start for span in over.spans if span.style == "red"] == [5, 6, 7, 8, 9]
    assert not [span for span in bar(0.5, 0.6, 20).spans if span.style == "red"]


@given(used=st.floats(0, 1), forecast=st.none() | st.floats(0, 1), width=st.integers(1, 80))
def test_a_bar_is_as_wide_as_it_should_be(used: float, forecast: float | None, width: int) -> None:
    assert len(bar(used, forecast, width).plain) == width


def test_a_run_that_no_gpu_lists_is_shown_all_the_same() -> None:
    waiting = Announcement(9, "generation of gpt2", "h200", 1, 2, 3 * GIB)
    assert [row.pid for row in elsewhere_rows([GPU], [RUN, waiting])] == ["9"]
    shown = text_of(RUN, waiting)
    assert "runs that no GPU lists" in shown
    assert "30.00 of 100.00 GiB" in shown
    assert shown.count("┃") == 2  # on the bar, and in the legend


def test_what_the_driver_does_not_tell_is_said() -> None:
    silent = GPUReading(
        1, "NVIDIA GB10", None, None, (ProcessReading(7, "python", None),), "not told: memory (Not Supported)"
    )
    shown = text_of(RUN, gpus=[silent])
    assert "not told: memory (Not Supported)" in shown
    assert "forecast 50.00 GiB" in shown
    assert "┃" not in shown
    partly = replace(GPU, processes=(), problem="not told: processes (No Permission)")
    assert "not told: processes (No Permission)" in text_of(gpus=[partly])


@pytest.mark.parametrize(("others", "lines"), [(0, 17), (1, 17), (5, 17)])
def test_eight_gpus_fit_on_a_small_terminal(others: int, lines: int) -> None:
    """80 columns and 24 lines."""
    gpus, runs = [], []
    for index in range(8):
        mine = ProcessReading(100 + index, "python", 20 * GIB)
        beside = tuple(ProcessReading(200 + 10 * index + number, "/usr/bin/python3", GIB) for number in range(others))
        gpus.append(GPUReading(index, "NVIDIA H100 80GB HBM3", 80 * GIB, (20 + others) * GIB, (*beside, mine)))
        runs.append(replace(RUN, pid=mine.pid, what="training of meta-llama/Llama-3.1-70B"))
    shown = text_of(*runs, gpus=gpus, width=80, height=24).splitlines()
    assert len(shown) == lines
    assert max(len(line) for line in shown) <= 80
    for index in range(8):
        assert sum(f"GPU {index}" in line and f"{20 + others}.00 of 80.00 GiB" in line for line in shown) == 1
    plus = f" +{others}" if others else ""
    assert sum(f"{100 + index}{plus}  training of" in line for line in shown for index in range(8)) == 8
    assert sum("forecast 50.00 GiB" in line for line in shown) == 8


def test_the_smallest_processes_share_a_row_where_lines_are_few() -> None:
    processes = tuple(ProcessReading(pid, f"p{pid}", pid * GIB) for pid in range(1, 9))
    gpu = replace(GPU, processes=processes)
    assert process_rows(gpu, [], limit=3) == [
        WatchRow("8", "p8", "8.00 GiB"),
        WatchRow("7", "p7", "7.00 GiB"),
        WatchRow("", "6 more", "21.00 GiB"),
    ]
    assert len(process_rows(gpu, [])) == 8


def test_without_a_driver_it_is_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML(fails_at_start=True))
    ends_with(2)
    assert "need an NVIDIA GPU and its driver" in capsys.readouterr().err


def test_json_is_ints_of_bytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML([("A", 10, 4, [(7, 3)])], names={7: "python"}))
    ends_with(0, "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["gpus"][0]["processes"] == [{"pid": 7, "name": "python", "used_bytes": 3}]
    assert answer["announced_runs"] == []


def test_once_prints_and_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML([("A card", 10 * GIB, 4 * GIB, [])]))
    ends_with(0, "--once")
    (line,) = capsys.readouterr().out.splitlines()[:1]
    assert line.startswith("GPU 0  A card  █")
    assert line.endswith("4.00 of 10.00 GiB")


def test_it_follows_until_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeNVML([("A card", 10 * GIB, 4 * GIB, [])])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    waits: list[float] = []

    def wait(grow: Callable[[], None]) -> Callable[[float], None]:
        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                raise KeyboardInterrupt
            grow()

        return sleep

    def grow() -> None:
        fake.gpus[0] = ("A card", 10 * GIB, 9 * GIB, [])

    monkeypatch.setattr(command.time, "sleep", wait(grow))
    ends_with(0, "--interval", "0.5")
    assert waits == [0.5] * 3
    assert "9.00 of 10.00 GiB" in capsys.readouterr().out
    assert not fake.is_open


@pytest.mark.parametrize("interval", ["0", "-1", "nan"])
def test_an_interval_must_be_a_time(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(2, "--interval", interval)
    assert "--interval=" in capsys.readouterr().err
