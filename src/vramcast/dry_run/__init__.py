"""[torch] `vramcast run`: a user's script, unmodified, on a virtual GPU.

`launch` runs a file or a module as Python would, `stopping` ends it after so many optimizer steps, `files` notes what it writes, and
`run` puts them on a `VirtualGPU` and makes the answer.
"""

from vramcast.dry_run.launch import Launch
from vramcast.dry_run.run import DryRun, run_script

__all__ = ["DryRun", "Launch", "run_script"]
