"""A run tells `vramcast watch` what it was forecast to take: a small file for as long as it lasts. Needs no torch."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vramcast.tapes.library import CACHE_VARIABLE
from vramcast.whole_file import replacing

if TYPE_CHECKING:
    from vramcast.forecast import Forecast


@dataclass(frozen=True, slots=True)
class Announcement:
    """A run of ours and its forecast, in bytes."""

    pid: int
    what: str
    """Such as `training of gpt2`."""
    gpu: str
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    device_used_bytes: int


@contextmanager
def announced_run(forecast: Forecast) -> Iterator[None]:
    """Announce the forecast of what this process does in the block; where the file cannot be written, a warning says so."""
    announcement = Announcement(
        pid=os.getpid(),
        what=f"{forecast.workload} of {forecast.model}",
        gpu=forecast.gpu,
        peak_allocated_bytes=forecast.peak_allocated_bytes,
        peak_reserved_bytes=forecast.peak_reserved_bytes,
        device_used_bytes=forecast.device_used_bytes,
    )
    path = announcement_folder() / f"{announcement.pid}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(announcement)), encoding="utf-8")
    except OSError as error:
        warnings.warn(f"`vramcast watch` will not know of this run: {path} cannot be written ({error})", stacklevel=3)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def announced_runs() -> list[Announcement]:
    """Runs that go on; files of processes that are gone are removed."""
    found = []
    for path in sorted(announcement_folder().glob("*.json")):
        try:
            announcement = Announcement(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue  # of another release, or gone since it was listed
        if _is_alive(announcement.pid):
            found.append(announcement)
        else:
            path.unlink(missing_ok=True)
    return found


def announcement_folder() -> Path:
    """`runs` in `VRAMCAST_CACHE`, else in the folder that the user's system keeps for running programs."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]) / "runs"
    from platformdirs import user_runtime_path

    with warnings.catch_warnings():
        # Without a login session there is no folder of that kind, and platformdirs says so before it takes a temporary one.
        warnings.simplefilter("ignore")
        return user_runtime_path("vramcast") / "runs"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
