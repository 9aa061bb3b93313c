"""One thread at a time is inside a torch function of the virtual GPU: its state is shared by all threads of the process."""

import os
from threading import RLock

MACHINE_LOCK = RLock()

# A process forked while another thread is inside (workers of a second data loader) would find the lock taken for ever.
os.register_at_fork(
    before=MACHINE_LOCK.acquire, after_in_parent=MACHINE_LOCK.release, after_in_child=MACHINE_LOCK.release
)
