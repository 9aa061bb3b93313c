"""What a run on the virtual GPU leaves behind: plain data, no torch."""

from dataclasses import dataclass, field

from vramcast.kernels.sdpa_choice import AttentionChoice
from vramcast.timeline.decode import DecodeExtension
from vramcast.timeline.events import Timeline
from vramcast.timeline.operators import OperatorTable


@dataclass(slots=True)
class Recording:
    """A timeline with what else a forecast says about it."""

    timeline: Timeline
    parameters: int
    """Elements of all parameters, tied ones counted once."""
    flops_per_step: int
    """FLOPs of one optimizer step, or of generating one token for every sequence; a multiply-add counts as two."""
    kernels: dict[str, int] = field(default_factory=dict)
    """How often each choice of kernel was made."""
    attention_choices: list[AttentionChoice] = field(default_factory=list)
    """Distinct decisions of `scaled_dot_product_attention`, in order of first appearance: what must be decided alike at
    other sizes for the timeline to hold there."""
    assumptions: list[str] = field(default_factory=list)
    """What had to be assumed, each with its source line where there is one."""
    versions: dict[str, str] = field(default_factory=dict)
    """Releases of the libraries whose code was run."""
    operators: dict[str, OperatorTable] = field(default_factory=dict)
    """What is computed in each interval: `step` (one optimizer step) for training; `prefill`, `first_decode_step` and
    `last_decode_step` for generation, between which every figure of a decode step changes linearly."""
    section_operators: list[OperatorTable] = field(default_factory=list)
    """Of training: the operators of each section of the last step, from mark to mark."""
    decode: DecodeExtension | None = None
    """The decode steps of a generation that follow the end of `timeline`; None where the timeline is the whole."""
