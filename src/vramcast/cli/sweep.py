"""`vramcast sweep`: a grid of batch sizes and sequence lengths."""

import json as json_library
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from vramcast.errors import InputError
from vramcast.job import TrainingOptions
from vramcast.plan import sweep_model
from vramcast.views.progress_line import progress_line
from vramcast.views.sweep_csv import sweep_csv
from vramcast.views.sweep_terminal import print_sweep

EXIT_DONE = 0
MAX_DIGITS = 18


def sweep(
    model: Annotated[
        str, Parameter(help="A preset (see `vramcast models`), a config.json or its folder, or a Hub id.")
    ],
    /,
    *,
    batch_sizes: Annotated[str, Parameter(help="Batch sizes, such as 1,2,4,8.")],
    sequence_lengths: Annotated[str, Parameter(help="Sequence lengths, such as 128,256,512.")],
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    quick: Annotated[
        bool, Parameter(negative="", help="Live tensors only, a lower bound of allocated, without the allocator.")
    ] = False,
    json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print the grid as JSON (integers of bytes), nothing else.")
    ] = False,
    csv: Annotated[
        bool, Parameter(name="--csv", negative="", help="Print the grid as CSV (integers of bytes), nothing else.")
    ] = False,
    offline: Annotated[bool, Parameter(negative="", help="Never ask the Hugging Face Hub.")] = False,
) -> int:
    """Memory to train MODEL at every pair of a batch size and a sequence length."""
    if json and csv:
        raise InputError("--csv", True, "choose one of --json and --csv")
    sizes = {
        "batch_sizes": _sizes("--batch-sizes", batch_sizes),
        "sequence_lengths": _sizes("--sequence-lengths", sequence_lengths),
    }
    fields = {name: getattr(options, name) for name in sorted(options.model_fields_set)}
    with progress_line() as progress:
        grid = sweep_model(model, **sizes, quick=quick, offline=offline, progress=progress, **fields)
    if json:
        print(json_library.dumps(grid.to_dict()))
    elif csv:
        print(sweep_csv(grid), end="")
    else:
        print_sweep(grid, Console())
    return EXIT_DONE


def _sizes(flag: str, text: str) -> list[int]:
    """Whole numbers separated by commas, each once, in the order written.

    Raises:
        InputError: anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= MAX_DIGITS for part in parts):
        raise InputError(flag, text, "write whole numbers separated by commas, such as 128,256,512")
    return list(dict.fromkeys(int(part) for part in parts))
