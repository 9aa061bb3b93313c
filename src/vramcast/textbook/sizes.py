"""The sizes that formulas take, read from a model and a job, by the field's names."""

from vramcast.forecast.answer import DEFAULT_SEQUENCE_LENGTH
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig

FULL_PRECISION_BYTES, HALF_PRECISION_BYTES = 4, 2
_DIMENSIONS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)


def job_sizes(config: ModelConfig, job: TrainingJob | GenerationJob, num_parameters: int) -> dict[str, int]:
    """Every size that a job determines."""
    return {name: getattr(config.dimensions, name) for name in _DIMENSIONS} | {
        "batch_size": job.batch_size,
        "sequence_length": sequence_length(config, job),
        "num_parameters": num_parameters,
        "bytes_per_value": bytes_per_value(job),
    }


def sequence_length(config: ModelConfig, job: TrainingJob | GenerationJob) -> int:
    """Tokens of a sequence: as asked, or what a forecast fills in; of a generation, those at its end."""
    if isinstance(job, GenerationJob):
        return job.prompt_length + job.max_new_tokens
    return job.sequence_length or min(config.dimensions.context_length, DEFAULT_SEQUENCE_LENGTH)


def bytes_per_value(job: TrainingJob | GenerationJob) -> int:
    """As the guides count: 4 for fp32, 2 for everything else."""
    return FULL_PRECISION_BYTES if job.precision == "fp32" else HALF_PRECISION_BYTES
