"""Memory that kernels take inside one operator and give back at its end: invisible to any trace, so each is a sourced rule.

To add a rule: write a pure function of ints in the file of its kind, register it under the operator's name with `scratch_rule`, and
name its source in the docstring. A second rule for the same operator is an error.
"""

from vramcast.virtual_cuda.scratch import attention, embedding, foreach
from vramcast.virtual_cuda.scratch.registry import scratch_bytes, scratch_rule

__all__ = ["attention", "embedding", "foreach", "scratch_bytes", "scratch_rule"]
