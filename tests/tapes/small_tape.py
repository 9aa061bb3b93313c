"""A tape written by hand: one matrix in each layer, forward keeps its input, backward makes a gradient."""

from vramcast.tapes import Expression, Tape
from vramcast.tapes.tape import AllocRow, FreeRow, Guard, Label, OtherRow, Place, Program, Section, Segment
from vramcast.timeline import Category, EventKind

SAME, MIRRORED = Place(1, 0, 0), Place(-1, 1, 0)
"""Repetition of a row in a loop: the same one, or the one that is as far from the end as this is from the start."""
HERE = Place(0, 0, 0)
WEIGHT, HIDDEN, TOKENS = Expression(4, ("E", "E")), Expression(4, ("B", "E", "T")), Expression(8, ("B", "T"))
SIZES = (WEIGHT, HIDDEN, TOKENS)
E, B, T = (Expression(1, (letter,)) for letter in "EBT")


def label(op: str, module: str, phase: str, category: Category, size: int) -> Label:
    shape = ((E, E), (B, T, E), (B, T))[size]
    return Label(op, module, phase, category, "int64" if size == 2 else "float32", shape)


LABELS = (
    label("copy_from_host", "", "load", "parameters", 0),
    label("copy_from_host", "", "forward", "inputs", 2),
    label("mm", "layers.*.linear", "forward", "activations", 1),
    label("relu", "layers.*", "forward", "temporary", 1),
    label("mm", "layers.*.linear", "backward", "gradients", 0),
)


def alloc(size: int, label: int, layer: Place | None = None) -> AllocRow:
    return AllocRow(size, label, layer)


LOAD = Section("after_load", (Segment(0, (alloc(0, 0),)),))
FORWARD = Section(
    "after_forward",
    (
        Segment(None, (alloc(2, 1), OtherRow(EventKind.HOST_WAIT_STREAM, 0))),
        Segment(0, (alloc(1, 2, SAME), alloc(1, 3, SAME), FreeRow("own", 1, 1, SAME))),
    ),
)
BACKWARD = Section(
    "after_backward",
    (
        Segment(0, (alloc(0, 4, MIRRORED), FreeRow("back 1", 1, 0, MIRRORED))),
        Segment(None, (FreeRow("back 1", 0, 0, HERE),)),
    ),
)
OPTIMIZER = Section("after_optimizer", ())
ZERO_GRAD = Section("after_step", (Segment(0, (FreeRow("back 2", 0, 0, SAME),)),))


def small_tape() -> Tape:
    return Tape(
        key={"part": "training", "structure": {"model_type": "matrices"}, "precision": "fp32", "clipping": False},
        versions={"torch": "2.13.0"},
        sizes=SIZES,
        labels=LABELS,
        sections=(LOAD, FORWARD, BACKWARD, OPTIMIZER, ZERO_GRAD),
        program=Program(load=0, first=(1, 2, 3, 4), steady=(1, 2, 3, 4)),
        guards=(Guard(">", B, Expression(1)),),
        certified=({"B": 2, "L": 2},),
    )
