"""An explanation as plain rows of text: the tree of the live set, the terms of the formula, the map of winners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vramcast.explain import Explanation, LiveSum, MemoryNode, PeakFormula, PeakInstant, Term, collapsed
from vramcast.explain.tree import LAYER
from vramcast.units import MIB, format_bytes, format_gib
from vramcast.views.rows import CATEGORY_NAMES

LEAST_SHARE = 0.005
"""Entries of the tree and terms of the formula below this share of the peak are taken together."""
DEFAULT_DEPTH = 6
MOST_HOLDERS = 3
TERMS_OF_OTHERS = 4
"""Terms that are written out of a sum that does not win here."""
WINNER_NAMES = "ABC"


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of the tree."""

    category: str
    """Key of its color; empty for the ends of blocks."""
    branch: str
    """`│  ├─ `: the lines of the tree before the name."""
    name: str
    what: str
    """Operator, dtype, shape and how many."""
    size: str
    share: float
    """Of the allocated peak, 0 to 1."""
    level: int
    """1 for a category."""


@dataclass(frozen=True, slots=True)
class TermRow:
    """One term of the formula."""

    symbols: str
    """`5·L × 4·B·F·T`."""
    numbers: str
    """`60 × 4·8·3072·1024`."""
    size: str
    share: float
    """Of the sum."""
    what: str


def peaks_line(explanation: Explanation) -> str:
    """All three peaks in one line."""
    forecast = explanation.forecast
    allocated, reserved = format_gib(forecast.peak_allocated_bytes), format_gib(forecast.peak_reserved_bytes)
    used = format_gib(forecast.device_used_bytes)
    return f"peak allocated {allocated} · peak reserved {reserved} · device used {used}"


def instant_line(instant: PeakInstant) -> str:
    """When the allocated peak is reached and what reached it."""
    where = f" in {instant.module}" if instant.module else ""
    tensor = f"{instant.dtype} {_shape(instant.shape)}".strip()
    made = f"{instant.op} makes {tensor}, {format_bytes(instant.bytes)}"
    return f"reached in {_when(instant.step, instant.phase)}{where}, when {made}"


def tree_rows(tree: MemoryNode, depth: int = DEFAULT_DEPTH) -> list[TreeRow]:
    """The tree down to `depth` levels, small entries taken together."""
    total = max(tree.bytes, 1)
    shown = collapsed(tree, int(LEAST_SHARE * total), depth)
    rows = []
    for node in shown.children:
        category = node.name if node.kind == "category" else ""
        name = CATEGORY_NAMES[node.name] if category else node.name
        rows.append(TreeRow(category, "", name, "", _size(node.bytes), node.bytes / total, 1))
        rows += _branches(node, category, "", total, 2)
    return rows


def _branches(node: MemoryNode, category: str, before: str, total: int, level: int) -> Iterator[TreeRow]:
    for number, child in enumerate(node.children):
        last = number == len(node.children) - 1
        inside = _only_tensor(child)
        name, what = _name(child, node.modules), _what(inside or child)
        branch = f"{before}{'└─ ' if last else '├─ '}"
        yield TreeRow(category, branch, name, what, _size(child.bytes), child.bytes / total, level)
        if inside is None:
            yield from _branches(child, category, before + ("   " if last else "│  "), total, level + 1)


def _only_tensor(node: MemoryNode) -> MemoryNode | None:
    """The tensors of a module that holds tensors of one kind: they share its line."""
    if node.kind == "module" and len(node.children) == 1 and node.children[0].kind == "tensor":
        return node.children[0]
    return None


def _name(node: MemoryNode, modules_of_parent: int) -> str:
    if node.kind == "module" and node.modules not in (1, modules_of_parent):
        return f"{node.name} × {node.modules}"
    return "" if node.kind == "tensor" else node.name


def _what(node: MemoryNode) -> str:
    if node.kind != "tensor":
        return ""
    text = f"{node.name} {node.dtype} {_shape(node.shape)}" if node.dtype else node.name
    return text if node.tensors == 1 else f"{text} × {node.tensors}"


def term_rows(total: LiveSum) -> list[TermRow]:
    """The terms of a sum, small ones taken together in the last row."""
    large = [term for term in total.terms if term.bytes >= LEAST_SHARE * total.bytes]
    small = total.terms[len(large) :]
    rows = [
        TermRow(_symbols(term), _numbers(term), _size(term.bytes), term.bytes / total.bytes, _held_by(term))
        for term in large
    ]
    if small:
        rest = sum(term.bytes for term in small)
        rows.append(TermRow(f"{len(small)} smaller terms", "", _size(rest), rest / total.bytes, ""))
    return rows


def sum_rows(formula: PeakFormula) -> list[tuple[str, str]]:
    """From the sum to the allocated peak."""
    rows = [("everything alive", _size(formula.here.bytes))]
    if formula.unused_bytes:
        rows.append(("unused ends of blocks", _size(formula.unused_bytes)))
        rows.append(("allocated peak", _size(formula.here.bytes + formula.unused_bytes)))
    return rows


def letter_lines(formula: PeakFormula) -> list[str]:
    """`B = 8  batch size`, one for each letter."""
    return [f"{letter.letter} = {letter.value:,}  {letter.meaning}" for letter in formula.letters]


def formula_line(formula: PeakFormula) -> str:
    """What kind of formula it is, and when the sum is alive that wins here."""
    here = formula.here
    return (
        f"The peak is the largest of {formula.sums} sums, each of everything alive at one instant. "
        f"Here it is that of {_when(here.step, here.phase)}, when {here.op} is done:"
    )


def winner_lines(formula: PeakFormula) -> list[tuple[str, str]]:
    """The sums that win somewhere: when and where, and the largest terms at one place."""
    cells = sum(1 for row in formula.map for cell in row if cell is not None)
    lines = []
    for name, winner in zip(WINNER_NAMES, formula.winners, strict=False):
        total = winner.sum
        head = f"{name}  {_when(total.step, total.phase)}, {total.op}: the peak in {winner.cells} of {cells} cells"
        largest = " + ".join(_symbols(term) for term in total.terms[:TERMS_OF_OTHERS])
        place = f"batch {winner.batch_size}, sequence {winner.sequence_length}"
        lines.append((head, f"{largest} + … = {format_gib(total.bytes)} at {place}"))
    return lines


def map_rows(formula: PeakFormula) -> list[list[str]]:
    """The map of winners: a row of sequence lengths, then a row for each batch size; `·` where this tape does not hold."""
    names = [*WINNER_NAMES[: len(formula.winners)], "o"]
    head = ["", *(str(length) for length in formula.sequence_lengths)]
    body = [
        [str(batch_size), *("·" if cell is None else names[cell] for cell in row)]
        for batch_size, row in zip(formula.batch_sizes, formula.map, strict=True)
    ]
    return [head, *body]


def map_notes(formula: PeakFormula) -> list[str]:
    """What the other signs of the map mean, where they occur."""
    cells = {cell for row in formula.map for cell in row}
    notes = []
    if len(formula.winners) in cells:
        notes.append("o  another sum")
    if None in cells:
        notes.append("·  another path through the code, which has a tape of its own")
    return notes


def _symbols(term: Term) -> str:
    return f"{_count(term)} × {term.size}"


def _count(term: Term) -> str:
    if not term.per_layer:
        return str(term.count)
    layers = "L" if term.per_layer == 1 else f"{term.per_layer}·L"
    return f"({layers} + {term.outside})" if term.outside else layers


def _numbers(term: Term) -> str:
    return f"{term.count} × {term.numbers or format_bytes(term.each_bytes)}"


def _held_by(term: Term) -> str:
    """`mlp.act mul, mlp.c_fc addmm, …`; what bears no module goes by its category."""
    said = list(dict.fromkeys(_holder(holder.category, holder.module, holder.op) for holder in term.holders))
    return ", ".join([*said[:MOST_HOLDERS], "…"] if len(said) > MOST_HOLDERS else said)


def _holder(category: str, module: str, op: str) -> str:
    if category in ("parameters", "optimizer_states", "gradients", "inputs", "buffers"):
        return CATEGORY_NAMES[category]
    inner = module.rsplit(f"{LAYER}.", 1)[-1]
    return op if not module or inner.endswith(LAYER) else f"{inner} {op}"


def _when(step: int, phase: str) -> str:
    if not step:
        return phase
    words = {"optimizer": "the optimizer's update"}.get(phase, phase)
    return f"{words} of step {step}"


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _size(nbytes: int) -> str:
    """In GiB, to be compared, but for what two digits of GiB would not show."""
    return format_gib(nbytes) if nbytes >= 10 * MIB else format_bytes(nbytes)
