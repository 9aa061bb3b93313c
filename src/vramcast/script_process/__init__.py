"""`vramcast run` seen from outside: the script's process is started, watched and survived. No torch in here.

`watch` starts the process and waits for whatever end it comes to, `run_folder` is what the two processes tell each other through,
`flight_log` holds the counters that outlive a process, `lost_answer` makes an answer of them, and `from_python` is `vramcast.run`.
The process itself runs `vramcast.dry_run.child`.
"""

from vramcast.script_process.ranks import run_on_ranks
from vramcast.script_process.run_folder import Request

__all__ = ["Request", "run_on_ranks"]
