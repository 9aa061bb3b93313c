"""How much is computed and how long it takes: FLOPs, bytes moved, lower bounds on time, time at a stated MFU, cost. No torch."""

from vramcast.compute.decode_time import GenerationTime, decode_time
from vramcast.compute.flops import StepFlops, model_flops, step_flops
from vramcast.compute.options import TimeOptions
from vramcast.compute.roofline import Roofline, RooflinePart, operator_bound, roofline
from vramcast.compute.run_cost import RunCost, run_cost, seconds_at_mfu
from vramcast.compute.training_time import TrainingTime, training_time

__all__ = [
    "GenerationTime",
    "Roofline",
    "RooflinePart",
    "RunCost",
    "StepFlops",
    "TimeOptions",
    "TrainingTime",
    "decode_time",
    "model_flops",
    "operator_bound",
    "roofline",
    "run_cost",
    "seconds_at_mfu",
    "step_flops",
    "training_time",
]
