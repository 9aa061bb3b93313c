"""What each model and job breaks of the formulas' assumptions."""

from typing import Any

import pytest

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.models.families import families
from vramcast.textbook.assumptions import ASSUMPTIONS, departures, two_matrix_types


@pytest.mark.parametrize(
    ("model", "assumption", "clause"),
    [
        ("llama-3-8b", "multi_head_attention", "num_key_value_heads=8 serve num_attention_heads=32"),
        ("llama-3-8b", "feed_forward_of_two_matrices", "gated: three matrices"),
        ("llama-3-8b", "feed_forward_four_times_hidden", "intermediate_size=14336 is not 4 x hidden_size = 16384"),
        ("llama-3-8b", "tied_head", "untied head"),
        ("gpt2", "feed_forward_of_three_matrices", "two matrices"),
        ("gemma-2-9b", "heads_span_hidden", "num_attention_heads x head_dim = 4096, not hidden_size=3584"),
        ("gemma-2-9b", "every_token_attends_to_all", "sliding_window=4096"),
        ("mixtral-8x7b", "dense_feed_forward", "8 experts"),
    ],
)
def test_a_model_that_departs(model: str, assumption: Any, clause: str) -> None:
    (found,) = departures((assumption,), load_model(model), TrainingJob(model=model))
    assert clause in found


@pytest.mark.parametrize(
    ("fields", "assumption", "clause"),
    [
        ({"optimizer": "sgd"}, "adam", "optimizer='sgd'"),
        ({"checkpointing": "full"}, "no_checkpointing", "checkpointing='full'"),
        ({"attention": "sdpa"}, "stored_attention_weights", "attention='sdpa'"),
        ({"precision": "amp-bf16"}, "one_dtype", "precision='amp-bf16'"),
        ({"gradient_accumulation_steps": 4}, "one_micro_batch", "gradient_accumulation_steps=4"),
    ],
)
def test_a_job_that_departs(fields: dict[str, Any], assumption: Any, clause: str) -> None:
    config = load_model("gpt2")
    (found,) = departures((assumption,), config, TrainingJob(model="gpt2", **fields))
    assert clause in found
    plain = TrainingJob(model="gpt2", attention="eager")
    assert departures((assumption,), config, plain) == ()


def test_gpt2_keeps_everything_but_the_third_matrix() -> None:
    job = TrainingJob(model="gpt2", attention="eager")
    others = tuple(assumption for assumption in ASSUMPTIONS if assumption != "feed_forward_of_three_matrices")
    assert departures(others, load_model("gpt2"), job) == ()


def test_a_generation_has_no_optimizer_and_no_checkpoints() -> None:
    job = GenerationJob(model="gpt2")
    assert departures(("adam", "no_checkpointing", "one_micro_batch", "one_dtype"), load_model("gpt2"), job) == ()


def test_types_of_the_data_file_are_known() -> None:
    assert two_matrix_types() <= families().keys()
