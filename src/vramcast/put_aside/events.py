"""Python's audit events that tell of acts on files (docs.python.org/3/library/audit_events.html), read for `keeper`.

An event comes before its act, and whether the act succeeds or not.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from vramcast.put_aside.keeper import Keeper

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_NO_FILES = getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY
_WRITE_NOTHING = frozenset(("uname", "ldconfig", "lscpu", "nvidia-smi", "hostname", "locale"))
"""Programs that libraries ask about the machine; to name them would hide those that matter."""
_SHELLS = frozenset(("sh", "bash", "dash", "zsh"))
_LONGEST_COMMAND = 60
_NEXT_TO_A_DATABASE = ("-journal", "-wal", "-shm")
"""Files that SQLite makes and removes beside one (sqlite.org/tempfiles.html)."""


def is_writing(flags: object) -> bool:
    """Whether a file opened with these flags may be changed; false for a nameless one in a folder."""
    return isinstance(flags, int) and bool(flags & _WRITES) and not (_NO_FILES and flags & _NO_FILES)


def tell_keeper(keeper: Keeper, event: str, arguments: Sequence[Any]) -> None:
    """Read one of `EVENTS`.

    Raises:
        OSError: of a path that cannot be looked at.
    """
    _READERS[event](keeper, arguments)


def _open(keeper: Keeper, arguments: Sequence[Any]) -> None:
    name, _, flags = arguments
    if not isinstance(name, int):  # an open file's number: its name was heard when it was opened
        keeper.will_write(
            name,
            truncates=bool(flags & os.O_TRUNC),
            creates=bool(flags & os.O_CREAT),
            exclusive=bool(flags & os.O_CREAT and flags & os.O_EXCL),
        )


def _truncate(keeper: Keeper, arguments: Sequence[Any]) -> None:
    if not isinstance(arguments[0], int):
        keeper.will_write(arguments[0], creates=False)


def _sqlite(keeper: Keeper, arguments: Sequence[Any]) -> None:
    database = arguments[0]
    if not isinstance(database, (str, bytes, os.PathLike)):
        return
    name = os.fsdecode(database)
    if name.startswith("file:"):
        address, _, query = name.removeprefix("file:").partition("?")
        settings = parse_qs(query)
        if settings.get("mode", [""])[-1] in ("ro", "memory") or settings.get("immutable", ["0"])[-1] == "1":
            return
        name = unquote(address.partition("#")[0])
        if name.startswith("//"):  # an authority, empty or "localhost"
            name = "/" + name[2:].partition("/")[2]
    if name in ("", ":memory:"):
        return
    for suffix in ("", *_NEXT_TO_A_DATABASE):
        keeper.will_write(name + suffix)


def _startfile(keeper: Keeper, arguments: Sequence[Any]) -> None:
    keeper.will_start(os.path.basename(os.fsdecode(arguments[0])))  # noqa: PTH119


def _command(keeper: Keeper, arguments: Sequence[Any]) -> None:
    """`(program, words, ...)`."""
    program, words = arguments[0], arguments[1]
    if isinstance(words, (str, bytes, os.PathLike)):
        words = (words,)
    _start(keeper, [_text(word) for word in words] or [_text(program)])


def _start(keeper: Keeper, words: Sequence[str]) -> None:
    command = command_name(words)
    if command not in _WRITE_NOTHING:
        keeper.will_start(command)


def command_name(words: Sequence[str]) -> str:
    """The program's name; of a shell the line it is given, cut. Words of other programs may be secret and are not shown."""
    program = os.path.basename(words[0])  # noqa: PTH119
    if program in _SHELLS and len(words) > 2 and words[1].startswith("-") and words[1].endswith("c"):
        return _line(words[2])
    return program


def _line(command: str) -> str:
    """Of a shell."""
    text = " ".join(command.split())
    return text if len(text) <= _LONGEST_COMMAND else text[: _LONGEST_COMMAND - 3] + "..."


def _shell(keeper: Keeper, arguments: Sequence[Any]) -> None:
    command = _text(arguments[0])
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words or os.path.basename(words[0]) not in _WRITE_NOTHING:  # noqa: PTH119
        keeper.will_start(_line(command))


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, (str, bytes, os.PathLike)) else str(word)


_Reader = Callable[[Keeper, Sequence[Any]], None]
_OF_FILES: dict[str, _Reader] = {
    "open": _open,
    "os.truncate": _truncate,
    "os.rename": lambda keeper, given: keeper.will_rename(*given[:4]),
    "os.remove": lambda keeper, given: keeper.will_remove(*given[:2]),
    "os.rmdir": lambda keeper, given: keeper.will_remove_folder(*given[:2]),
    "shutil.rmtree": lambda keeper, given: keeper.will_remove_tree(*given[:2]),
    "os.mkdir": lambda keeper, given: keeper.will_make(given[0], given[2]),
    "os.symlink": lambda keeper, given: keeper.will_make(given[1], given[2]),
    "os.link": lambda keeper, given: keeper.will_link(*given[:4]),
    "os.chmod": lambda keeper, given: keeper.will_touch(given[0], given[2]),
    "os.chown": lambda keeper, given: keeper.will_touch(given[0], given[3]),
    "os.utime": lambda keeper, given: keeper.will_touch(given[0], given[3]),
    "sqlite3.connect": _sqlite,
}
_OF_PROGRAMS: dict[str, _Reader] = {
    "subprocess.Popen": _command,
    "os.posix_spawn": _command,
    "os.exec": _command,
    "os.spawn": lambda keeper, given: _command(keeper, given[1:]),
    "os.system": _shell,
    "os.startfile": _startfile,
    "pty.spawn": lambda keeper, given: _command(keeper, (given[0], given[0])),
}
_READERS = _OF_FILES | _OF_PROGRAMS
PROGRAM_EVENTS = frozenset(_OF_PROGRAMS)
"""Another program is started."""
EVENTS = frozenset(_READERS)
"""Those that are of interest; Python tells of every `id` as well."""
