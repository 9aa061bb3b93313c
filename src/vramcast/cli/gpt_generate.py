"""`vramcast gpt generate`: the text alone on stdout, all that is said about it on stderr."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_DOES_NOT_FIT, EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.errors import MissingExtraError
from vramcast.gpt.settings import GenerateSettings

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.gpt.generating import GenerationResult


class GenerateFlags(GenerateSettings):
    """`GenerateSettings` with the names of flags, the training guide's own spelling among them."""

    name: Annotated[str | None, Parameter(alias="--model-name", show_default=False)] = None
    """Name of a trained model: its folder under --models-dir."""
    pretrained: Annotated[str | None, Parameter(name="--from", show_default=False)] = None
    """Folder of a model instead of a name."""
    greedy: Annotated[bool, Parameter(negative="")] = False
    """Always the most likely token; temperature, top-k and top-p have no say."""
    kv_cache: Annotated[bool, Parameter(negative="--no-kv-cache")] = True
    """Keep keys and values of earlier tokens; --no-kv-cache computes them again for every token."""
    force: Annotated[bool, Parameter(negative="")] = False
    """Generate even if the forecast says that it does not fit."""


def generate(*, settings: Annotated[GenerateFlags, Parameter(name="*")], json: JsonFlag = False) -> int:
    """Generate text with a trained model, token by token."""
    try:
        from vramcast.gpt.generating import generate as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"generating ({error.name})", "gpt") from error
    from vramcast.gpt.errors import DoesNotFitError

    report = _Teller()
    try:
        result = run(settings, _silent if json else _write, report)
    except DoesNotFitError as refusal:
        report.note(str(refusal))
        if json:
            print_json(refusal.to_dict())
        return EXIT_DOES_NOT_FIT
    if json:
        print_json(result.to_dict())
        return EXIT_DONE
    if not result.text.endswith("\n"):
        print()
    _tell_end(result, report)
    return EXIT_DONE


def _silent(text: str) -> None:
    """With --json the text is part of the answer."""


def _write(text: str) -> None:
    print(text, end="", flush=True)


class _Teller:
    """Lines on stderr."""

    def note(self, text: str) -> None:
        """A line of its own."""
        print(text, file=sys.stderr)

    def forecast(self, forecast: "Forecast", gpu_is_present: bool) -> None:
        """The verdict and both peaks that PyTorch counts."""
        from vramcast.units import format_gib
        from vramcast.views.rows import verdict_line

        allocated, reserved = format_gib(forecast.peak_allocated_bytes), format_gib(forecast.peak_reserved_bytes)
        self.note(f"{verdict_line(forecast)}; forecast peak allocated {allocated}, reserved {reserved}")

    def working(self, what: str, done: int, total: int) -> None:
        """Recording, which is told before it begins."""
        if done == 0:
            self.note(what)


def _tell_end(result: "GenerationResult", report: _Teller) -> None:
    """How fast it was; forecast beside measurement."""
    report.note(f"{len(result.tokens)} tokens, {result.tokens_per_second:.1f} tokens/s on {result.device}")
    if result.forecast is None or result.measured is None:
        return
    from vramcast.views.gpt_training_rows import comparison_rows

    for row in comparison_rows(result.forecast, result.measured):
        report.note(f"{row.name}: forecast {row.forecast}, measured {row.measured}, error {row.error}")
