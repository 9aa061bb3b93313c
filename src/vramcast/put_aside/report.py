"""What was put back after a run, and what was not, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class FileReport:
    """Names are as the script gave them."""

    restored: tuple[str, ...] = ()
    """Files that were there before the script, and were put back: `overwritten` and `removed` together."""
    overwritten: tuple[str, ...] = ()
    """There before, and changed by the script. Put back, unless `keeps_writes`."""
    removed: tuple[str, ...] = ()
    """There before, and removed or renamed by the script. Put back, unless `keeps_writes`; then a folder is one name."""
    written: tuple[str, ...] = ()
    """New files of the script that are still there; they stay."""
    unguarded: tuple[str, ...] = ()
    """Other programs that the script started, by name: what they do to files is real."""
    unguarded_files: tuple[str, ...] = ()
    """Files that could not be put aside, each with the reason."""
    not_restored: tuple[str, ...] = ()
    """Files that could not be put back, each with the reason and the place where the original lies. It must not be deleted."""
    changed_unseen: tuple[str, ...] = ()
    """Files that changed although the script was not heard to change them."""
    all_looked_at: bool = True
    """False where there were too many files to compare all."""
    keeps_writes: bool = False
    """The run left the script's effects as they are."""

    def without(self, names: Collection[str]) -> FileReport:
        """Some files were not put back after all."""

        def left(told: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in told if name not in names)

        return replace(
            self, restored=left(self.restored), overwritten=left(self.overwritten), removed=left(self.removed)
        )

    def sentences(self) -> list[str]:
        """For the user; none where nothing was done."""
        groups = self._kept_effects() if self.keeps_writes else self._put_back()
        if self.written:
            groups.append(f"the script itself wrote {_counted(self.written)}, which is real: {_named(self.written)}")
        if self.unguarded:
            programs = _counted(self.unguarded, "other program")
            groups.append(f"the script started {programs}, whose effects are real: {_named(self.unguarded)}")
        if self.changed_unseen:
            groups.append(
                f"{_counted(self.changed_unseen)} changed past Python (native code or another program), "
                f"which is real: {_named(self.changed_unseen)}"
            )
        if not self.all_looked_at:
            groups.append("there are too many files here to tell all that changed past Python")
        return groups

    def _put_back(self) -> list[str]:
        sentences = []
        for verb, names in (("overwrote", self.overwritten), ("removed or renamed", self.removed)):
            if names:
                sentences.append(
                    f"put back {_counted(names)} that the script {verb}: {_named(names)} (--keep-writes leaves its own)"
                )
        if self.unguarded_files:
            files = "; ".join(self.unguarded_files)
            sentences.append(f"could not guard {_counted(self.unguarded_files)}, what the script did is real: {files}")
        if self.not_restored:
            sentences.append(f"could NOT put back {_counted(self.not_restored)}: {'; '.join(self.not_restored)}")
        return sentences

    def _kept_effects(self) -> list[str]:
        groups = (("overwrote", "file", self.overwritten), ("removed", "path", self.removed))
        return [
            f"the script itself {verb} {_counted(names, noun)}, which is real: {_named(names)}"
            for verb, noun, names in groups
            if names
        ]


def _counted(names: Sequence[str], noun: str = "file") -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
