"""`vramcast training`: memory, FLOPs, time and cost of a training job."""

from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from vramcast.cli.parameters import TIME_GROUP, CheckFlag, JsonFlag, ModelArgument, OfflineFlag, StrictFlag, TraceFlag
from vramcast.cli.showing import check_strict, code_of, print_json, progress_on_terminal
from vramcast.compute import TimeOptions, TrainingTime, training_time
from vramcast.forecast.answer import TrainingAnswer, training_answer
from vramcast.job import TrainingJob, TrainingOptions


class TimeFlags(TimeOptions):
    """`TimeOptions` with the short name of a flag."""

    price_per_gpu_hour: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, Parameter(alias="--price")
    ] = None
    """Price of one GPU for one hour, in any currency. Without an MFU the cost is one at the least, made from a lower bound."""


def training(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    time: Annotated[TimeFlags, Parameter(name="*", group=TIME_GROUP)] = TimeFlags(),  # noqa: B008  (frozen)
    trace: TraceFlag = False,
    json: JsonFlag = False,
    check: CheckFlag = False,
    strict: StrictFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Memory to train MODEL: peaks, what they are made of, whether they fit the GPU; FLOPs, time and cost."""
    check_strict(check, strict)
    time.check_together()
    with progress_on_terminal() as progress:
        answer = training_answer(
            TrainingJob(model=model, **options.model_dump()), offline=offline, trace=trace, progress=progress
        )
    took = _time(answer, time)
    if json:
        print_json({**answer.forecast.to_dict(), "time": None if took is None else took.to_dict()})
    else:
        _print(answer, took)
    return code_of(answer.forecast.verdict, check, strict)


def _time(answer: TrainingAnswer, time: TimeFlags) -> TrainingTime | None:
    """None for a custom GPU, whose rates nobody gave; asking for a time on it all the same is refused.

    Raises:
        InputError: a time was asked for that cannot be told.
    """
    if answer.gpu.name == "custom" and not time.model_fields_set:
        return None
    return training_time(answer.source.operators["step"], answer.gpu, answer.job, time)


def _print(answer: TrainingAnswer, took: TrainingTime | None) -> None:
    from rich.console import Console

    from vramcast.views.compute_terminal import print_training_time
    from vramcast.views.flops_terminal import print_flops
    from vramcast.views.terminal import print_forecast

    console = Console()
    print_forecast(answer.forecast, console)
    console.print()
    if took is None:
        print_flops(answer.source.operators["step"], console)
    else:
        print_training_time(took, console)
