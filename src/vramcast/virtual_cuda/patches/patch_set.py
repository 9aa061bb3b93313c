"""Attributes replaced for a while, and put back exactly as they were."""

from typing import Any

_ABSENT = object()


class PatchSet:
    """Replaces attributes of modules and classes; `undo` restores them in reverse order, deleting what was not there before."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace `owner.name`."""
        # A class may inherit the attribute: then the replacement must be deleted at the end, not set to the inherited one.
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back."""
        while self._replaced:
            owner, name, original = self._replaced.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
