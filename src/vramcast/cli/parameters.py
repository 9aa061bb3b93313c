"""What several commands take, and the exit codes that all of them have."""

from typing import Annotated

from cyclopts import Parameter

EXIT_DONE, EXIT_DOES_NOT_FIT, EXIT_BAD_INPUT, EXIT_NO_ANSWER = 0, 1, 2, 3
EXIT_INTERRUPTED = 130
"""128 + the signal (SIGINT), as shells count."""

ModelArgument = Annotated[
    str, Parameter(help="A preset (see `vramcast models`), a config.json or its folder, or a Hub id.")
]
JsonFlag = Annotated[
    bool, Parameter(name="--json", negative="", help="Print the answer as JSON (integers of bytes) and nothing else.")
]
CheckFlag = Annotated[bool, Parameter(negative="", help="Exit with code 1 if it does not fit.")]
StrictFlag = Annotated[bool, Parameter(negative="", help="With --check: exit with code 1 also where it is tight.")]
TraceFlag = Annotated[
    bool,
    Parameter(negative="", help="Run the model's own code at full size instead of replaying its tape; needs torch."),
]
OfflineFlag = Annotated[bool, Parameter(negative="", help="Never ask the Hugging Face Hub.")]

TIME_GROUP = "Time and cost"
