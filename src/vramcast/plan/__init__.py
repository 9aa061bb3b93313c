"""The inverse questions: on which card a job fits, how large it may be there, and what to change so that it does."""

from vramcast.plan.advice import Advice, Bar, SwitchSaving, Waterfall, advise
from vramcast.plan.ask import advise_model, fit_model, sweep_model
from vramcast.plan.fit import fit
from vramcast.plan.fit_matrix import Choice, FitMatrix, FitRow
from vramcast.plan.largest import FitResult, largest_batch, longest_sequence
from vramcast.plan.prices import parse_prices, read_prices
from vramcast.plan.sweep import Sweep, SweepRow, sweep

__all__ = [
    "Advice",
    "Bar",
    "Choice",
    "FitMatrix",
    "FitResult",
    "FitRow",
    "Sweep",
    "SweepRow",
    "SwitchSaving",
    "Waterfall",
    "advise",
    "advise_model",
    "fit",
    "fit_model",
    "largest_batch",
    "longest_sequence",
    "parse_prices",
    "read_prices",
    "sweep",
    "sweep_model",
]
