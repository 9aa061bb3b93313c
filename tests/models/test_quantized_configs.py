"""Weights in fewer bits are never counted as if they were not."""

import json
from pathlib import Path
from typing import Any

import pytest

from vramcast.errors import ModelConfigError
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model, model_from_fields
from vramcast.tapes.key import generation_key, model_key

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}
GIVEN: dict[str, Any] = {"name": "x", "source": "file", "origin": "x.json"}

QUANTIZED: list[tuple[dict[str, Any], str]] = [
    ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "quantization_config='fp8'"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config='gptq, 4 bits'"),
    ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, "quantization_config='awq, 4 bits'"),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, "quantization_config='compressed-tensors'"),
    ({"quantization_config": {"load_in_4bit": True}}, "quantization_config='bitsandbytes'"),
    ({"quantization_config": {"quant_algo": "NVFP4"}}, "quantization_config='NVFP4'"),
    ({"quantization_config": {"zork": 1}}, "quantization_config='unnamed method'"),
    ({"quantization_config": {"quant_method": "x" * 900}}, "quantization_config='xxx"),
    ({"quantization_config": "fp8"}, "quantization_config='fp8'"),
    ({"quantization_config": [4]}, "quantization_config='[4]'"),
    ({"compression_config": {"format": "pack-quantized"}}, "compression_config='pack-quantized'"),
    ({"quantization": {"group_size": 64, "bits": 4}}, "quantization='unnamed method, 4 bits'"),
    ({"torch_dtype": "float8_e4m3fn"}, "torch_dtype='float8_e4m3fn'"),
    ({"dtype": "torch.int8"}, "dtype='torch.int8'"),
    ({"load_in_8bit": True}, "load_in_8bit='bitsandbytes'"),
]


@pytest.mark.parametrize(("fields", "named"), QUANTIZED, ids=[row[1] for row in QUANTIZED])
def test_a_quantised_model_is_refused_by_its_method(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        model_from_fields({**LLAMA, **fields}, **GIVEN)
    message = str(caught.value)
    assert message.startswith(named)
    assert "quantised" in message and "--ignore-quantization" in message and "`vramcast run --gpu NAME" in message
    assert len(message) < 400


@pytest.mark.parametrize(("fields", "named"), QUANTIZED, ids=[row[1] for row in QUANTIZED])
def test_ignored_it_is_the_unquantised_model_and_says_so(fields: dict[str, Any], named: str) -> None:
    plain = model_from_fields(LLAMA, **GIVEN)
    model = model_from_fields({**LLAMA, **fields}, **GIVEN, ignore_quantization=True)
    assert model.model_copy(update={"assumptions": ()}) == plain
    (note,) = model.assumptions
    assert note.startswith(named.partition("=")[0]) and "unquantised model" in note


@pytest.mark.parametrize(
    "fields",
    [{"quantization_config": None}, {"quantization_config": {}}, {"load_in_4bit": False}, {"dtype": "bfloat16"}],
)
def test_what_says_nothing_of_quantised_weights(fields: dict[str, Any]) -> None:
    model = model_from_fields({**LLAMA, **fields}, **GIVEN)
    assert model.assumptions == ()
    assert "quantization_config" not in model.fields


AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4}}


@pytest.mark.parametrize(
    "whole",
    [
        {"model_type": "llava", "text_config": LLAMA, **AWQ},
        {"model_type": "llava", "text_config": {**LLAMA, "quantization_config": None}, **AWQ},
        {"model_type": "llava", "text_config": {**LLAMA, **AWQ}},
        {"model_type": "x", "thinker_config": {"model_type": "y", "text_config": LLAMA, **AWQ}},
        {"model_type": "x", "thinker_config": {"model_type": "y", "text_config": LLAMA}, **AWQ},
    ],
    ids=["outside", "outside, null inside", "inside", "between", "two levels out"],
)
def test_a_language_model_inside(whole: dict[str, Any]) -> None:
    with pytest.raises(ModelConfigError, match=r"quantization_config='awq, 4 bits'"):
        model_from_fields(whole, **GIVEN)
    model = model_from_fields(whole, **GIVEN, ignore_quantization=True)
    assert model.fields == model_from_fields(LLAMA, **GIVEN).fields
    assert any("unquantised" in note for note in model.assumptions)


def test_the_short_form(tmp_path: Path) -> None:
    fields = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "quantization_config": {"quant_method": "fp8"}}
    with pytest.raises(ModelConfigError, match=r"quantization_config='fp8'"):
        model_from_fields(fields, **GIVEN)


@pytest.mark.parametrize(
    ("name", "method"),
    [("quantize_config.json", "gptq"), ("quant_config.json", "awq"), ("hf_quant_config.json", "modelopt")],
)
def test_a_file_beside_tells_of_quantised_weights(tmp_path: Path, name: str, method: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / name).write_text("{}")
    with pytest.raises(ModelConfigError, match=rf"{name}='{method}': its weights are quantised.*--ignore-quantization"):
        load_model(tmp_path)
    (note,) = load_model(tmp_path, ignore_quantization=True).assumptions
    assert note.startswith(f"{name} ({method}) is ignored as asked")


def test_the_flag_changes_no_key_of_a_tape() -> None:
    config = model_from_fields(LLAMA, **GIVEN)
    training = TrainingJob(model="x", sequence_length=8)
    assert model_key(training, config) == model_key(training.model_copy(update={"ignore_quantization": True}), config)
    generation = GenerationJob(model="x")
    ignoring = generation.model_copy(update={"ignore_quantization": True})
    assert generation_key(generation, config) == generation_key(ignoring, config)
    quantized = {**LLAMA, "quantization_config": {"quant_method": "fp8"}}
    same = model_from_fields(quantized, **GIVEN, ignore_quantization=True)
    assert model_key(training, config) == model_key(training, same)


def test_an_adapter_is_refused_with_the_way(tmp_path: Path) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "someone/base", "r": 16}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    for path in (tmp_path, tmp_path / "adapter_config.json"):
        with pytest.raises(
            ModelConfigError, match=r"peft_type='LORA': is an adapter of 'someone/base'.*`vramcast run --gpu NAME"
        ):
            load_model(path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_model(tmp_path).assumptions == ("the adapter beside it (adapter_config.json) is not counted",)
