"""`vramcast watch`: live memory of the GPUs of this machine."""

from __future__ import annotations

import json as json_format
import time
from typing import Annotated, Any

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_DONE, JsonFlag
from vramcast.errors import InputError
from vramcast.measure.announcement import announced_runs
from vramcast.measure.nvml import opened_nvml, read_gpus

_SHORTEST_SECONDS = 0.1


def watch(
    *,
    interval: Annotated[float, Parameter(help="Seconds between two readings.")] = 1.0,
    once: Annotated[bool, Parameter(negative="", help="Read once, print and end.")] = False,
    json: JsonFlag = False,
) -> int:
    """Live memory of the GPUs and their processes, with the forecast of runs of vramcast on them."""
    if not interval >= _SHORTEST_SECONDS:
        raise InputError("--interval", interval, f"must be at least {_SHORTEST_SECONDS} seconds")
    with opened_nvml() as nvml:
        if json:
            _print_json(nvml)
        elif once:
            _print_once(nvml)
        else:
            _live(nvml, interval)
    return EXIT_DONE


def _print_json(nvml: Any) -> None:
    from vramcast.views.watch_rows import watch_dict

    print(json_format.dumps(watch_dict(read_gpus(nvml), announced_runs())))


def _print_once(nvml: Any) -> None:
    from rich.console import Console

    from vramcast.views.watch_terminal import watch_renderable

    Console().print(watch_renderable(read_gpus(nvml), announced_runs()))


def _live(nvml: Any, interval: float) -> None:
    """Until Ctrl-C."""
    from rich.live import Live

    from vramcast.views.watch_terminal import watch_renderable

    with Live(auto_refresh=False) as live:
        try:
            while True:
                view = watch_renderable(read_gpus(nvml), announced_runs(), height=live.console.height)
                live.update(view, refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return
