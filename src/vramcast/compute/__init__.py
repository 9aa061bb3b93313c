"""How much is computed and how long it takes: FLOPs, bytes moved, lower bounds on time, time at an assumed MFU, cost. No torch."""

from vramcast.compute.any_implementation import ANY_IMPLEMENTATION, unavoidable
from vramcast.compute.decode_time import AnyGeneration, GenerationTime, decode_time
from vramcast.compute.flops import StepFlops, model_flops, step_flops
from vramcast.compute.options import TimeOptions
from vramcast.compute.published_runs import PublishedRuns, published_runs
from vramcast.compute.roofline import EAGER_RUN, Roofline, RooflinePart, operator_bound, roofline
from vramcast.compute.run_cost import RunCost, run_cost, seconds_at_mfu
from vramcast.compute.training_time import AnyTraining, TrainingTime, training_time

__all__ = [
    "ANY_IMPLEMENTATION",
    "EAGER_RUN",
    "AnyGeneration",
    "AnyTraining",
    "GenerationTime",
    "PublishedRuns",
    "Roofline",
    "RooflinePart",
    "RunCost",
    "StepFlops",
    "TimeOptions",
    "TrainingTime",
    "decode_time",
    "model_flops",
    "operator_bound",
    "published_runs",
    "roofline",
    "run_cost",
    "seconds_at_mfu",
    "step_flops",
    "training_time",
    "unavoidable",
]
