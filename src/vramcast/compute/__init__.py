"""How much is computed and how long it takes: FLOPs, bytes moved, lower bounds on time, time at a stated MFU, cost. No torch."""

from typing import TYPE_CHECKING

from vramcast.late_names import late_names

if TYPE_CHECKING:
    from vramcast.compute.decode_time import GenerationTime
    from vramcast.compute.flops import StepFlops, model_flops, step_flops
    from vramcast.compute.options import TimeOptions
    from vramcast.compute.roofline import Roofline, RooflinePart, operator_bound, roofline
    from vramcast.compute.run_cost import RunCost, run_cost, seconds_at_mfu
    from vramcast.compute.training_time import TrainingTime, training_time
