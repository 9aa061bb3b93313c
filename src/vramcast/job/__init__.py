"""What is asked: a training or a generation job, each field documented where it is defined."""

from vramcast.job.generation import GenerationJob
from vramcast.job.options import Attention, CacheKind, Checkpointing, Optimizer, Precision
from vramcast.job.training import TrainingJob

__all__ = ["Attention", "CacheKind", "Checkpointing", "GenerationJob", "Optimizer", "Precision", "TrainingJob"]
