"""What the journal of a run can say, one line of JSON each."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Status:
    """What `lstat` says of a path, as far as it can be made so again."""

    mode: int
    uid: int
    gid: int
    size: int
    """Bytes."""
    device: int
    inode: int
    accessed_ns: int
    modified_ns: int

    @property
    def is_folder(self) -> bool:
        """A symbolic link to one is none."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Neither folder nor link, pipe, socket or device."""
        return stat.S_ISREG(self.mode)

    @property
    def identity(self) -> tuple[int, int]:
        """The same for two names of one file."""
        return self.device, self.inode

    def has_content_of(self, other: Status) -> bool:
        """Whether two regular files look alike: kind, permissions, size and time of the last change."""
        return (self.mode, self.size, self.modified_ns) == (other.mode, other.size, other.modified_ns)


def status_of(path: str) -> Status | None:
    """None where nothing is there.

    Raises:
        OSError: the path cannot be looked at.
    """
    try:
        found = os.lstat(path)  # not `Path.stat`, which a virtual GPU answers for files that were left out
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Status(
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_dev,
        found.st_ino,
        found.st_atime_ns,
        found.st_mtime_ns,
    )


@dataclass(frozen=True, slots=True)
class Began:
    """The first line."""

    kind: ClassVar[str] = "began"
    keeps_writes: bool
    """Nothing is put aside in this run."""
    folder: str
    """The working folder, for names that are shown."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file or folder that was there before the script, and is about to be changed, removed or renamed."""

    kind: ClassVar[str] = "kept"
    path: str
    name: str
    """As the script gave it."""
    status: Status
    aside: str = ""
    """Where the original lies; empty for a folder, which is made anew, and where nothing is put aside."""
    part_of: str = ""
    """Path of the folder that goes as a whole with this in it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A name that was free: what stands there is the script's own."""

    kind: ClassVar[str] = "made"
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A folder is about to be renamed to this path."""

    kind: ClassVar[str] = "moved"
    path: str
    name: str
    was_there: bool
    """The folder, under whatever name, was there before the script."""


@dataclass(frozen=True, slots=True)
class Touched:
    """Permissions, owner or times are about to be changed, the content is not."""

    kind: ClassVar[str] = "touched"
    path: str
    name: str
    status: Status


@dataclass(frozen=True, slots=True)
class SideFolder:
    """A folder for originals on another filesystem than the journal's."""

    kind: ClassVar[str] = "side folder"
    path: str
    device: int


@dataclass(frozen=True, slots=True)
class Unguarded:
    """A file that could not be put aside."""

    kind: ClassVar[str] = "unguarded"
    path: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Child:
    """Another program was started: nobody hears what it does to files."""

    kind: ClassVar[str] = "child"
    command: str


Record = Began | Kept | Made | Moved | Touched | SideFolder | Unguarded | Child
_KINDS: dict[str, type[Any]] = {
    each.kind: each for each in (Began, Kept, Made, Moved, Touched, SideFolder, Unguarded, Child)
}


def to_line(record: Record) -> bytes:
    """One line, with an end before it as well: what a killed process left unfinished must not swallow it."""
    return b"\n" + json.dumps([record.kind, asdict(record)]).encode() + b"\n"


def from_line(line: bytes) -> Record | None:
    """None for a line that was not finished: what it would have announced was not done."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != 2 or found[0] not in _KINDS:
        return None
    kind, fields = found
    if "status" in fields:
        fields["status"] = Status(**fields["status"])
    return _KINDS[kind](**fields)  # type: ignore[no-any-return]
