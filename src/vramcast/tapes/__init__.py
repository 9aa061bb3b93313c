"""The symbolic tape: a job recorded once, every size a formula; bound to numbers and replayed in milliseconds, without torch.

Start at `tape` (what a tape is), `format` (how it is stored), `binding` (numbers put in), `library` (where tapes are kept).
"""

from typing import TYPE_CHECKING

from vramcast.late_names import late_names

if TYPE_CHECKING:
    from vramcast.tapes.binding import BoundTape, why_not
    from vramcast.tapes.composing import composed
    from vramcast.tapes.expressions import Expression, TapeError
    from vramcast.tapes.library import find_tapes, keep_tape
    from vramcast.tapes.structure import UnrepeatedLayers
    from vramcast.tapes.tape import Tape

__all__ = [
    "BoundTape",
    "Expression",
    "Tape",
    "TapeError",
    "UnrepeatedLayers",
    "composed",
    "find_tapes",
    "keep_tape",
    "why_not",
]

__getattr__ = late_names(
    __name__,
    {
        "binding": ("BoundTape", "why_not"),
        "composing": ("composed",),
        "expressions": ("Expression", "TapeError"),
        "library": ("find_tapes", "keep_tape"),
        "structure": ("UnrepeatedLayers",),
        "tape": ("Tape",),
    },
)
