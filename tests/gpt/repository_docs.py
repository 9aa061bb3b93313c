"""A text made of this repository's own documentation, and how well a trigram model tells it."""

import ast
import math
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def documentation() -> str:
    """Every markdown file and every docstring of the package, in an order that does not depend on the machine."""
    pages = [
        path.read_text(encoding="utf-8")
        for path in sorted(REPOSITORY.glob("*.md")) + sorted(REPOSITORY.glob("docs/*.md"))
    ]
    modules = sorted((REPOSITORY / "src" / "vramcast").rglob("*.py"))
    # Interleaved, so that both ends of the text are of the same kind.
    shuffled = sorted(modules, key=lambda path: path.stem[::-1])
    return "\n\n".join([*pages, *(_docstrings(path) for path in shuffled)])


def _docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return "\n\n".join(text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node)))


def trigram_bits_per_byte(train: bytes, validation: bytes) -> float:
    """Bits for each byte of `validation` but the first two, by a byte trigram with Witten-Bell interpolation.

    p(c | ab) = (n(abc) + k(ab) p(c | b)) / (n(ab) + k(ab)), with k the kinds of bytes seen after ab; and so on down to uniform.
    """
    counts = [Counter(train[at : at + order] for at in range(len(train) - order + 1)) for order in (1, 2, 3)]
    totals: list[Counter[bytes]] = [Counter(), Counter(), Counter()]
    kinds: list[Counter[bytes]] = [Counter(), Counter(), Counter()]
    for order in range(3):
        for gram, count in counts[order].items():
            totals[order][gram[:-1]] += count
            kinds[order][gram[:-1]] += 1
    bits = 0.0
    for at in range(2, len(validation)):
        probability = 1 / 256
        for order in range(3):
            gram = validation[at - order : at + 1]
            total, different = totals[order][gram[:-1]], kinds[order][gram[:-1]]
            if total:
                probability = (counts[order][gram] + different * probability) / (total + different)
        bits -= math.log2(probability)
    return bits / (len(validation) - 2)
