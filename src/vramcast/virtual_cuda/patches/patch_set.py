"""Attributes replaced for a while, and put back exactly as they were."""

import sys
from typing import Any

_ABSENT = object()


class PatchSet:
    """Replaces attributes of modules and classes; `undo` restores them in reverse order, deleting what was not there before."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []
        self._imported: list[tuple[Any, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace `owner.name`."""
        # A class may inherit the attribute: then the replacement must be deleted at the end, not set to the inherited one.
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def reach_importers(self, original: Any, value: Any) -> None:
        """Replace `original` also where it was imported by name; one look at all modules serves all (`replace_in_importers`)."""
        self._imported.append((original, value))

    def replace_in_importers(self) -> None:
        """Put the replacements into every module that holds an original."""
        _exchange({id(original): value for original, value in self._imported})

    def undo(self) -> None:
        """Put everything back, also in modules that were imported meanwhile."""
        if self._imported:
            _exchange({id(value): original for original, value in self._imported})
            self._imported.clear()
        while self._replaced:
            owner, name, original = self._replaced.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def _exchange(new: dict[int, Any]) -> None:
    """Replace objects by identity in the namespaces of all loaded modules."""
    for module in list(sys.modules.values()):
        namespace = getattr(module, "__dict__", None)
        if isinstance(namespace, dict):
            for name in [name for name, held in list(namespace.items()) if id(held) in new]:
                namespace[name] = new[id(namespace[name])]
