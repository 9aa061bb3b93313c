"""`vramcast generation`: memory and time of generating with a key-value cache."""

from typing import Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import TIME_GROUP, CheckFlag, JsonFlag, ModelArgument, OfflineFlag, StrictFlag, TraceFlag
from vramcast.cli.showing import check_strict, code_of, print_json, progress_on_terminal
from vramcast.compute import GenerationTime, decode_time
from vramcast.forecast.answer import GenerationAnswer, generation_answer
from vramcast.job import GenerationJob, GenerationOptions


def generation(
    model: ModelArgument,
    /,
    *,
    options: Annotated[GenerationOptions, Parameter(name="*")] = GenerationOptions(),  # noqa: B008  (frozen)
    allow_tf32: Annotated[
        bool,
        Parameter(group=TIME_GROUP, help="fp32 matrix products may use TF32, which PyTorch does not do by default."),
    ] = False,
    trace: TraceFlag = False,
    json: JsonFlag = False,
    check: CheckFlag = False,
    strict: StrictFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Memory to generate with MODEL: weights, prefill, and decoding with a key-value cache; least time of each token."""
    check_strict(check, strict)
    job = GenerationJob(model=model, **options.model_dump())
    with progress_on_terminal() as progress:
        answer = generation_answer(job, offline=offline, trace=trace, progress=progress)
    took = _time(answer, job, allow_tf32)
    if json:
        print_json({**answer.forecast.to_dict(), "time": None if took is None else took.to_dict()})
    else:
        _print(answer, took)
    return code_of(answer.forecast.verdict, check, strict)


def _time(answer: GenerationAnswer, job: GenerationJob, allow_tf32: bool) -> GenerationTime | None:
    """None for a custom GPU, whose rates nobody gave."""
    if answer.gpu.name == "custom" and not allow_tf32:
        return None
    return decode_time(answer.source.operators, answer.gpu, job, allow_tf32=allow_tf32)


def _print(answer: GenerationAnswer, took: GenerationTime | None) -> None:
    from rich.console import Console

    from vramcast.views.compute_terminal import print_generation_time
    from vramcast.views.flops_terminal import print_interval_flops
    from vramcast.views.terminal import print_forecast

    console = Console()
    print_forecast(answer.forecast, console)
    console.print()
    if took is None:
        print_interval_flops(answer.source.operators, console)
    else:
        print_generation_time(took, console)
