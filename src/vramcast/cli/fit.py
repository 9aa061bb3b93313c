"""`vramcast fit`: one job over many cards."""

import json as json_library
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from vramcast.cli.showing import check_strict, code_of
from vramcast.errors import InputError
from vramcast.job import GenerationOptions, TrainingOptions
from vramcast.plan import fit_model, parse_prices, read_prices
from vramcast.plan.ask import Workload
from vramcast.views.fit_terminal import print_fit
from vramcast.views.progress_line import progress_line

_OPTIONS: dict[str, type[TrainingOptions] | type[GenerationOptions]] = {
    "training": TrainingOptions,
    "generation": GenerationOptions,
}


class FitOptions(TrainingOptions, GenerationOptions):  # type: ignore[misc]  # `precision` is the wider list, training's
    """Flags of both workloads; those that were given go to the job, which has its own defaults and its own checks."""

    gpu: Annotated[str, Parameter(show_default=False)] = "custom"
    """One more card, or custom together with --gpu-memory."""


def fit(
    model: Annotated[
        str, Parameter(help="A preset (see `vramcast models`), a config.json or its folder, or a Hub id.")
    ],
    /,
    *,
    workload: Annotated[
        Workload, Parameter(help="training or generation; defaults of the job are those of that command.")
    ] = "training",
    options: Annotated[FitOptions, Parameter(name="*")] = FitOptions(),  # noqa: B008  (frozen)
    on: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            show_default=False,
            help="Only these cards; all of the hardware file if not given.",
        ),
    ] = (),
    price: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", show_default=False, help="NAME=USD_PER_HOUR, once for each card; the cheapest is chosen."
        ),
    ] = (),
    price_file: Annotated[
        Path | None, Parameter(help='Prices: TOML lines "NAME" = USD_PER_HOUR, or CSV with gpu,usd_per_hour.')
    ] = None,
    json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print the matrix as JSON (integers of bytes), nothing else.")
    ] = False,
    check: Annotated[bool, Parameter(negative="", help="Exit with code 1 if it fits none of the cards.")] = False,
    strict: Annotated[
        bool, Parameter(negative="", help="With --check: exit with code 1 also where it is tight on the best of them.")
    ] = False,
    offline: Annotated[bool, Parameter(negative="", help="Never ask the Hugging Face Hub.")] = False,
) -> int:
    """On which GPU MODEL fits, the largest batch and the longest sequence on each, and the cheapest that will do."""
    check_strict(check, strict)
    prices = (read_prices(price_file) if price_file is not None else {}) | parse_prices(price)
    fields = _given(workload, options)
    with progress_line() as progress:
        matrix = fit_model(model, workload=workload, on=on, prices=prices, offline=offline, progress=progress, **fields)
    if json:
        print(json_library.dumps(matrix.to_dict()))
    else:
        print_fit(matrix, Console())
    return code_of(None if matrix.choice is None else matrix.choice.verdict, check, strict)


def _given(workload: str, options: FitOptions) -> dict[str, Any]:
    """The flags that were written.

    Raises:
        InputError: one of them is of the other workload.
    """
    fields = {name: getattr(options, name) for name in sorted(options.model_fields_set)}
    for name, value in fields.items():
        if name not in _OPTIONS[workload].model_fields:
            other = "generation" if workload == "training" else "training"
            raise InputError("--" + name.replace("_", "-"), value, f"is a flag of --workload {other}")
    return fields
