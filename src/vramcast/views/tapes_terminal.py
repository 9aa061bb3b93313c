"""Tapes on the terminal: allocations in the color of their category, deaths dim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from vramcast.tapes.inventory import TapeFile
from vramcast.tapes.show import ShownSection
from vramcast.tapes.tape import Tape
from vramcast.views.rows import CATEGORY_COLORS
from vramcast.views.tapes_rows import SIGNS, operator_lines, section_lines, tape_file_lines, tape_head_lines


def print_tape(
    tape: Tape,
    values: Mapping[str, int],
    sections: Sequence[ShownSection],
    console: Console,
    *,
    operators: bool = False,
    limit: int | None = None,
) -> None:
    """Print what a tape is and these of its sections."""
    _print(console, (Text(line, "dim") for line in tape_head_lines(tape, values)))
    for section in sections:
        head, *body = section_lines(section, limit)
        console.print()
        _print(console, [Text(head, "bold"), *map(_styled, body)])
        if operators:
            _print(console, (Text(line, "cyan") for line in operator_lines(section)))


def print_tape_files(files: Iterable[TapeFile], console: Console) -> None:
    """Print every file and what it holds."""
    _print(console, (Text(line, "" if line.startswith(" ") else "bold") for line in tape_file_lines(files)))


def _styled(line: str) -> Text:
    text = Text(line)
    if f" {SIGNS['-']} " in line:
        text.stylize("dim")
    for category, color in CATEGORY_COLORS.items():
        text.highlight_words([f" {category} "], color)
    return text


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        # Columns are laid out already; a terminal too narrow for them wraps by itself.
        console.print(line, soft_wrap=True)
