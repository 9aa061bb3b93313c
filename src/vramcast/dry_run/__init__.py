"""[torch] The script's side of `vramcast run`: a user's script, unmodified, on a virtual GPU.

`child` is the process that `vramcast.script_process` starts and watches. In it `run` puts a script on a `VirtualGPU`: `launch` runs it as
Python would, `launchers` follows what would start more processes, `stopping` ends it after so many optimizer steps, `forks` and
`native_writers` see what Python does not tell, `answer` makes the answer, and `outputs` the files that were asked for beside it.
"""

from vramcast.dry_run.launch import Launch
from vramcast.dry_run.run import DryRun, run_script

__all__ = ["DryRun", "Launch", "run_script"]
