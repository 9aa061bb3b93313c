"""One dry run: a script on a virtual GPU, from its first line to the answer."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from vramcast.allocator import AllocatorConfig
from vramcast.dry_run.answer import answer_of
from vramcast.dry_run.launch import Launch
from vramcast.dry_run.launchers import followed_launchers
from vramcast.dry_run.missing import told_of_missing_libraries
from vramcast.dry_run.stopping import EnoughSteps, StepCounter
from vramcast.errors import InputError, RecordingError, VramcastError
from vramcast.forecast.answer import gpu_of_script
from vramcast.forecast.room import room_of
from vramcast.forecast.script_run import Ending, ScriptRun
from vramcast.hardware import GPU
from vramcast.job.script import WORST_RANK, ScriptOptions
from vramcast.units import format_bytes
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.patches.distributed_environment import DEFAULT_GPUS_PER_NODE, as_one_of
from vramcast.virtual_cuda.patches.environment import environment_variables
from vramcast.virtual_cuda.refusals import library_advice

_KIB = 1024
_WORD = re.compile(r"\w+")


@dataclass
class DryRun:
    """What a run leaves: the answer, the machine with its timeline, and the error that ended it."""

    answer: ScriptRun
    machine: VirtualGPU
    error: BaseException | None


@dataclass
class _Outcome:
    ended: Ending = "end"
    error: BaseException | None = None
    exit_code: str = ""
    """Of `os._exit`, which raises nothing."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def run_script(launch: Launch, options: ScriptOptions) -> DryRun:
    """Run a script on a virtual GPU until it ends, runs out of memory, or has made its optimizer steps.

    What the script prints it prints; what it raises is kept in the answer, but for errors of vramcast.

    Raises:
        InputError: no such script, GPU or capacity.
    """
    script = ScriptOnGPU(launch, options)
    with script.on_gpu():
        script.execute()
    return script.done()


class ScriptOnGPU:
    """A script and its virtual GPU, which can be asked for an answer at any moment."""

    def __init__(self, launch: Launch, options: ScriptOptions) -> None:
        """Look at everything before anything is patched; errors as for `run_script`."""
        self._launch, self._options = launch, options
        gpu = gpu_of_script(options)
        self.machine = VirtualGPU(
            gpu,
            allocator_config=AllocatorConfig(expandable_segments=True)
            if options.expandable_segments
            else "environment",
            capacity_bytes=None if options.keep_going else _checked_capacity(gpu, options),
            device_count=min(options.world_size, DEFAULT_GPUS_PER_NODE),
            track_lines=True,
            mark_phases=True,
        )
        self.counter = StepCounter(self.machine, None if options.until_end else options.steps)
        self._outcome = _Outcome()
        self._started = time.perf_counter()

    @contextmanager
    def on_gpu(self) -> Iterator[None]:
        """The virtual GPU is there inside the block, as one of a distributed run's where that was asked for."""
        rank = _rank(self._options)
        with (
            as_one_of(self._options.world_size, rank),
            self.machine,
            followed_launchers(self._launch, self.machine, rank),
            told_of_missing_libraries(self.machine),
            self._launch.as_main(),
        ):
            yield

    def execute(self) -> None:
        """Run the script to its end, whatever that is.

        Raises:
            InputError: something that was asked for on the command line does not fit the script.
        """
        self._started = time.perf_counter()
        outcome = self._outcome
        with _quiet_services(outcome.notes):
            _execute(self._launch.execute, outcome)
        self._check_rank()

    def _check_rank(self) -> None:
        """A launcher in the script says how many processes there are, so whether there is that rank shows at the end."""
        rank, processes = _rank(self._options), max(self.machine.world_size, self._options.world_size)
        if rank >= processes:
            raise InputError(
                "rank",
                rank,
                f"the run has {processes} process{'es' if processes > 1 else ''}; give a number below that",
            )

    @property
    def error(self) -> BaseException | None:
        """What ended the script, if it was an error."""
        return self._outcome.error

    @property
    def came_to_its_end(self) -> bool:
        """Whether Python would end the process now: the script was not stopped on its way."""
        return self._outcome.ended != "steps"

    def leaves(self, exit_code: object) -> None:
        """The script ends its process itself (`os._exit`); one that had come to its end before keeps that."""
        if self._outcome.ended == "end" and not self._outcome.seconds:
            self._outcome.ended, self._outcome.exit_code = "os_exit", str(exit_code)

    def done(self) -> DryRun:
        """The answer for what was recorded so far."""
        outcome, options = self._outcome, self._options
        answer = answer_of(
            self.machine,
            self._launch,
            options,
            rank=_rank(options),
            ended=outcome.ended,
            error=outcome.error,
            exit_code=outcome.exit_code,
            steps=tuple(self.counter.steps),
            seconds=outcome.seconds or time.perf_counter() - self._started,
            host_memory_bytes=_largest_resident_set(),
            notes=outcome.notes,
        )
        return DryRun(answer, self.machine, outcome.error)


def _rank(options: ScriptOptions) -> int:
    return 0 if options.rank == WORST_RANK else int(options.rank)


def _checked_capacity(gpu: GPU, options: ScriptOptions) -> int:
    room = room_of(gpu, world_size=options.world_size, margin=options.margin)
    if room.capacity_bytes > 0:
        return room.capacity_bytes
    field = "gpu_memory" if options.capacity is None else "capacity"
    outside = format_bytes(room.outside_bytes)
    what = "the CUDA context alone takes" if options.world_size == 1 else "the CUDA context and NCCL alone take"
    raise InputError(field, getattr(options, field), f"{what} {outside} of the GPU; give more")


def _execute(script: Callable[[], None], outcome: _Outcome) -> None:
    start = time.perf_counter()
    try:
        script()
    except EnoughSteps:
        outcome.ended = "steps"
    except SystemExit as error:
        if error.code not in (None, 0):
            outcome.ended, outcome.error = "exit", error
    except torch.OutOfMemoryError as error:
        outcome.ended, outcome.error = "out_of_memory", error
    except KeyboardInterrupt:
        outcome.ended = "interrupted"
    except RecordingError as error:
        outcome.ended, outcome.error = "refused", error
    except VramcastError:
        raise
    except BaseException as error:  # the script's own error belongs into the answer, whatever it is
        outcome.ended, outcome.error = "error", error
        outcome.notes += _advice(error)
    outcome.seconds = time.perf_counter() - start


def _advice(error: BaseException) -> list[str]:
    """What to do where a library of CUDA kernels is missing; who checks for it himself names it in his message alone."""
    if not isinstance(error, ImportError):
        return []
    names = [error.name] if error.name else _WORD.findall(str(error))
    return [advice for name in dict.fromkeys(names) if (advice := library_advice(name)) is not None]


@contextmanager
def _quiet_services(notes: list[str]) -> Iterator[None]:
    """Experiment trackers would report a run that never was."""
    with environment_variables({"WANDB_MODE": "disabled"}):
        yield
    if "wandb" in sys.modules:
        notes.append("Weights & Biases was switched off (WANDB_MODE=disabled)")


def _largest_resident_set() -> int:
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIB)
