"""The live set at the allocated peak as a tree: category, module path with its layers folded, tensor. Every level sums to the peak."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from vramcast.tapes.binding import BLOCK
from vramcast.timeline import Allocation

Kind = Literal["peak", "category", "module", "tensor", "others", "unused_ends"]
UNUSED_ENDS = "unused ends of blocks"
LAYER = "*"
"""Stands for the number of a layer, or of any other module of a list."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_Thing = TypeVar("_Thing")
_Key = TypeVar("_Key", bound=Hashable)


class MemoryNode(BaseModel):
    """Bytes alive at the peak that belong together."""

    model_config = _FROZEN

    kind: Kind
    name: str
    """The category; the part of the module path below the parent's; the operator of a tensor."""
    bytes: int
    """Sum of the children, where there are any."""
    tensors: int
    modules: int = 1
    """How many modules of the model are folded into this one."""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    children: tuple[Self, ...] = ()
    """Largest first."""


class _Tensor(NamedTuple):
    """One allocation."""

    category: str
    path: tuple[str, ...]
    """Parts of its module's path."""
    op: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    """Of its block as far as the tensor needs it: up to the next multiple of 512."""


def memory_tree(live: Iterable[tuple[Allocation, int]]) -> MemoryNode:
    """The tree of allocations, each with the bytes of its block.

    A block that was too small to split is larger than its tensor by up to 1 MiB; what is left of all of them is one node of its own.
    """
    tensors, unused = [], []
    for allocation, block_bytes in live:
        needed = min(-(-allocation.nbytes // BLOCK) * BLOCK, block_bytes)
        path = tuple(allocation.module.split(".")) if allocation.module else ()
        tensors.append(
            _Tensor(allocation.category, path, allocation.op, allocation.dtype, tuple(allocation.shape), needed)
        )
        unused.append(block_bytes - needed)
    nodes = [
        _node("category", category, _below(members, 0))
        for category, members in _grouped(tensors, lambda tensor: tensor.category).items()
    ]
    if any(unused):
        blocks = sum(1 for nbytes in unused if nbytes)
        nodes.append(MemoryNode(kind="unused_ends", name=UNUSED_ENDS, bytes=sum(unused), tensors=blocks))
    return _node("peak", "allocated peak", nodes)


def collapsed(node: MemoryNode, least_bytes: int, depth: int) -> MemoryNode:
    """The same tree without what is below `depth` levels, and with children of fewer than `least_bytes` taken together.

    Categories stay, and so does a child that would be taken together with no other. What is itself smaller is not opened. Every
    level that is left sums as before.
    """
    if not depth or node.bytes < least_bytes:
        return node.model_copy(update={"children": ()})
    small = [child for child in node.children if child.bytes < least_bytes and child.kind in ("module", "tensor")]
    if len(small) < 2:
        small = []
    left_out = {id(child) for child in small}
    kept = [collapsed(child, least_bytes, depth - 1) for child in node.children if id(child) not in left_out]
    if small:
        others = MemoryNode(
            kind="others",
            name=f"{len(small)} others",
            bytes=sum(child.bytes for child in small),
            tensors=sum(child.tensors for child in small),
        )
        kept.append(others)
    return node.model_copy(update={"children": tuple(kept)})


def _folded_part(part: str) -> str:
    return LAYER if part.isdigit() else part


def _below(tensors: Sequence[_Tensor], depth: int) -> list[MemoryNode]:
    """What modules and tensors there are after `depth` parts of the path, which all of `tensors` share."""
    ending = [tensor for tensor in tensors if len(tensor.path) == depth]
    deeper = [tensor for tensor in tensors if len(tensor.path) > depth]
    alike = _grouped(ending, lambda tensor: (tensor.op, tensor.dtype, tensor.shape))
    modules = _grouped(deeper, lambda tensor: _folded_part(tensor.path[depth]))
    return [_leaf(members) for members in alike.values()] + [_module(members, depth) for members in modules.values()]


def _leaf(tensors: Sequence[_Tensor]) -> MemoryNode:
    first = tensors[0]
    return MemoryNode(
        kind="tensor",
        name=first.op,
        bytes=sum(tensor.bytes for tensor in tensors),
        tensors=len(tensors),
        dtype=first.dtype,
        shape=first.shape,
    )


def _module(tensors: Sequence[_Tensor], depth: int) -> MemoryNode:
    """Parts of the path that do not branch make one node: `model.layers.*`."""
    end = depth + 1
    while all(len(tensor.path) > end for tensor in tensors) and len({_part(tensor, end) for tensor in tensors}) == 1:
        end += 1
    name = ".".join(_part(tensors[0], position) for position in range(depth, end))
    modules = len({tensor.path[:end] for tensor in tensors})
    return _node("module", name, _below(tensors, end), modules)


def _part(tensor: _Tensor, position: int) -> str:
    return _folded_part(tensor.path[position])


def _node(kind: Kind, name: str, children: Iterable[MemoryNode], modules: int = 1) -> MemoryNode:
    # Unused ends come last whatever their size: they belong to no category.
    ordered = tuple(sorted(children, key=lambda child: (child.kind == "unused_ends", -child.bytes, child.name)))
    return MemoryNode(
        kind=kind,
        name=name,
        bytes=sum(child.bytes for child in ordered),
        tensors=sum(child.tensors for child in ordered if child.kind != "unused_ends"),
        modules=modules,
        children=ordered,
    )


def _grouped(things: Iterable[_Thing], key: Callable[[_Thing], _Key]) -> dict[_Key, list[_Thing]]:
    groups: dict[_Key, list[_Thing]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups
