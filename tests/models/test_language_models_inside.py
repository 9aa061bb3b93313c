"""Language models inside configurations of several towers, whose files leave out what equals a default."""

from typing import Any

import pytest

from vramcast.errors import ModelConfigError
from vramcast.models import ModelConfig, model_from_fields


def read(fields: dict[str, Any]) -> ModelConfig:
    return model_from_fields(fields, name="x", source="file", origin="x.json")


def test_a_file_that_leaves_out_what_the_class_fills_in() -> None:
    """As published for a 4B Gemma 3 of text and images: its heads and vocabulary stand in the class alone."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    model = read({"model_type": "gemma3", "text_config": {**text, "sliding_window": 1024}, "vision_config": {}})
    sizes = model.dimensions
    assert (sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim, sizes.vocab_size) == (
        8,
        4,
        256,
        262208,
    )
    assert sizes.tie_word_embeddings
    assert model.assumptions == (
        "only the language model (text_config) of 'gemma3' is counted, not its other towers",
        "not in the file, filled in as transformers does for gemma3_text: num_attention_heads=8, vocab_size=262208",
    )


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config", "llm_cfg", "lm_config"])
def test_every_place_of_a_language_model(key: str) -> None:
    model = read(
        {"model_type": "somebodys_own", key: {"model_type": "llama", "vocab_size": 102400, "num_hidden_layers": 30}}
    )
    sizes = model.dimensions
    assert (sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size, sizes.num_hidden_layers) == (
        4096,
        32,
        11008,
        30,
    )
    assert f"({key}) of 'somebodys_own'" in model.assumptions[0]


@pytest.mark.parametrize("model_type", ["llama", "gemma", "gemma3_text", "opt", "gpt2", "qwen2", "mistral", "phi3"])
def test_sizes_are_those_that_transformers_fills_in(model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(model_type)
    ours = read({"model_type": "somebodys_own", "text_config": {"model_type": model_type}}).dimensions
    for size in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
        assert getattr(ours, size) == getattr(theirs, size)


def test_the_type_of_the_whole_decides_where_the_inner_one_is_not_said() -> None:
    assert read({"model_type": "llava", "text_config": {"num_hidden_layers": 2}}).model_type == "llama"
    assert read({"model_type": "paligemma", "text_config": {}}).model_type == "gemma"


def test_tied_weights_may_be_said_outside() -> None:
    text = {"model_type": "llama", "num_hidden_layers": 2}
    assert read(
        {"model_type": "llava", "text_config": text, "tie_word_embeddings": True}
    ).dimensions.tie_word_embeddings
    inside = {**text, "tie_word_embeddings": False}
    whole = {"model_type": "llava", "text_config": inside, "tie_word_embeddings": True}
    assert not read(whole).dimensions.tie_word_embeddings


def test_a_language_model_two_levels_down() -> None:
    whole = {
        "model_type": "somebodys_omni",
        "thinker_config": {"model_type": "thinker", "text_config": {"model_type": "qwen2"}},
    }
    model = read(whole)
    assert model.model_type == "qwen2"
    assert model.assumptions[:2] == (
        "only the language model (thinker_config) of 'somebodys_omni' is counted, not its other towers",
        "only the language model (text_config) of 'thinker' is counted, not its other towers",
    )


def test_fields_of_a_family_beside_a_text_config_are_the_familys_own() -> None:
    fields = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 9,
    }
    model = read({**fields, "intermediate_size": 96, "text_config": {"model_type": "gpt2"}})
    assert (model.model_type, model.dimensions.hidden_size) == ("llama", 64)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gemma3"}, r"^text_config=None: missing; it holds the language model of 'gemma3' \["),
    ({"model_type": "llava", "text_config": None}, r"^text_config=None: must be an object"),
    ({"model_type": "llava", "text_config": "llama"}, r"^text_config='llama': must be an object"),
    (
        {"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}},
        r"^model_type='gemma3n_text': is a language model of a type that is not read here, inside 'gemma3n'; `vramcast run",
    ),
    (
        {"model_type": "internvl_chat", "llm_config": {"model_type": "internlm2"}},
        r"'internlm2': is a language model of a type .* inside 'internvl_chat'; `vramcast run",
    ),
    (
        {"model_type": "x", "text_config": {"model_type": "bert"}},
        r"'bert': is an encoder; only decoder-only .*`vramcast run",
    ),
    ({"model_type": "qwen2_vl", "hidden_size": 8}, r"'qwen2_vl': is a model of several towers; .*`vramcast run"),
    (
        {"model_type": "llava", "text_config": {"hidden_size": 8}},
        r"hidden_size=8: is not divisible by num_attention_heads=32",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_what_is_not_read_is_refused_by_kind(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        read(fields)
