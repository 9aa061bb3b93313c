"""A small tape written by hand: two parameters for each layer, activations that die in reverse order, an optimizer with states."""

from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import (
    AllocRow,
    FreeRow,
    Guard,
    Label,
    OtherRow,
    Place,
    Program,
    ScratchSize,
    Section,
    Segment,
    Tape,
    TapeOperator,
)
from vramcast.timeline import Category, EventKind

WEIGHT, ACTIVATION, LOSS, SCRATCH, GRADIENT, STATE = range(6)
OWN, FROM_LAST = Place(1, 0, 0), Place(-1, 1, 0)
ONCE = Place(1, 0, 0)

SIZES = (
    Expression(4, ("E", "E")),
    Expression(2, ("B", "E", "T")),
    Expression(4),
    ScratchSize(
        "embedding_backward",
        (
            ("num_tokens", (Expression(1, ("B", "T")),)),
            ("vocab_size", (Expression(1, ("V",)),)),
            ("hidden_size", (Expression(1, ("E",)),)),
        ),
        0,
    ),
    Expression(4, ("E", "E")),
    Expression(8, ("E", "E")),
)


def label(op: str, category: Category, phase: str, *shape: Expression, module: str = "layers.*") -> Label:
    return Label(op, module, phase, category, "float32", shape)


LABELS = (
    label("copy_from_host", "parameters", "load", Expression(1, ("E",)), Expression(1, ("E",))),
    label("mm", "activations", "forward", Expression(1, ("B", "T")), Expression(1, ("E",))),
    label("nll_loss", "temporary", "forward", module="loss"),
    label("embedding_dense_backward", "temporary", "backward", module="embedding"),
    label("mm", "gradients", "backward", Expression(1, ("E",)), Expression(1, ("E",))),
    label("zeros_like", "optimizer_states", "optimizer", Expression(1, ("E",)), Expression(1, ("E",))),
)
MATMUL = TapeOperator(
    "mm",
    "matmul",
    "forward",
    "layers.*",
    "float32",
    (Expression(1), Expression(1, ("B", "T")), Expression(1, ("E",)), Expression(1, ("E",))),
    Expression(2, ("B", "E", "E", "T")),
    (Expression(4, ("B", "E", "T")), Expression(4, ("E", "E"))),
    (Expression(4, ("B", "E", "T")),),
    (0, 1),
)


def loop(*rows: AllocRow | FreeRow | OtherRow) -> Segment:
    return Segment(0, rows)


def once(*rows: AllocRow | FreeRow | OtherRow) -> Segment:
    return Segment(None, rows)


def make(kind: int, place: Place | None = OWN) -> AllocRow:
    return AllocRow(kind, kind, place)


LOAD = Section("after_load", (loop(make(WEIGHT)),))
FORWARD = Section("after_forward", (loop(make(ACTIVATION)), once(make(LOSS, None))), (MATMUL,))
BACKWARD = Section(
    "after_backward",
    (
        once(OtherRow(int(EventKind.HOST_WAIT_STREAM), 0)),
        loop(make(GRADIENT, FROM_LAST), FreeRow("back 1", 0, 0, FROM_LAST)),
        once(make(SCRATCH, None), FreeRow("own", 2, 0, ONCE), FreeRow("back 1", 1, 0, ONCE)),
    ),
)
MORE_BACKWARD = Section(  # of a later micro batch: gradients are added to those of the first
    "after_backward",
    (loop(FreeRow("back 1", 0, 0, FROM_LAST)), once(FreeRow("back 1", 1, 0, ONCE))),
)
FIRST_UPDATE = Section("after_optimizer", (loop(make(STATE)),))
UPDATE = Section("after_optimizer", ())
END = Section("after_step", (loop(FreeRow("back 2", 1, 0, FROM_LAST)),))
END_OF_MANY = Section("after_step", (loop(FreeRow("start 1", 1, 0, FROM_LAST)),))


def made_tape(**changes: object) -> Tape:
    """The tape of a job without gradient accumulation."""
    fields = {
        "key": {"part": "model", "structure": {"model_type": "made", "layers": [1]}},
        "versions": {"torch": "2.13.0"},
        "sizes": SIZES,
        "labels": LABELS,
        "sections": (LOAD, FORWARD, BACKWARD, FIRST_UPDATE, UPDATE, END),
        "program": Program(0, (1, 2, 3, 5), (1, 2, 4, 5)),
        "guards": (Guard(">", Expression(1, ("B",)), Expression(1)),),
        "parameter_tensors": (0, 1),
        "kernels": {"mm": (3, 6)},
        "assumptions": ("made by hand",),
        "certified": ({"B": 2, "L": 3},),
    }
    return Tape(**{**fields, **changes})  # type: ignore[arg-type]


def accumulating_tape() -> Tape:
    """The same with gradient accumulation: the first, the second, and the third micro batch that stands for all others."""
    return made_tape(
        sections=(LOAD, FORWARD, BACKWARD, FIRST_UPDATE, UPDATE, END_OF_MANY, MORE_BACKWARD),
        program=Program(0, (1, 2, 1, 6, 1, 6, 3, 5), (1, 2, 1, 6, 1, 6, 4, 5), (4, 6)),
    )


VALUES = {"B": 2, "T": 4, "E": 16, "V": 10, "L": 3, "H": 2, "K": 2, "G": 1, "D": 8, "U": 0}
