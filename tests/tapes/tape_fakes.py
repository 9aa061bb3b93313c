"""Tapes of one allocation, made by hand, and archives changed on purpose."""

from __future__ import annotations

import io
import zipfile

from vramcast.tapes import Expression, Tape
from vramcast.tapes.key import Key
from vramcast.tapes.tape import AllocRow, FreeRow, Guard, Label, Place, Program, Section, Segment

STRUCTURE = {"model_type": "gpt2", "tied": True}
BATCH = Expression(1, ("B",))


def key_of(precision: str = "fp32", attention: str = "sdpa") -> Key:
    return {"part": "model", "structure": STRUCTURE, "precision": precision, "attention": attention}


def make_tape(key: Key, size: int = 4, batch_above_one: bool = True, dtype: str = "float32") -> Tape:
    place = Place(0, 0, 0)
    rows = (AllocRow(0, 0, None), FreeRow("own", 0, 0, place))
    return Tape(
        key=key,
        versions={"torch": "2.13.0"},
        sizes=(Expression(size, ("B", "T")),),
        labels=(Label("aten::mm", "h.*.attn", "forward", "activations", dtype, (BATCH,)),),
        sections=(Section("after_load", (Segment(None, rows),)),),
        program=Program(0, (0,), (0,)),
        guards=(Guard(">" if batch_above_one else "==", BATCH, Expression(1)),),
        kernels={"flash": (0, 3)},
        certified=({"B": 8},),
    )


def rewritten(data: bytes, entry: str, content: bytes | None) -> bytes:
    """The archive with another content of an entry, or without it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            changed = content if name == entry else old.read(name)
            if changed is not None:
                new.writestr(name, changed)
    return buffer.getvalue()
