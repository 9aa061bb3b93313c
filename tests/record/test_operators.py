"""Operators of a recorded optimizer step and of the steps of a generation."""

from __future__ import annotations

from collections import Counter

import pytest

from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import model_from_fields
from vramcast.record.generation import record_generation
from vramcast.record.training import record_training
from vramcast.timeline import OperatorTable
from vramcast.timeline.recording import Recording

GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": 97, "n_positions": 512}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 56,
    "vocab_size": 101,
    "max_position_embeddings": 512,
}
FIELDS = {"gpt2": GPT2, "llama": LLAMA, "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 27}}
BATCH, LENGTH = 3, 24


def trained(family: str = "llama", *, steps: int = 3, **fields: object) -> Recording:
    config = model_from_fields(FIELDS[family], name=family, source="preset", origin="test")
    job = TrainingJob.model_validate({"model": family, "batch_size": BATCH, "sequence_length": LENGTH, **fields})
    return record_training(job, config, find_gpu("a100-80gb"), steps=steps)


def generated(family: str = "llama", *, every_step: bool = False, **fields: object) -> Recording:
    config = model_from_fields(FIELDS[family], name=family, source="preset", origin="test")
    job = GenerationJob.model_validate({"model": family, "prompt_length": 17, "max_new_tokens": 24, **fields})
    return record_generation(job, config, find_gpu("a100-80gb"), every_step=every_step)


def flops_by_phase(table: OperatorTable) -> Counter[str]:
    flops = Counter[str]()
    for operator in table:
        flops[operator.phase] += operator.flops * operator.calls
    return flops


def calls_by_name(table: OperatorTable) -> Counter[str]:
    calls = Counter[str]()
    for operator in table:
        calls[operator.name] += operator.calls
    return calls


@pytest.mark.parametrize("precision", ["fp32", "bf16", "amp-bf16", "amp-fp16"])
def test_a_step_has_the_flops_of_its_weights_and_scores(precision: str) -> None:
    recording = trained(precision=precision, attention="eager")
    assert list(recording.operators) == ["step"]
    tokens = BATCH * LENGTH
    weights = 2 * (32 * (32 + 16 + 16 + 32) + 3 * 32 * 56) + 32 * 101
    scores = 2 * 2 * LENGTH * 32  # two products in each of two layers
    forward = 2 * tokens * (weights + scores)
    step = recording.operators["step"]
    # Everything has a gradient, the ids that enter aside.
    assert flops_by_phase(step) == {"forward": forward, "backward": 2 * forward, "optimizer": 0}
    assert step.flops == recording.flops_per_step == 3 * forward


def test_any_later_step_is_the_same() -> None:
    assert trained(steps=2).operators == trained(steps=4).operators


def test_the_first_step_has_optimizer_states_to_make() -> None:
    first, second = (calls_by_name(trained(steps=steps).operators["step"]) for steps in (1, 2))
    assert set(first - second) == {"zeros_like"}
    assert second - first == Counter()


def test_recomputation_is_a_phase_of_its_own() -> None:
    plain, checkpointed = (trained(checkpointing=kind).operators["step"] for kind in ("none", "full"))
    flops, recomputed = flops_by_phase(plain), flops_by_phase(checkpointed)
    assert recomputed - flops == {"recompute": recomputed["recompute"]}
    assert 0 < recomputed["recompute"] < flops["forward"]  # the head is not computed again
    assert not flops["recompute"]


@pytest.mark.parametrize("micro_batches", [2, 3])
def test_micro_batches_are_in_one_step(micro_batches: int) -> None:
    one = flops_by_phase(trained().operators["step"])
    several = trained(gradient_accumulation_steps=micro_batches)
    flops = flops_by_phase(several.operators["step"])
    assert flops["forward"] == micro_batches * one["forward"]
    assert flops["backward"] == micro_batches * one["backward"]
    assert several.flops_per_step == sum(flops.values())


@pytest.mark.parametrize(
    ("optimizer", "operators"),
    [
        ("adamw-fused", {"_foreach_add_": 1, "_fused_adamw_": 1}),
        ("sgd", {"_foreach_add_": 1}),
        ("sgd-momentum", {"_foreach_mul_": 1, "_foreach_add_": 2}),
    ],
)
def test_what_an_optimizer_dispatches(optimizer: str, operators: dict[str, int]) -> None:
    table = trained(optimizer=optimizer).operators["step"]
    dispatched = calls_by_name(OperatorTable(tuple(o for o in table if o.phase == "optimizer")))
    assert dispatched == operators


def test_every_layer_is_named() -> None:
    table = trained(attention="sdpa", precision="bf16").operators["step"]
    attention = [(o.module, o.phase, o.extents) for o in table if o.kind == "attention"]
    extents = (BATCH, 4, 2, LENGTH, LENGTH, 8, 1)
    assert attention == [
        ("model.layers.0.self_attn", "forward", extents),
        ("model.layers.1.self_attn", "forward", extents),
        ("model.layers.1.self_attn", "backward", extents),
        ("model.layers.0.self_attn", "backward", extents),
    ]


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("gpt2", {"attention": "eager"}),
        ("llama", {"attention": "sdpa", "batch_size": 2}),
        ("llama", {"attention": "sdpa", "cache": "static"}),
        ("mistral", {"attention": "eager"}),
    ],
    ids=str,
)
def test_steps_of_a_generation_are_those_of_the_whole_run(family: str, fields: dict[str, object]) -> None:
    extended, direct = generated(family, **fields), generated(family, every_step=True, **fields)
    assert list(extended.operators) == ["prefill", "first_decode_step", "last_decode_step"]
    assert extended.operators == direct.operators
    assert extended.operators["last_decode_step"].flops == extended.flops_per_step


def test_a_decode_step_reads_the_cache_that_has_grown() -> None:
    operators = generated(attention="sdpa").operators
    lengths = {name: {o.extents[3:5] for o in table if o.kind == "attention"} for name, table in operators.items()}
    assert lengths == {"prefill": {(17, 17)}, "first_decode_step": {(1, 18)}, "last_decode_step": {(1, 40)}}
    prompt = [operator.name for operator in operators["prefill"] if operator.phase == "load"]
    assert prompt == ["_to_copy", "ones"]
    assert {operator.phase for operator in operators["prefill"]} == {"load", "prefill"}
    assert {operator.phase for operator in operators["last_decode_step"]} == {"decode"}


def test_a_short_generation_has_the_steps_it_has() -> None:
    assert list(generated(max_new_tokens=1).operators) == ["prefill"]
    two = generated(max_new_tokens=2).operators
    assert two["first_decode_step"] == two["last_decode_step"]
    assert two["first_decode_step"].dispatches > 0
