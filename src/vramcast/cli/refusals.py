"""What a refused command says: one line that names each flag as it was typed, and the way to what no flag does yet.

Rooms below name the fields of a job (`gpu`, `sequence_length`) or a flag by its first name (`--input`). Here is known which command was
called, which spellings a flag has, and which of them was used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, MissingArgumentError, UnknownCommandError, UnknownOptionError
from pydantic import ValidationError

from vramcast.cli.nearness import METHODS, nearest
from vramcast.errors import InputError, ModelConfigError, shortened
from vramcast.job.checking import explained_detail

if TYPE_CHECKING:
    from cyclopts.argument import Argument, ArgumentCollection

LONGEST_MESSAGE = 500
LONGEST_NAME = 60
_COMPOUND = re.compile(r"\w+( [x+] \w+)*", re.ASCII)
"""A field of an error, or several whose values together are too much: `batch_size x sequence_length`."""
_SCRIPT_WAY = "`vramcast run --gpu NAME your_script.py` follows any script that does it"


def refusal(error: Exception, app: App, words: Sequence[str]) -> str:
    """The line that a command ends with.

    Args:
        error: what it was refused with: an error of ours or of the command line's parser.
        app: the parser.
        words: what was typed after `vramcast`.
    """
    flags = _Flags(_arguments(app, words), words)
    return shortened(_message(error, flags, app), LONGEST_MESSAGE)


def _message(error: Exception, flags: _Flags, app: App) -> str:
    if isinstance(error, InputError):
        return str(InputError(flags.field_as_typed(error), error.value, error.fix))
    if not isinstance(error, CycloptsError):
        return str(error)
    if isinstance(error, UnknownOptionError):
        return _unknown_option(error, flags)
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error, app)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        return _invalid(cause, flags)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return flags.required([error.argument])
    return str(error)


def _invalid(cause: ValidationError, flags: _Flags) -> str:
    """The first field that is wrong, or all that are missing."""
    details = cause.errors()
    missing = [detail for detail in details if detail["type"] == "missing"]
    if missing:
        found = [flags.by_name(str(detail["loc"][0])) for detail in missing]
        return flags.required([argument for argument in found if argument is not None])
    field = flags.by_name(str(details[0]["loc"][0]))
    name = str(details[0]["loc"][0]) if field is None else flags.as_typed(field)
    return str(InputError(name, details[0].get("input"), explained_detail(details[0])))


def _unknown_option(error: UnknownOptionError, flags: _Flags) -> str:
    typed = shortened((error.token.keyword or error.token.value).partition("=")[0], LONGEST_NAME)
    command = " ".join(("vramcast", *(error.command_chain or ())))
    name = _plain(typed)
    if name in METHODS or METHODS.intersection(name.split("-")):
        return f"{typed}: not a flag of `{command}`; {_SCRIPT_WAY}"
    close = nearest(name, {_plain(spelling): spelling for spelling in flags.spellings()})
    hint = f"Did you mean {close}?" if close else f"`{command} --help` lists its flags."
    return f"Unknown option: {typed}. {hint}"


def _unknown_command(error: UnknownCommandError, app: App) -> str:
    typed = (error.unused_tokens or [""])[0]
    parent = error.app or app
    names = [name for name in parent if not name.startswith("-")]
    close = nearest(typed.lower(), {name: name for name in names})
    hint = f' Did you mean "{close}"?' if close else ""
    return f'Unknown command "{shortened(typed, LONGEST_NAME)}".{hint} Commands: {", ".join(names)}.'


def _arguments(app: App, words: Sequence[str]) -> ArgumentCollection | tuple[Argument, ...]:
    """Of the command that was called; none where no command was."""
    try:
        _, apps, _ = app.parse_commands(list(words))
        return () if apps[-1].default_command is None else apps[-1].assemble_argument_collection()
    except Exception:  # a refusal that names no spellings is better than none
        return ()


def _plain(flag: str) -> str:
    """How the parser compares flags."""
    return flag.lstrip("-").lower().replace("_", "-")


class _Flags:
    """The flags of a command and what was typed of them."""

    def __init__(self, arguments: Iterable[Argument], words: Sequence[str]) -> None:
        self._arguments = [argument for argument in arguments if "*" not in argument.names]
        self._words = words
        self._typed = [word.partition("=")[0] for word in words if word.startswith("-")]

    def spellings(self) -> list[str]:
        """Every flag, by all its names."""
        return [name for argument in self._arguments for name in argument.names if name.startswith("-")]

    def by_name(self, name: str) -> Argument | None:
        """The argument of a field or a flag of this name."""
        plain = _plain(name)
        for argument in self._arguments:
            fields = {argument.field_info.name, *argument.keys}
            if name in fields or (name.startswith("-") and plain in map(_plain, argument.names)):
                return argument
        return None

    def as_typed(self, argument: Argument) -> str:
        """The spelling that was used; the first one where none was."""
        plain = {_plain(name) for name in argument.names}
        used = [word for word in self._typed if _plain(word) in plain]
        return used[-1] if used else argument.names[0].partition(" ")[0]

    def field_as_typed(self, error: InputError) -> str:
        """The field of an error of ours, as the command line calls it; a key of a config.json keeps its name."""
        field = error.field
        if isinstance(error, ModelConfigError) and field != "model" and not field.startswith("-"):
            return field
        if field.startswith("-"):
            argument = self.by_name(field)
            return field if argument is None else self.as_typed(argument)
        if not _COMPOUND.fullmatch(field):
            name, space, rest = field.partition(" ")  # as of a line in a file: price_file PATH
            return self._part(name, None) + space + rest
        parts = re.split(r"( [x+] )", field)
        return "".join(self._part(part, error.value if len(parts) == 1 else None) for part in parts)

    def _part(self, name: str, value: object) -> str:
        argument = self.by_name(name)
        if argument is None or not argument.names[0].startswith("-"):
            return name  # what has a place and no flag is called as in the rooms below: model, script
        named = self.as_typed(argument)
        if named in self._typed or not isinstance(value, str):
            return named
        return self._flag_before(value) or named

    def _flag_before(self, value: str) -> str | None:
        """The flag whose value this word was, where the field's own flag was not typed: `--on zork` is a wrong `gpu`."""
        flag = None
        for word in self._words:
            if word.startswith("-"):
                flag, _, word = word.partition("=")
            if value in (word, word.partition("=")[0]):
                return flag if flag is not None and self.by_name(flag) is not None else None
        return None

    def required(self, arguments: Sequence[Argument]) -> str:
        """That arguments must be given, by every name they have, in the spelling that the command was typed in."""
        said = []
        for argument in arguments:
            typed = self.as_typed(argument)
            names = [typed] if typed in self._typed else [self._in_its_style(name) for name in argument.names]
            text = f": {argument.parameter.help.rstrip('.')}" if argument.parameter.help else ""
            said.append(f"{' or '.join(names)} requires an argument{text}")
        return "; ".join(said)

    def _in_its_style(self, name: str) -> str:
        if not name.startswith("--") or not any("_" in word for word in self._typed):
            return name
        return "--" + name[2:].replace("-", "_")
