import pytest
from decode_programs import without_marks

from vramcast.allocator import replay
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob
from vramcast.models import load_model, model_from_fields
from vramcast.record.generation import record_generation
from vramcast.timeline import Timeline
from vramcast.timeline.decode import extended_timeline
from vramcast.timeline.recording import Recording

GQA = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 56,
    "vocab_size": 101,
    "max_position_embeddings": 512,
}
FIELDS = {
    "gpt2": {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": 97, "n_positions": 512},
    "llama": {"model_type": "llama", **GQA},
    "mistral": {"model_type": "mistral", **GQA, "sliding_window": 27},
    "gemma2": {"model_type": "gemma2", **GQA, "head_dim": 8, "sliding_window": 27},
}


def recorded(family: str, *, every_step: bool = False, **fields: object) -> Recording:
    config = model_from_fields(FIELDS[family], name=family, source="preset", origin="test")
    job = GenerationJob.model_validate({"model": family, "prompt_length": 17, "max_new_tokens": 24, **fields})
    return record_generation(job, config, find_gpu("a100-80gb"), every_step=every_step)


def whole_timeline(recording: Recording) -> Timeline:
    assert recording.decode is not None
    return extended_timeline(recording.timeline, recording.decode)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("gpt2", {"attention": "eager"}),
        ("gpt2", {"attention": "sdpa", "batch_size": 3, "precision": "fp32"}),
        ("gpt2", {"attention": "sdpa", "cache": "static"}),
        ("llama", {"attention": "sdpa"}),
        ("llama", {"attention": "math", "batch_size": 2}),
        ("llama", {"attention": "eager", "cache": "static", "batch_size": 2}),
        ("llama", {"attention": "sdpa", "kv_cache_dtype": "fp32"}),
        ("mistral", {"attention": "sdpa"}),
        ("mistral", {"attention": "eager", "batch_size": 2}),
        ("mistral", {"attention": "sdpa", "cache": "static", "kv_cache_dtype": "fp16"}),
        ("gemma2", {"attention": "eager"}),
        ("mistral", {"attention": "eager", "cache": "static", "batch_size": 2}),
    ],
    ids=str,
)
def test_the_extension_is_the_direct_trace_event_by_event(family: str, fields: dict[str, object]) -> None:
    extended, direct = recorded(family, **fields), recorded(family, every_step=True, **fields)
    timeline = whole_timeline(extended)
    assert direct.decode is None
    assert timeline.allocations == direct.timeline.allocations
    assert without_marks(timeline) == without_marks(direct.timeline)
    assert extended.flops_per_step == direct.flops_per_step
    assert extended.parameters == direct.parameters


def test_marks_and_phases() -> None:
    recording = recorded("llama")
    assert recording.timeline.marks == ["after_load", "after_prefill", "decode_step", "decode_step"]
    phases = dict.fromkeys(allocation.phase for allocation in whole_timeline(recording).allocations)
    assert list(phases) == ["load", "prefill", "decode"]
    direct = recorded("llama", max_new_tokens=3)
    assert direct.timeline.marks == ["after_load", "after_prefill", "decode_step", "after_decode"]


def test_only_weights_and_buffers_are_there_after_loading() -> None:
    timeline = recorded("gpt2", precision="bf16").timeline
    after_load = next(position for name, position in timeline.mark_positions() if name == "after_load")
    live = [timeline.allocations[index] for index in timeline.live_at(after_load)]
    assert {allocation.category for allocation in live} <= {"parameters", "buffers"}
    assert len(live) == sum(event.kind == 0 for event in timeline.events[:after_load])


def cache_bytes_at(recording: Recording, mark: str) -> int:
    timeline = whole_timeline(recording) if recording.decode else recording.timeline
    position = next(position for name, position in timeline.mark_positions() if name == mark)
    live = (timeline.allocations[index] for index in timeline.live_at(position))
    return sum(allocation.nbytes for allocation in live if allocation.category == "kv_cache")


@pytest.mark.parametrize(("cache_dtype", "element_bytes"), [(None, 2), ("bf16", 2), ("fp32", 4)])
def test_the_cache_holds_prompt_and_all_new_tokens_but_the_last(cache_dtype: str | None, element_bytes: int) -> None:
    token_bytes = 2 * 2 * 2 * 8 * element_bytes  # keys and values, layers, heads, head_dim
    recording = recorded("llama", batch_size=3, kv_cache_dtype=cache_dtype)
    assert cache_bytes_at(recording, "after_prefill") == 3 * 17 * token_bytes
    assert cache_bytes_at(recording, "after_decode") == 3 * (17 + 24 - 1) * token_bytes


def test_a_static_cache_is_there_in_full_after_the_prefill() -> None:
    recording = recorded("llama", cache="static")
    full = 40 * 2 * 2 * 2 * 8 * 2
    assert cache_bytes_at(recording, "after_prefill") == cache_bytes_at(recording, "after_decode") == full


def test_a_sliding_window_bounds_the_cache() -> None:
    # The layer keeps 26 tokens as a view of the 27 that attention saw.
    assert cache_bytes_at(recorded("mistral"), "after_decode") == 27 * 2 * 2 * 2 * 8 * 2


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_llama_3_8b_with_8192_cached_tokens_holds_one_gibibyte_of_cache(cache: str) -> None:
    job = GenerationJob.model_validate(
        {"model": "llama-3-8b", "prompt_length": 8192, "max_new_tokens": 1, "cache": cache}
    )
    recording = record_generation(job, load_model("llama-3-8b"), find_gpu("a100-80gb"))
    result = replay(recording.timeline)
    sizes: dict[str, int] = {}
    for index, size in result.live_at_peak.items():
        category = recording.timeline.allocations[index].category
        sizes[category] = sizes.get(category, 0) + size
    assert sizes["kv_cache"] == 1_073_741_824
    assert sum(sizes.values()) == result.peak_allocated_bytes


def test_more_tokens_than_the_context_are_pointed_out() -> None:
    recording = recorded("gpt2", prompt_length=510, max_new_tokens=20)
    assert any("more than the model's context of 512" in sentence for sentence in recording.assumptions)


def test_a_long_batch_without_padding_needs_no_dense_mask() -> None:
    # 80,000 elements of padding mask: more than are followed by value elsewhere.
    recording = recorded("llama", batch_size=16, prompt_length=5000, max_new_tokens=1)
    assert recording.kernels == {"scaled_dot_product_attention: flash": 2}
