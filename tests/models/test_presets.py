"""Presets: complete, true to their public parameter counts, and what transformers reads from them."""

import json
from typing import Any

import pytest

from vramcast.models import load_model, preset_names
from vramcast.models.presets import OWN_KEY, close_presets, find_preset, preset_text

# From the models' public pages and checkpoints, tied weights once: independent of the files under test.
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "gemma-2-2b": 2_614_341_888,
    "phi-3-mini": 3_821_079_552,
    "falcon-7b": 6_921_720_704,
    "pythia-160m": 162_322_944,
    "opt-125m": 125_239_296,
    "smollm2-135m": 134_515_008,
}

GUIDE = ["tiny", "small", "150M", "200M", "250M", "tiny_char", "small_char"]
GUIDE_1024 = ["150M_1024", "200M_1024", "250M_1024", "350M_1024", "500M_1024"]


def _own(name: str) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(preset_text(name))[OWN_KEY]
    return own


@pytest.mark.parametrize("name", preset_names())
def test_preset_loads_with_source_and_count(name: str) -> None:
    model = load_model(name, offline=True)
    assert (model.name, model.source) == (name, "preset")
    assert model.origin.startswith("https://")
    assert OWN_KEY not in model.fields
    assert model.fields["model_type"] == model.model_type
    assert model.assumptions == ()
    assert model.parameters == _own(name)["parameters"]


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_published_parameter_counts(name: str, parameters: int) -> None:
    assert load_model(name, offline=True).parameters == parameters


def test_guide_configurations_are_presets() -> None:
    for name in GUIDE + GUIDE_1024:
        model = load_model(name, offline=True)
        assert model.model_type == "vramcast_gpt"
        assert model.fields["batch_size"] in (8, 12, 16, 20, 24, 32)
        assert not model.dimensions.tie_word_embeddings


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("GPT2", "gpt2"),
        ("gpt2-small", "gpt2"),
        ("openai-community/gpt2", "gpt2"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("META-LLAMA/META-LLAMA-3-8B", "llama-3-8b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("150m_1024", "150M_1024"),
        ("EleutherAI/pythia-160m", "pythia-160m"),
    ],
)
def test_preset_by_any_spelling(spelling: str, name: str) -> None:
    assert load_model(spelling, offline=True).name == name


def test_no_spelling_means_two_presets() -> None:
    seen: dict[str, str] = {}
    for name in preset_names():
        for spelling in (name, *_own(name)["aliases"]):
            assert seen.setdefault(spelling.lower(), name) == name
            assert find_preset(spelling) == name


def test_close_presets() -> None:
    assert close_presets("llama-3-8")[0] == "llama-3-8b"
    assert "gpt2-medium" in close_presets("gpt-2-medium")
    assert close_presets("zzzzzz") == []


BUILDABLE = [name for name in preset_names() if name not in GUIDE + GUIDE_1024]


@pytest.mark.parametrize("name", BUILDABLE)
def test_transformers_builds_exactly_that_many_parameters(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = load_model(name, offline=True)
    config = transformers.AutoConfig.for_model(**model.fields)
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config)
    # parameters() yields a tied weight once.
    assert sum(parameter.numel() for parameter in built.parameters()) == model.parameters


@pytest.mark.parametrize("name", BUILDABLE)
def test_transformers_knows_every_field(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    fields = load_model(name, offline=True).fields
    config = transformers.AutoConfig.for_model(fields["model_type"]).to_dict()
    config |= dict.fromkeys(type(transformers.AutoConfig.for_model(fields["model_type"])).attribute_map)
    assert fields.keys() <= config.keys()


@pytest.mark.parametrize("name", BUILDABLE)
def test_dimensions_are_those_transformers_reads(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = load_model(name, offline=True)
    config, ours = transformers.AutoConfig.for_model(**model.fields), model.dimensions
    assert ours.num_hidden_layers == config.num_hidden_layers
    assert ours.hidden_size == config.hidden_size
    assert ours.num_attention_heads == config.num_attention_heads
    assert ours.vocab_size == config.vocab_size
    assert ours.context_length == config.max_position_embeddings
    assert ours.tie_word_embeddings == config.tie_word_embeddings
    assert ours.head_dim == (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    if model.model_type not in ("falcon", "gpt_bigcode"):
        assert ours.num_key_value_heads == getattr(config, "num_key_value_heads", config.num_attention_heads)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    assert ours.sliding_window == window
    assert ours.num_experts == getattr(config, "num_local_experts", None)


@pytest.mark.parametrize("name", ["falcon-7b", "starcoder", "starcoderbase-1b"])
def test_multi_query_has_one_key_value_head(name: str) -> None:
    assert load_model(name, offline=True).dimensions.num_key_value_heads == 1
