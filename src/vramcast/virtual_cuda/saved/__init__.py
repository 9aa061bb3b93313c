"""What code saves and loads while its tensors have no data: the content is kept in memory, as specs of its tensors.

`objects` turns an object into a skeleton and back, `files` remembers under which path it was saved.
"""

from vramcast.virtual_cuda.saved.files import SavedFiles
from vramcast.virtual_cuda.saved.objects import SavedObject, SavedProgram, load_object, save_object

__all__ = ["SavedFiles", "SavedObject", "SavedProgram", "load_object", "save_object"]
