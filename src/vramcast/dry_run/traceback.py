"""The script's own traceback: frames of vramcast and of what starts the script are no help to its author."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_OWN_FOLDER = str(Path(__file__).parent.parent)


def script_traceback(error: BaseException) -> str:
    """The error as Python prints it, from the script's first frame to its last one or torch's."""
    whole = traceback.TracebackException.from_exception(error)
    chain: traceback.TracebackException | None = whole
    while chain is not None:
        kept = [frame for frame in chain.stack if not _is_ours(frame.filename)]
        chain.stack = traceback.StackSummary.from_list(kept)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return "".join(whole.format())


def is_users(filename: str) -> bool:
    """Whether a file is the user's own: not vramcast's, not the standard library's, not an installed package's."""
    if _is_ours(filename) or filename.startswith("<") or "site-packages" in filename:
        return False
    return not filename.startswith(_STANDARD_LIBRARY)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OWN_FOLDER) or filename == "<frozen runpy>" or filename.endswith("/runpy.py")
