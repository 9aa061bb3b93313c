"""The order of allocations and frees on one GPU: what a recording, a tape or a CUDA snapshot becomes."""

from vramcast.timeline.decode import DecodeExtension
from vramcast.timeline.events import CATEGORIES, DEFAULT_STREAM, Allocation, Category, Event, EventKind, Timeline
from vramcast.timeline.operators import Operator, OperatorKind, OperatorTable
from vramcast.timeline.recording import Recording

__all__ = [
    "CATEGORIES",
    "DEFAULT_STREAM",
    "Allocation",
    "Category",
    "DecodeExtension",
    "Event",
    "EventKind",
    "Operator",
    "OperatorKind",
    "OperatorTable",
    "Recording",
    "Timeline",
]
