"""Where vramcast's own options end and the script's begin: at the script's name, or after `-m module`."""

from collections.abc import Sequence

from vramcast.job.script import ScriptOptions

END_OF_OPTIONS = "--"
MODULE_FLAGS = ("-m", "--module")
_FILES = ("--snapshot", "--timeline")


def _valued() -> frozenset[str]:
    """Options that take a value as the word after them."""
    fields = (name for name, field in ScriptOptions.model_fields.items() if field.annotation is not bool)
    return frozenset("--" + name.replace("_", "-") for name in fields) | frozenset((*MODULE_FLAGS, *_FILES))


def delimited(words: Sequence[str]) -> list[str]:
    """The words of `vramcast run`, with `--` between its own options and the script.

    What follows the script's name belongs to the script, whatever it looks like: `run --steps 5 train.py --steps 100`.
    """
    valued, position = _valued(), 0
    while position < len(words):
        word = words[position]
        if word == END_OF_OPTIONS or not word.startswith("-"):
            break
        name, has_value, _ = word.partition("=")
        position += 2 if name in valued and not has_value else 1
        if name in MODULE_FLAGS:
            break
    if words[position : position + 1] == [END_OF_OPTIONS]:
        return list(words)
    return [*words[:position], END_OF_OPTIONS, *words[position:]]
