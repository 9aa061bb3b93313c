"""Tapes as lines of text: a dump of one, and the list of those that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from vramcast.tapes.expressions import DIMENSIONS
from vramcast.tapes.inventory import TapeFile, certified_words, guard_words, settings_words
from vramcast.tapes.show import ShownRow, ShownSection
from vramcast.tapes.size_text import letters_of
from vramcast.tapes.tape import Tape, TapeOperator
from vramcast.units import format_bytes

SIGNS = {"+": "+", "-": "−", ".": "·"}
WIDTHS = (13, 8, 15, 32, 11)
"""Columns of an allocation: bytes, dtype, shape, what makes it, category; longer text moves what follows."""
INDENT, LOOP_INDENT = "   ", " │ "


def tape_head_lines(tape: Tape, values: Mapping[str, int]) -> list[str]:
    """What a tape was recorded for, from what, where it holds, and what its letters stand for in one job."""
    letters = {letter for size in tape.sizes for letter in letters_of(size)} | {"L"}
    said = [
        f"{letter} = {values[letter]:,} {DIMENSIONS[letter]}"
        for letter in DIMENSIONS
        if letter in letters & set(values)
    ]
    lines = [
        f"model     {tape.key.get('structure', {}).get('model_type', '')}",
        f"settings  {settings_words(tape)}",
        f"recorded  {_versions(tape)}",
        f"holds for {guard_words(tape)}",
        f"letters   {', '.join(said)}",
        "rows      number of the row, + allocates: bytes, tensor, operator, category → row that frees it; − frees",
    ]
    if tape.certified:
        lines.append(f"certified {certified_words(tape)}")
    return lines


def section_lines(section: ShownSection, limit: int | None = None) -> list[str]:
    """A section: its name, then a line for each allocation and for each run of deaths.

    Args:
        section: what to dump.
        limit: at most so many lines after the first; what is left out is counted in the last one.
    """
    lines = [f"{section.name}, up to the mark {section.mark}"]
    body = [line for block in section.blocks for line in _block_lines(block.loop, block.rows)]
    left_out = 0 if limit is None else max(len(body) - limit, 0)
    lines += body[: len(body) - left_out]
    if left_out:
        lines.append(f"  … {left_out} more lines")
    return lines if body else [*lines, "  nothing"]


def operator_lines(section: ShownSection) -> list[str]:
    """The operators of a section: how often each is called and its FLOPs as a formula."""
    return [_operator_line(operator) for operator in section.section.operators] or ["  no operators recorded"]


def tape_file_lines(files: Iterable[TapeFile]) -> Iterator[str]:
    """Every file; under it, for each setting, the tapes that differ in the conditions they hold under."""
    for file in files:
        number = "1 tape" if file.number_of_tapes == 1 else f"{file.number_of_tapes} tapes"
        versions = dict.fromkeys(_versions(tape) for tape in file.tapes)
        recorded = "".join(f", recorded from {each}" for each in versions)
        yield f"{file.name}  {file.origin}, {format_bytes(file.size_bytes)}, {number}{recorded}"
        for settings, tapes in groupby(sorted(file.tapes, key=_settings), key=_settings):
            yield f"  {settings}"
            yield from (f"    {_conditions(tape)}" for tape in tapes)


def _settings(tape: Tape) -> str:
    model = tape.key.get("structure", {}).get("model_type", "")
    return f"{tape.key.get('part', '')} of {model}: {settings_words(tape)}"


def _conditions(tape: Tape) -> str:
    places = len(tape.certified)
    certified = f"; certified at {places} {'size' if places == 1 else 'sizes'}" if places else ""
    return f"{guard_words(tape) or 'holds everywhere'}{certified}"


def _versions(tape: Tape) -> str:
    return ", ".join(f"{name} {version}" for name, version in tape.versions.items())


def _block_lines(loop: str, rows: Iterable[ShownRow]) -> Iterator[str]:
    if loop:
        yield f" {loop}:"
    indent = LOOP_INDENT if loop else INDENT
    for row in rows:
        yield f"{indent}{row.number:>4} {SIGNS[row.sign]} {_row_text(row)}".rstrip()


def _row_text(row: ShownRow) -> str:
    if row.sign != "+":
        return f"frees {row.freeing}" if row.sign == "-" else row.freeing
    module = row.module.rsplit("*.", 1)[-1] if "*." in row.module else row.module
    cells = (row.size, row.dtype, row.shape if row.dtype else "", f"{module} {row.op}".strip(), row.category)
    text = " ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return f"{text} → {row.freed}"


def _operator_line(operator: TapeOperator) -> str:
    constant, slope = operator.calls
    calls = " + ".join([str(constant)] * bool(constant or not slope) + [f"{slope}·turns"] * bool(slope))
    extents = ", ".join(str(extent) for extent in operator.extents)
    flops = f"  {operator.flops} FLOPs" if str(operator.flops) != "0" else ""
    module = f"{operator.module} " if operator.module else ""
    return f"  {calls:>12} × {module}{operator.name} {operator.dtype} [{extents}]{flops}"
