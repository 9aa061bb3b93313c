"""What a forecast promises: exact parameters, parts that sum to the peak, a verdict that follows from the card."""

import pytest

import vramcast
from vramcast.units import GIB

PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize(("model", "parameters"), PARAMETERS.items())
def test_parameters_are_exact(model: str, parameters: int) -> None:
    forecast = vramcast.training(model, sequence_length=16)
    assert forecast.parameters == parameters
    static = {item.category: item.bytes for item in forecast.breakdown}
    # The breakdown counts blocks: a block is split only if more than 1 MiB would be left, so some tensors hold up to that more.
    assert 4 * parameters <= static["parameters"] <= 1.05 * 4 * parameters


def test_parameters_of_llama_3_8b_are_exact() -> None:
    assert (
        vramcast.training("llama-3-8b", sequence_length=16, precision="bf16", optimizer="sgd").parameters
        == 8_030_261_248
    )


def test_kv_cache_of_llama_3_8b_at_8192_tokens_is_one_gibibyte() -> None:
    # 2 (keys, values) x 32 layers x 8 heads x 8192 tokens x 128 x 2 bytes; the prompt fills the cache, the new token is not yet in it.
    forecast = vramcast.generation("llama-3-8b", prompt_length=8192, max_new_tokens=1)
    assert {item.category: item.bytes for item in forecast.breakdown}["kv_cache"] == GIB


def test_breakdown_sums_to_the_allocated_peak(tiny_gpt2: str, tiny_llama: str) -> None:
    for forecast in (
        vramcast.training(tiny_gpt2, batch_size=3, precision="amp-fp16", checkpointing="full"),
        vramcast.training(tiny_llama, batch_size=2, precision="bf16", attention="eager", gradient_accumulation_steps=2),
        vramcast.generation(tiny_llama, batch_size=2, prompt_length=50, max_new_tokens=30),
    ):
        assert sum(item.bytes for item in forecast.breakdown) == forecast.peak_allocated_bytes
        assert forecast.peak_allocated_bytes <= forecast.peak_reserved_bytes
        assert forecast.device_used_bytes == forecast.peak_reserved_bytes + forecast.context_bytes
        assert max(instant.allocated_bytes for instant in forecast.instants) == forecast.peak_allocated_bytes


def test_to_dict_has_the_attributes_as_keys(tiny_gpt2: str) -> None:
    forecast = vramcast.training(tiny_gpt2)
    for key, value in forecast.to_dict().items():
        if isinstance(value, (int, str)):
            assert getattr(forecast, key) == value


def test_same_question_same_answer(tiny_llama: str) -> None:
    assert vramcast.training(tiny_llama, batch_size=2) == vramcast.training(tiny_llama, batch_size=2)


def test_larger_batch_takes_more_and_only_where_it_can(tiny_gpt2: str) -> None:
    one, four = (vramcast.training(tiny_gpt2, batch_size=size, sequence_length=128) for size in (1, 4))
    parts_of_one, parts_of_four = (
        {item.category: item.bytes for item in forecast.breakdown} for forecast in (one, four)
    )
    assert parts_of_one["parameters"] == parts_of_four["parameters"]
    assert parts_of_four["activations"] > 3 * parts_of_one["activations"]


def test_checkpointing_saves_activations() -> None:
    plain, checkpointed = (vramcast.training("gpt2", batch_size=4, checkpointing=kind) for kind in ("none", "full"))
    assert checkpointed.peak_allocated_bytes < 0.7 * plain.peak_allocated_bytes
    assert checkpointed.flops_per_step > 1.2 * plain.flops_per_step  # the forward pass is run again


def test_fused_optimizer_needs_no_copy_of_the_second_moment(tiny_llama: str) -> None:
    foreach, fused = (
        vramcast.training(tiny_llama, sequence_length=1, optimizer=name) for name in ("adamw", "adamw-fused")
    )
    saved = foreach.peak_allocated_bytes - fused.peak_allocated_bytes
    assert saved >= 0.9 * 4 * foreach.parameters


def test_verdict_follows_the_card(tiny_gpt2: str) -> None:
    forecasts = {
        memory: vramcast.training(tiny_gpt2, batch_size=8, gpu="custom", gpu_memory=memory)
        for memory in ("4GiB", "600MiB", "64MiB")
    }
    assert forecasts["4GiB"].verdict == "fits"
    assert forecasts["600MiB"].verdict == "tight"
    assert forecasts["64MiB"].verdict == "does_not_fit"
    assert forecasts["64MiB"].headroom_bytes < 0


def test_retries_near_the_limit_are_told() -> None:
    # 16 GiB are short of what GPT-2 reserves with room, but freeing cached blocks makes it fit.
    roomy = vramcast.training("gpt2", batch_size=8, attention="eager", precision="amp-bf16")
    between = (roomy.peak_reserved_bytes + roomy.peak_allocated_bytes) // 2 + roomy.context_bytes
    tight = vramcast.training(
        "gpt2", batch_size=8, attention="eager", precision="amp-bf16", gpu="custom", gpu_memory=f"{between // 2**20}MiB"
    )
    assert tight.verdict in ("tight", "does_not_fit")
    if tight.verdict == "tight":
        assert any("give cached memory back" in line for line in tight.assumptions)
        assert tight.device_used_bytes <= tight.gpu_memory_bytes


def test_unknown_field_is_named() -> None:
    with pytest.raises(vramcast.InputError, match=r"batchsize=8: no such field; choose from batch_size"):
        vramcast.training("gpt2", batchsize=8)


def test_virtual_gpu_gives_the_same_forecast_as_its_allocator() -> None:
    import torch

    with vramcast.virtual_gpu("rtx-3090") as gpu:
        model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 256)).to("cuda")
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.randn(64, 256, device="cuda")).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    forecast = gpu.forecast()
    assert forecast.workload == "code"
    assert forecast.peak_allocated_bytes == gpu.peak_allocated_bytes
    assert forecast.peak_reserved_bytes == gpu.peak_reserved_bytes
    assert forecast.parameters == 256 * 1024 * 2 + 1024 + 256
    assert "FITS" in forecast._repr_html_()
