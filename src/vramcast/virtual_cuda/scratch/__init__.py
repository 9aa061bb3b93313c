"""Which operators take which scratch rule (`vramcast.kernels`), and with which arguments, read from their tensors.

To add one: write a function of the operator's positional arguments that returns the rule's, in the file of its kind, and register it with
`@takes_scratch(OPERATOR, RULE)`. A second one for the same operator is an error.
"""

# Importing the files registers what is in them.
from vramcast.virtual_cuda.scratch import attention, embedding, foreach
from vramcast.virtual_cuda.scratch.registry import ScratchBuffer, results_before_scratch, scratch_of, takes_scratch

__all__ = [
    "ScratchBuffer",
    "attention",
    "embedding",
    "foreach",
    "results_before_scratch",
    "scratch_of",
    "takes_scratch",
]
