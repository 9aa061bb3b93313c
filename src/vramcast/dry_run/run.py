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
from vramcast.dry_run.files import TouchedFiles
from vramcast.dry_run.launch import Launch
from vramcast.dry_run.stopping import EnoughSteps, StepCounter
from vramcast.errors import InputError, VramcastError
from vramcast.forecast.answer import resolve_gpu
from vramcast.forecast.script_run import Ending, ScriptRun
from vramcast.hardware import GPU, allocator_capacity_bytes, cuda_context_bytes
from vramcast.job.script import ScriptOptions
from vramcast.units import format_bytes, parse_bytes
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
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def run_script(launch: Launch, options: ScriptOptions) -> DryRun:
    """Run a script on a virtual GPU until it ends, runs out of memory, or has made its optimizer steps.

    What the script prints it prints; what it raises is kept in the answer, but for errors of vramcast.

    Raises:
        InputError: no such script, GPU or capacity.
        RecordingError: the script does what cannot be followed.
    """
    launch.check()
    gpu = _gpu(options)
    machine = VirtualGPU(
        gpu,
        allocator_config=AllocatorConfig(expandable_segments=True) if options.expandable_segments else "environment",
        capacity_bytes=None if options.keep_going else _checked_capacity(gpu, options),
        device_count=min(options.world_size, DEFAULT_GPUS_PER_NODE),
        track_lines=True,
        mark_phases=True,
    )
    files = TouchedFiles()
    with as_one_of(options.world_size), files.noted(), machine:
        counter = StepCounter(machine, None if options.until_end else options.steps)
        outcome = _execute(launch.execute)
    outcome.notes += files.sentences()
    answer = answer_of(
        machine,
        launch,
        options,
        ended=outcome.ended,
        error=outcome.error,
        steps=tuple(counter.steps),
        seconds=outcome.seconds,
        host_memory_bytes=_largest_resident_set(),
        notes=outcome.notes,
    )
    return DryRun(answer, machine, outcome.error)


def _gpu(options: ScriptOptions) -> GPU:
    gpu = resolve_gpu(options.gpu, options.gpu_memory)
    if options.capacity is None:
        return gpu
    return gpu.model_copy(update={"memory_total_bytes": parse_bytes(options.capacity, "capacity")})


def _checked_capacity(gpu: GPU, options: ScriptOptions) -> int:
    capacity = allocator_capacity_bytes(gpu)
    if capacity > 0:
        return capacity
    field = "gpu_memory" if options.capacity is None else "capacity"
    context = cuda_context_bytes(gpu).bytes
    raise InputError(
        field, getattr(options, field), f"the CUDA context alone takes {format_bytes(context)} of the GPU; give more"
    )


def _execute(script: Callable[[], None]) -> _Outcome:
    outcome = _Outcome()
    start = time.perf_counter()
    with _quiet_services(outcome.notes):
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
        except VramcastError:
            raise
        except Exception as error:  # the script's own error belongs into the answer, whatever it is
            outcome.ended, outcome.error = "error", error
            outcome.notes += _advice(error)
    sys.stdout.flush()
    outcome.seconds = time.perf_counter() - start
    return outcome


def _advice(error: Exception) -> list[str]:
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
