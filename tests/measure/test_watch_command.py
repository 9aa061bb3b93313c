from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest
from fake_nvml import FakeNVML
from rich.console import Console

import vramcast.cli.watch as command
from vramcast.cli import main
from vramcast.measure.announcement import Announcement
from vramcast.measure.nvml import GPUReading, ProcessReading
from vramcast.views.watch_rows import elsewhere_rows, forecast_share, process_rows
from vramcast.views.watch_terminal import BAR_WIDTH, bar, watch_renderable

GIB = 1 << 30
GPU = GPUReading(
    0,
    "NVIDIA H200",
    100 * GIB,
    30 * GIB,
    (ProcessReading(7, "python", 10 * GIB), ProcessReading(8, "other", 20 * GIB)),
)
RUN = Announcement(7, "training of gpt2", "h200", 40 * GIB, 45 * GIB, 50 * GIB)


def text_of(*runs: Announcement) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: PTH123
    with console.file:
        console.print(watch_renderable([GPU], runs))
    return console.export_text()


def ends_with(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["watch", *arguments])
    assert end.value.code == code


def test_a_run_of_ours_carries_its_forecast() -> None:
    rows = process_rows(GPU, [RUN])
    assert [row.pid for row in rows] == [8, 7]
    assert rows[0].forecast == ""
    assert rows[1].name == "training of gpt2"
    assert rows[1].forecast == "forecast 45.00 GiB reserved, 50.00 GiB used"


def test_the_line_stands_where_others_and_the_forecast_end() -> None:
    assert forecast_share(GPU, []) is None
    assert forecast_share(GPU, [RUN]) == (20 + 50) / 100
    assert bar(GPU, 0.7).plain == "█" * 18 + "·" * 24 + "┃" + "·" * 17
    assert bar(GPU, 1.0).plain[-1] == "┃"
    assert len(bar(GPU, None).plain) == BAR_WIDTH


def test_a_run_that_no_gpu_lists_is_shown_all_the_same() -> None:
    waiting = Announcement(9, "generation of gpt2", "h200", 1, 2, 3)
    assert [row.pid for row in elsewhere_rows([GPU], [RUN, waiting])] == [9]
    shown = text_of(RUN, waiting)
    assert "runs that no GPU lists" in shown
    assert "NVIDIA H200  30.00 of 100.00 GiB" in shown
    assert "┃" in shown


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
    assert "A card  4.00 of 10.00 GiB" in capsys.readouterr().out


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
    assert "A card  9.00 of 10.00 GiB" in capsys.readouterr().out
    assert not fake.is_open


@pytest.mark.parametrize("interval", ["0", "-1", "nan"])
def test_an_interval_must_be_a_time(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(2, "--interval", interval)
    assert "--interval=" in capsys.readouterr().err
