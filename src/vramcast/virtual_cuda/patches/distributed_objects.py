"""Collectives of Python objects: this rank's objects stand for those of all.

Torch pickles them into tensors, whose content a virtual GPU does not follow; the few kilobytes that this takes on the GPU are not counted.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the functions of `torch.distributed` with `object` in their names."""

    def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
        object_list[:] = [deepcopy(obj) for _ in object_list]

    def gather_object(
        obj: Any, object_gather_list: list[Any] | None = None, dst: Any = None, group: Any = None, group_dst: Any = None
    ) -> None:
        if object_gather_list is not None:
            all_gather_object(object_gather_list, obj)

    def scatter_object_list(
        scatter_object_output_list: list[Any],
        scatter_object_input_list: list[Any] | None = None,
        src: Any = None,
        group: Any = None,
        group_src: Any = None,
    ) -> None:
        if scatter_object_input_list:
            scatter_object_output_list[0] = deepcopy(scatter_object_input_list[dist.get_rank(group)])
        else:
            machine.assumptions.add_with_line("objects scattered by another rank are unknown and were left as they are")

    def broadcast_object_list(object_list: list[Any], src: Any = None, *args: Any, **kwargs: Any) -> None:
        source = src if src is not None else kwargs.get("group_src", 0)
        if source not in (None, dist.get_rank()):
            machine.assumptions.add_with_line("objects sent by another rank are unknown and were left as they are")

    def recv_object_list(object_list: list[Any], src: Any = None, *args: Any, **kwargs: Any) -> int:
        machine.assumptions.add_with_line("objects sent by another rank are unknown and were left as they are")
        return 0 if src is None else int(src)

    def send_object_list(*args: Any, **kwargs: Any) -> None:
        return None

    for function in (
        all_gather_object, gather_object, scatter_object_list, broadcast_object_list, recv_object_list, send_object_list,
    ):  # fmt: skip
        for module in (dist, distributed_c10d):
            patches.set(module, function.__name__, function)
