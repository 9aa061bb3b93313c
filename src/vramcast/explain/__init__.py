"""Where each byte comes from: the live set at the peak as a tree, the peak as a formula, switches, and the textbook beside truth."""

from vramcast.explain.explanation import Explanation, PeakInstant, explain_model, explanation_of
from vramcast.explain.formula import Letter, PeakFormula, Winner, peak_formula
from vramcast.explain.guides import Guides, guides
from vramcast.explain.live_sum import Holder, LiveSum, Term
from vramcast.explain.tree import MemoryNode, collapsed, memory_tree

__all__ = [
    "Explanation",
    "Guides",
    "Holder",
    "Letter",
    "LiveSum",
    "MemoryNode",
    "PeakFormula",
    "PeakInstant",
    "Term",
    "Winner",
    "collapsed",
    "explain_model",
    "explanation_of",
    "guides",
    "memory_tree",
    "peak_formula",
]
