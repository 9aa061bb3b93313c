"""A dry run changes no file that was there before it: what a script is about to harm is put aside, and put back when its process has ended.

In the script's process `guard` hears of every act through Python's audit events, which come before it; `events` reads them, `names` finds
the path that is meant, `keeper` decides what has to be kept, `asides` keeps it, and `journal` holds a line about it (`records`) before
anything is harmed. In the process that waits for the script's, `restore` makes everything as it was from the journal, also after SIGKILL;
`report` says what was done, `unseen` what changed past the guard, and `left_over` finishes for a run whose watcher was killed.

Standard library alone.
"""

from vramcast.put_aside.guard import FileGuard, PassiveWatch
from vramcast.put_aside.left_over import recover_left_over
from vramcast.put_aside.report import FileReport
from vramcast.put_aside.restore import put_back

__all__ = ["FileGuard", "FileReport", "PassiveWatch", "put_back", "recover_left_over"]
