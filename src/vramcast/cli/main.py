"""`vramcast`: parses, calls, prints. Exit codes: 0 done, 1 with --check when it does not fit, 2 bad input."""

import json as json_library
import sys
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.table import Table

from vramcast import __version__
from vramcast.errors import VramcastError
from vramcast.forecast import Forecast, generation_forecast, training_forecast
from vramcast.hardware import all_gpus
from vramcast.job import GenerationJob, GenerationOptions, TrainingJob, TrainingOptions
from vramcast.job.checking import input_error_of
from vramcast.models import load_model, preset_names
from vramcast.units import format_gib
from vramcast.views.progress_line import progress_line
from vramcast.views.terminal import print_forecast

EXIT_DONE, EXIT_DOES_NOT_FIT, EXIT_BAD_INPUT = 0, 1, 2

app = App(
    name="vramcast",
    help="How much GPU memory a transformer takes to train and to generate, before the job is launched and without a GPU.",
    version=__version__,
    result_action="return_value",
)

ModelArgument = Annotated[
    str, Parameter(help="A preset (see `vramcast models`), a config.json or its folder, or a Hub id.")
]
JsonFlag = Annotated[
    bool, Parameter(name="--json", negative="", help="Print the forecast as JSON (integers of bytes) and nothing else.")
]
CheckFlag = Annotated[bool, Parameter(negative="", help="Exit with code 1 if it does not fit.")]
OfflineFlag = Annotated[bool, Parameter(negative="", help="Never ask the Hugging Face Hub.")]


@app.command
def training(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    json: JsonFlag = False,
    check: CheckFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Memory to train MODEL: peaks, what they are made of, and whether they fit the GPU."""
    with progress_line() as progress:
        forecast = training_forecast(
            TrainingJob(model=model, **options.model_dump()), offline=offline, progress=progress
        )
    return _show(forecast, json, check)


@app.command
def generation(
    model: ModelArgument,
    /,
    *,
    options: Annotated[GenerationOptions, Parameter(name="*")] = GenerationOptions(),  # noqa: B008  (frozen)
    json: JsonFlag = False,
    check: CheckFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Memory to generate with MODEL: weights, prefill, and decoding with a key-value cache."""
    with progress_line() as progress:
        forecast = generation_forecast(
            GenerationJob(model=model, **options.model_dump()), offline=offline, progress=progress
        )
    return _show(forecast, json, check)


@app.command
def gpus(*, json: JsonFlag = False) -> int:
    """The GPUs of the hardware file, with the memory their driver reports."""
    if json:
        print(json_library.dumps([gpu.model_dump(mode="json") for gpu in all_gpus()]))
        return EXIT_DONE
    table = Table("GPU", "architecture", "memory", "GB/s", "bf16 TFLOPS", box=None)
    table.columns[0].no_wrap = True
    for gpu in all_gpus():
        bandwidth = gpu.memory_bandwidth_bytes_per_second
        speed = "" if bandwidth is None else f"{bandwidth / 1e9:.0f}"
        table.add_row(
            gpu.name, gpu.architecture, format_gib(gpu.memory_total_bytes), speed, str(gpu.dense_tflops.bf16 or "")
        )
    Console().print(table)
    return EXIT_DONE


@app.command
def models(*, json: JsonFlag = False) -> int:
    """The presets that ship with vramcast, with their parameters."""
    configs = [load_model(name, offline=True) for name in preset_names()]
    if json:
        rows = [
            {"name": config.name, "parameters": config.parameters, **config.dimensions.model_dump()}
            for config in configs
        ]
        print(json_library.dumps(rows))
        return EXIT_DONE
    table = Table("model", "parameters", "layers", "hidden", "heads", "kv heads", "context", box=None)
    for config in configs:
        sizes = config.dimensions
        numbers = (
            sizes.num_hidden_layers,
            sizes.hidden_size,
            sizes.num_attention_heads,
            sizes.num_key_value_heads,
            sizes.context_length,
        )
        table.add_row(config.name, f"{config.parameters:,}", *map(str, numbers))
    Console().print(table)
    return EXIT_DONE


def _show(forecast: Forecast, json: bool, check: bool) -> int:
    if json:
        print(json_library.dumps(forecast.to_dict()))
    else:
        print_forecast(forecast, Console())
    return EXIT_DOES_NOT_FIT if check and forecast.verdict == "does_not_fit" else EXIT_DONE


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs the command and exits with its code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False, help_on_error=False)
    except VramcastError as error:
        code = _refuse(str(error))
    except CycloptsError as error:
        code = _refuse(str(input_error_of(error)))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else EXIT_DONE)


def _refuse(message: str) -> int:
    print(f"vramcast: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
