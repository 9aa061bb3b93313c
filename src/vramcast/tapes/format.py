"""Tapes as files: JSON, gzipped. This page is the description of the format.

| key | content |
|---|---|
| `format`, `version` | `vramcast tape` and the version of the format; a reader refuses any other |
| `key` | what was recorded: structure of the model, settings |
| `versions` | releases of the libraries whose code was run |
| `guards` | `[left, condition, right]`: the tape holds where all are true |
| `attention` | decisions of `scaled_dot_product_attention` that must come out as recorded, sizes as expressions |
| `layers` | `[per repetition, left over, fewest, most]` |
| `tensors` | `[a, b]`: parameter tensors are a + b x repetitions |
| `sizes` | bytes of an allocation: an expression, or a scratch rule with its arguments |
| `strings`, `expressions`, `places` | tables that the following point into |
| `labels` | what an allocation is for: op, module (the layer's number is `*`), phase, category, dtype, shape, stream |
| `sections` | what happens between two marks: `mark`, `segments`, `operators` |
| `program` | order of the sections: `load`, `first` step, `steady` step, `repeated` slice of a step for more micro batches |
| `kernels` | kernel -> `[a, b]`: calls are a + b x repetitions |
| `assumptions`, `certified` | sentences; dimensions at which a direct trace agreed event by event |

An expression is `[whole number, atom, ...]`, a product (see `expressions`). A place is `[sign, from_end, offset]` (see `tape.Place`).
A segment is `[repetitions, kinds, allocations, deaths, others]`: null runs once, a number once for every repetition of the layer
pattern plus that number. `kinds` has a letter for each row, and the columns hold the rows of each kind: `a` allocations (size, label,
place of the layer or -1), `f` deaths (section, segment, row, place), `e` other events (kind, value). Labels of allocations, and segments
and rows of deaths, are written as the difference from the row before, for neighbours are mostly born and die together.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from vramcast.kernels import AttentionCall, AttentionChoice, rule_arguments
from vramcast.tapes.expressions import Expression, TapeError
from vramcast.tapes.tables import ReadTables, WrittenTables
from vramcast.tapes.tape import (
    FORMAT_VERSION,
    GUARD_KINDS,
    AllocRow,
    AttentionGuard,
    FreeRow,
    Guard,
    Program,
    ScratchSize,
    Size,
    Tape,
)

FORMAT_NAME = "vramcast tape"
_SECTION = re.compile(r"own|load|(back|start|previous|at) \d+")
"""How a death names a section (see `FreeRow`)."""


def to_json(tape: Tape) -> dict[str, Any]:
    """A tape as JSON values."""
    tables = WrittenTables()
    data = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "key": tape.key,
        "versions": tape.versions,
        "guards": [[guard.left.to_json(), guard.kind, guard.right.to_json()] for guard in tape.guards],
        "attention": [_attention_to_json(guard) for guard in tape.attention],
        "layers": [tape.layers_per_repetition, tape.layers_left_over, tape.min_layers, tape.max_layers],
        "tensors": tape.parameter_tensors,
        "sizes": [_size_to_json(size) for size in tape.sizes],
        "labels": [tables.label(label) for label in tape.labels],
        "sections": [tables.section(section) for section in tape.sections],
        "program": dataclasses.asdict(tape.program),
        "kernels": tape.kernels,
        "assumptions": tape.assumptions,
        "certified": tape.certified,
    }
    return {**data, **tables.to_json()}


def from_json(data: Any, origin: str) -> Tape:
    """The tape in JSON values.

    Raises:
        TapeError: not a tape of this version, or a damaged one; the message names `origin`.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT_NAME:
        raise TapeError(f"{origin}: not a vramcast tape")
    if data.get("version") != FORMAT_VERSION:
        raise TapeError(
            f"{origin}: tape format {data.get('version')!r}, this vramcast reads {FORMAT_VERSION}; record it anew"
        )
    try:
        tape = _read(data)
        _check_indices(tape)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TapeError(
            f"{origin}: damaged tape ({type(error).__name__}: {error}); delete it or record it anew"
        ) from error
    return tape


def dump(tape: Tape) -> bytes:
    """The file of a tape; the same bytes for the same tape."""
    text = json.dumps(to_json(tape), separators=(",", ":"), sort_keys=True)
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def load(data: bytes, origin: str) -> Tape:
    """The tape in a file's bytes; errors as for `from_json`."""
    try:
        values = json.loads(gzip.decompress(data))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise TapeError(f"{origin}: damaged tape ({error}); delete it or record it anew") from error
    return from_json(values, origin)


