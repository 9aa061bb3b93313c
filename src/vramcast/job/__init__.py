"""What is asked: a training or a generation job, each field documented where it is defined."""

from vramcast.job.generation import GenerationJob, GenerationOptions
from vramcast.job.options import Attention, CacheKind, Checkpointing, Optimizer, Precision
from vramcast.job.training import TrainingJob, TrainingOptions

__all__ = [
    "Attention",
    "CacheKind",
    "Checkpointing",
    "GenerationJob",
    "GenerationOptions",
    "Optimizer",
    "Precision",
    "TrainingJob",
    "TrainingOptions",
]
