"""`vramcast gpt train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from vramcast.cli.parameters import EXIT_DOES_NOT_FIT, EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.errors import MissingExtraError
from vramcast.gpt.settings import MAX_VOCABULARY, TrainSettings

SIGNAL_EXIT = 128
"""A process ended by a signal exits with this plus its number, as shells count."""


class TrainFlags(TrainSettings):
    """`TrainSettings` with the names of flags, the training guide's own spelling among them."""

    name: Annotated[str, Parameter(alias="--model-name")]
    """Name of the model: its folder under --models-dir."""
    input: Annotated[Path, Parameter(alias="--input-file")]
    """Text to train on, in UTF-8."""
    config: Annotated[str | None, Parameter(alias="--config-file", show_default=False)] = None
    """A preset (tiny, 150M, gpt2, ...), a JSON file of one's own, or a Hugging Face config.json or its folder."""
    pretrained: Annotated[str | None, Parameter(name="--from", show_default=False)] = None
    """Fine-tune the model of this folder instead of starting from random weights."""
    vocab_size: Annotated[Annotated[int, Field(ge=2, le=MAX_VOCABULARY)] | None, Parameter(show_default=False)] = None
    """Rows of the embedding, and size of a bpe trained here; by default what the tokenizer needs, rounded up to a multiple of 64."""
    force: Annotated[bool, Parameter(negative="")] = False
    """Train even if the forecast says that it does not fit."""


def train(*, settings: Annotated[TrainFlags, Parameter(name="*")], json: JsonFlag = False) -> int:
    """Train a model on a text: forecast first, then the loop with checkpoints, forecast beside measurement at the end."""
    try:
        from vramcast.gpt.training import train as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"training ({error.name})", "gpt") from error
    from vramcast.gpt.errors import DoesNotFitError
    from vramcast.views.gpt_training_terminal import terminal_report

    with terminal_report(quiet=json) as report:
        try:
            result = run(settings, report)
        except DoesNotFitError as refusal:
            report.refused(refusal)
            if json and report.is_main:
                print_json(refusal.to_dict())
            return EXIT_DOES_NOT_FIT
    if json and report.is_main:
        print_json(result.to_dict())
    return EXIT_DONE if result.signal_number is None else SIGNAL_EXIT + result.signal_number