def read_tape(path: Path) -> Tape:
    """The tape in a file; errors as for `from_json`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TapeError(f"{path}: cannot be read ({error.strerror})") from error
    return load(data, str(path))


def _read(data: dict[str, Any]) -> Tape:
    per_repetition, left_over, fewest, most = data["layers"]
    program = data["program"]
    tables = ReadTables.from_json(data)
    return Tape(
        key=data["key"],
        versions=data["versions"],
        sizes=tuple(_size_from_json(size) for size in data["sizes"]),
        labels=tuple(tables.label(*label) for label in data["labels"]),
        sections=tuple(tables.section(section) for section in data["sections"]),
        program=Program(
            program["load"],
            tuple(program["first"]),
            tuple(program["steady"]),
            None if program["repeated"] is None else (program["repeated"][0], program["repeated"][1]),
            program["tail"],
        ),
        guards=tuple(_guard_from_json(*guard) for guard in data["guards"]),
        attention=tuple(_attention_from_json(guard) for guard in data["attention"]),
        layers_per_repetition=per_repetition,
        layers_left_over=left_over,
        min_layers=fewest,
        max_layers=most,
        parameter_tensors=(data["tensors"][0], data["tensors"][1]),
        kernels={name: (calls[0], calls[1]) for name, calls in data["kernels"].items()},
        assumptions=tuple(data["assumptions"]),
        certified=tuple(data["certified"]),
    )


def _check_indices(tape: Tape) -> None:
    """A row that points past the end of a table must not wait for the job that uses it."""
    for section in tape.sections:
        for row in (row for segment in section.segments for row in segment.rows):
            if isinstance(row, AllocRow):
                found = 0 <= row.size < len(tape.sizes) and 0 <= row.label < len(tape.labels)
            elif isinstance(row, FreeRow):
                found = row.segment >= 0 and row.row >= 0 and _SECTION.fullmatch(row.section) is not None
            else:
                found = True
            if not found:
                raise IndexError(f"row {row} of section {section.mark}")
    for number in (tape.program.load, *tape.program.first, *tape.program.steady):
        if not 0 <= number < len(tape.sections):
            raise IndexError(f"section {number}")


def _expressions_to_json(expressions: tuple[Expression, ...]) -> list[Any]:
    return [expression.to_json() for expression in expressions]


def _expressions_from_json(data: list[Any]) -> tuple[Expression, ...]:
    return tuple(Expression.from_json(expression) for expression in data)


def _size_to_json(size: Size) -> Any:
    if isinstance(size, Expression):
        return size.to_json()
    arguments = [[name, _expressions_to_json(expressions)] for name, expressions in size.arguments]
    return {"rule": size.rule, "arguments": arguments, "buffer": size.buffer}


def _size_from_json(data: Any) -> Size:
    if isinstance(data, list):
        return Expression.from_json(data)
    arguments = tuple((name, _expressions_from_json(values)) for name, values in data["arguments"])
    if {name for name, _ in arguments} != set(rule_arguments(data["rule"])):
        raise ValueError(f"arguments of {data['rule']}")
    return ScratchSize(data["rule"], arguments, data["buffer"])


def _guard_from_json(left: list[Any], kind: str, right: list[Any]) -> Guard:
    if kind not in GUARD_KINDS:
        raise ValueError(f"unknown condition {kind!r}")
    return Guard(kind, Expression.from_json(left), Expression.from_json(right))


def _attention_to_json(guard: AttentionGuard) -> dict[str, Any]:
    choice = guard.choice
    return {
        "backend": choice.backend,
        "enabled": sorted(choice.enabled),
        "prefer_cudnn": choice.prefer_cudnn,
        "call": dataclasses.asdict(choice.call),
        "sizes": [[name, expression.to_json()] for name, expression in guard.sizes],
    }


def _attention_from_json(data: dict[str, Any]) -> AttentionGuard:
    choice = AttentionChoice(
        AttentionCall(**data["call"]), frozenset(data["enabled"]), data["prefer_cudnn"], data["backend"]
    )
    sizes = tuple((name, Expression.from_json(expression)) for name, expression in data["sizes"])
    return AttentionGuard(choice, sizes)
