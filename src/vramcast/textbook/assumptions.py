"""What the documents' formulas take for granted, each checked against a model and a job."""

import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Literal, get_args

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig

Job = TrainingJob | GenerationJob
Assumption = Literal[
    "adam",
    "dense_feed_forward",
    "every_token_attends_to_all",
    "feed_forward_of_two_matrices",
    "feed_forward_of_three_matrices",
    "feed_forward_four_times_hidden",
    "heads_span_hidden",
    "multi_head_attention",
    "no_checkpointing",
    "one_dtype",
    "one_micro_batch",
    "stored_attention_weights",
    "tied_head",
]
ASSUMPTIONS: tuple[Assumption, ...] = get_args(Assumption)


def departures(assumptions: tuple[Assumption, ...], config: ModelConfig, job: Job) -> tuple[str, ...]:
    """The assumptions that do not hold for this model and job, each as a clause with the sizes that break it."""
    found = (_CHECKS[assumption](config, job) for assumption in assumptions)
    return tuple(clause for clause in found if clause is not None)


@cache
def two_matrix_types() -> frozenset[str]:
    """Model types whose feed-forward is one matrix up and one down."""
    text = resources.files("vramcast.textbook").joinpath("feed_forward.toml").read_text(encoding="utf-8")
    return frozenset(tomllib.loads(text)["two_matrices"])


def _multi_head(config: ModelConfig, job: Job) -> str | None:
    heads, shared = config.dimensions.num_attention_heads, config.dimensions.num_key_value_heads
    if heads == shared:
        return None
    return f"num_key_value_heads={shared} serve num_attention_heads={heads}: keys and values are smaller than counted"


def _heads_span_hidden(config: ModelConfig, job: Job) -> str | None:
    sizes = config.dimensions
    if sizes.num_attention_heads * sizes.head_dim == sizes.hidden_size:
        return None
    return f"num_attention_heads x head_dim = {sizes.num_attention_heads * sizes.head_dim}, not hidden_size={sizes.hidden_size}"


def _four_times(config: ModelConfig, job: Job) -> str | None:
    sizes = config.dimensions
    if sizes.intermediate_size == 4 * sizes.hidden_size:
        return None
    return f"intermediate_size={sizes.intermediate_size} is not 4 x hidden_size = {4 * sizes.hidden_size}"


def _two_matrices(config: ModelConfig, job: Job) -> str | None:
    return (
        None
        if config.model_type in two_matrix_types()
        else f"the feed-forward of {config.model_type} is gated: three matrices"
    )


def _three_matrices(config: ModelConfig, job: Job) -> str | None:
    return (
        f"the feed-forward of {config.model_type} has two matrices" if config.model_type in two_matrix_types() else None
    )


def _dense(config: ModelConfig, job: Job) -> str | None:
    experts = config.dimensions.num_experts
    return None if experts is None else f"{experts} experts in each layer instead of one feed-forward"


def _all_tokens(config: ModelConfig, job: Job) -> str | None:
    window = config.dimensions.sliding_window
    return None if window is None else f"sliding_window={window}: some layers attend to no more than that"


def _tied(config: ModelConfig, job: Job) -> str | None:
    return None if config.dimensions.tie_word_embeddings else "untied head: the vocabulary's matrix exists twice"


def _adam(config: ModelConfig, job: Job) -> str | None:
    if isinstance(job, GenerationJob) or job.optimizer.startswith("adam"):
        return None
    return f"optimizer={job.optimizer!r} does not keep Adam's two states"


def _no_checkpointing(config: ModelConfig, job: Job) -> str | None:
    if isinstance(job, GenerationJob) or job.checkpointing == "none":
        return None
    return f"checkpointing={job.checkpointing!r}: activations are computed again instead of kept"


def _stored_weights(config: ModelConfig, job: Job) -> str | None:
    if job.attention in ("eager", "math"):
        return None
    return f"attention={job.attention!r}: fused kernels never store the T x T attention weights"


def _one_dtype(config: ModelConfig, job: Job) -> str | None:
    if not job.precision.startswith("amp-"):
        return None
    return f"precision={job.precision!r}: parameters, gradients and optimizer states stay in 4 bytes"


def _one_micro_batch(config: ModelConfig, job: Job) -> str | None:
    if isinstance(job, GenerationJob) or job.gradient_accumulation_steps == 1:
        return None
    return f"gradient_accumulation_steps={job.gradient_accumulation_steps}: the step runs that many batches"


_CHECKS: dict[Assumption, Callable[[ModelConfig, Job], str | None]] = {
    "adam": _adam,
    "dense_feed_forward": _dense,
    "every_token_attends_to_all": _all_tokens,
    "feed_forward_of_two_matrices": _two_matrices,
    "feed_forward_of_three_matrices": _three_matrices,
    "feed_forward_four_times_hidden": _four_times,
    "heads_span_hidden": _heads_span_hidden,
    "multi_head_attention": _multi_head,
    "no_checkpointing": _no_checkpointing,
    "one_dtype": _one_dtype,
    "one_micro_batch": _one_micro_batch,
    "stored_attention_weights": _stored_weights,
    "tied_head": _tied,
}
