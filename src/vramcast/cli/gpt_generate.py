"""`vramcast gpt generate`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_DONE, JsonFlag
from vramcast.cli.showing import print_json
from vramcast.errors import MissingExtraError
from vramcast.gpt.settings import GenerateSettings


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


def generate(*, settings: Annotated[GenerateFlags, Parameter(name="*")], json: JsonFlag = False) -> int:
    """Generate text with a trained model, token by token."""
    try:
        from vramcast.gpt.generating import generate as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"generating ({error.name})", "gpt") from error
    if json:
        print_json(run(settings).to_dict())
        return EXIT_DONE
    result = run(settings, lambda piece: print(piece, end="", flush=True))
    if not result.text.endswith("\n"):
        print()
    print(f"{len(result.tokens)} tokens, {result.tokens_per_second:.1f} tokens/s on {result.device}", file=sys.stderr)
    return EXIT_DONE
