"""The tree of the live set: every level sums to the peak, whatever is folded and left out."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from vramcast.explain import MemoryNode, collapsed, memory_tree
from vramcast.timeline import CATEGORIES, Allocation

MODULES = ("", "embed", "model.layers.0.mlp", "model.layers.1.mlp", "model.layers.1.mlp.up", "model.norm", "head")


ALLOCATIONS = st.builds(
    Allocation,
    nbytes=st.integers(1, 5000),
    category=st.sampled_from(CATEGORIES),
    module=st.sampled_from(MODULES),
    op=st.sampled_from(("mm", "add")),
    dtype=st.just("float32"),
    shape=st.sampled_from(((), (2, 3))),
)
LIVE = st.lists(st.tuples(ALLOCATIONS, st.integers(0, 3)), min_size=1, max_size=12).map(
    lambda pairs: [(each, -(-each.nbytes // 512) * 512 + 512 * unused) for each, unused in pairs]
)
"""Allocations with blocks that are up to three units larger than they need to be."""


def nodes(node: MemoryNode) -> Iterator[MemoryNode]:
    yield node
    for child in node.children:
        yield from nodes(child)


def sums_hold(tree: MemoryNode) -> bool:
    return all(not node.children or node.bytes == sum(child.bytes for child in node.children) for node in nodes(tree))


@settings(deadline=None)
@given(live=LIVE)
def test_every_level_sums_to_the_blocks(live: list[tuple[Allocation, int]]) -> None:
    tree = memory_tree(live)
    assert tree.bytes == sum(block for _, block in live)
    assert tree.tensors == len(live)
    assert sums_hold(tree)
    ends = sum(node.bytes for node in tree.children if node.kind == "unused_ends")
    assert ends == sum(block - -(-allocation.nbytes // 512) * 512 for allocation, block in live)


@settings(deadline=None)
@given(live=LIVE, least=st.integers(0, 20_000), depth=st.integers(0, 6))
def test_a_collapsed_tree_sums_as_before(live: list[tuple[Allocation, int]], least: int, depth: int) -> None:
    tree = memory_tree(live)
    shown = collapsed(tree, least, depth)
    assert shown.bytes == tree.bytes
    assert sums_hold(shown)
    assert levels(shown) <= depth + 1
    for node in nodes(shown):
        small = [child for child in node.children if child.bytes < least and child.kind in ("module", "tensor")]
        assert len(small) < 2


def levels(node: MemoryNode) -> int:
    return 1 + max((levels(child) for child in node.children), default=0)


def test_layers_are_folded() -> None:
    live = [
        (Allocation(1024, category="activations", module=f"model.layers.{layer}.mlp", op="mm", dtype="float32"), 1024)
        for layer in range(3)
    ]
    live.append((Allocation(512, category="activations", module="model.norm", op="mul", dtype="float32"), 1536))
    tree = memory_tree(live)
    activations, ends = tree.children
    assert (activations.name, activations.bytes, ends.name, ends.bytes) == (
        "activations",
        3584,
        "unused ends of blocks",
        1024,
    )
    (model,) = activations.children
    layers, norm = model.children
    assert (layers.name, layers.modules, layers.bytes) == ("layers.*.mlp", 3, 3072)
    assert (layers.children[0].name, layers.children[0].tensors) == ("mm", 3)
    assert (norm.name, norm.modules, norm.bytes) == ("norm", 1, 512)
