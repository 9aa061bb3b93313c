"""`vramcast`: parses, calls, prints.

Exit codes: 0 done, 1 with --check when it does not fit (with --strict also when it is tight), 2 bad input, 3 no answer (a script failed or
put nothing on the GPU), 130 interrupted.
"""

import os
import sys

from cyclopts import App, CycloptsError

from vramcast import __version__
from vramcast.cli.output import safe_standard_output
from vramcast.cli.parameters import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED
from vramcast.errors import VramcastError

app = App(
    name="vramcast",
    help="How much GPU memory a transformer takes to train and to generate, before the job is launched and without a GPU.",
    version=__version__,
    result_action="return_value",
)

COMMANDS = {
    "training": "Memory to train MODEL: peaks, what they are made of, whether they fit the GPU; FLOPs, time and cost.",
    "generation": "Memory to generate with MODEL: weights, prefill, and decoding with a key-value cache; least time of each token.",
    "fit": "On which GPU MODEL fits, the largest batch and the longest sequence on each, and the cheapest that will do.",
    "sweep": "Memory to train MODEL at every pair of a batch size and a sequence length.",
    "explain": "Where each byte of training MODEL comes from: live tensors at the peak, the formula, switches, textbook beside truth.",
    "run": "Run a training or generation script, unmodified, on a virtual GPU: peaks, live memory by source line, the line that fails.",
    "measure": "Run the real step with random weights on the device present: forecast beside measurement, error by category.",
    "watch": "Live memory of the GPUs and their processes, with the forecast of runs of vramcast on them.",
    "tapes": "Recorded tapes: list them, read one, record another.",
    "gpus": "The GPUs of the hardware file: what their driver reports of their memory, and what CUDA offers of it.",
    "gpt": "Train a GPT and generate with it, for real, with the forecast beside the measurement.",
    "models": "The presets that ship with vramcast, with their parameters.",
}
"""Each is a function of its own name in a file of its own name, imported when it is called. Its first line, for `vramcast --help`."""

for _name, _help in COMMANDS.items():
    app.command(f"vramcast.cli.{_name}:{_name}", name=_name, help=_help)

_QUICK_START = {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "1"}
"""For imports that follow: numpy without a thread for each core, pydantic without a look at every installed package."""
RUN_A_USERS_CODE = ("gpt", "measure", "run")
"""Commands that run for real what their user brings, in his environment and no other."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs the command and exits with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] and words[0] not in RUN_A_USERS_CODE:
        for name, value in _QUICK_START.items():
            os.environ.setdefault(name, value)
    with safe_standard_output():
        code = _called(words)
    sys.exit(code if isinstance(code, int) else EXIT_DONE)


def _called(words: list[str]) -> object:
    """What the command returns, or the code of the error it ends in."""
    words = _delimited(words)
    try:
        return app(words, exit_on_error=False, print_error=False, help_on_error=False)
    except (VramcastError, CycloptsError) as error:
        return _refuse(_message(error, words))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _delimited(arguments: list[str]) -> list[str]:
    """A script's own arguments are not vramcast's to read."""
    if arguments[:1] != ["run"]:
        return arguments
    from vramcast.cli.script_arguments import delimited

    return ["run", *delimited(arguments[1:])]


def _message(error: Exception, words: list[str]) -> str:
    from vramcast.cli.refusals import refusal

    return refusal(error, app, words)


def _refuse(message: str) -> int:
    print(f"vramcast: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
