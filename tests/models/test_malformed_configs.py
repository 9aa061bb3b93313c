"""Configurations that must be refused, each with a message that names field, value and fix."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import ModelConfigError, VramcastError
from vramcast.models import load_model, model_from_fields

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 32,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 8,
    "vocab_size": 32,
    "n_positions": 16,
}


MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4}


def _without(base: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in base.items() if key not in keys}


MALFORMED: list[tuple[str, object, str]] = [
    ("missing hidden_size", _without(LLAMA, "hidden_size"), r"hidden_size=None: missing; add it .*'hidden_size': 768"),
    ("missing layers", _without(LLAMA, "num_hidden_layers"), r"num_hidden_layers=None: missing"),
    ("missing heads", _without(LLAMA, "num_attention_heads"), r"num_attention_heads=None: missing"),
    ("missing vocabulary", _without(LLAMA, "vocab_size"), r"vocab_size=None: missing"),
    ("missing feed-forward", _without(LLAMA, "intermediate_size"), r"intermediate_size=None: missing"),
    ("null hidden_size", {**LLAMA, "hidden_size": None}, r"hidden_size=None: missing"),
    ("missing in GPT-2 spelling", _without(GPT2, "n_embd"), r"n_embd=None: missing"),
    ("string for a number", {**LLAMA, "hidden_size": "64"}, r"hidden_size='64': must be a whole number, not a string"),
    (
        "decimal number",
        {**LLAMA, "num_hidden_layers": 2.5},
        r"num_hidden_layers=2\.5: must be a whole number, not a decimal",
    ),
    ("boolean for a number", {**LLAMA, "num_hidden_layers": True}, r"num_hidden_layers=True: .*not a boolean"),
    ("list for a number", {**LLAMA, "vocab_size": [100]}, r"vocab_size=\[100\]: .*not a list"),
    ("object for a number", {**LLAMA, "head_dim": {}}, r"head_dim=\{\}: .*not an object"),
    ("long value is shortened", {**LLAMA, "vocab_size": "9" * 5000}, r"vocab_size=.{0,80}: must be a whole number"),
    ("zero layers", {**LLAMA, "num_hidden_layers": 0}, r"num_hidden_layers=0: must be between 1 and 100000"),
    ("negative width", {**LLAMA, "hidden_size": -64}, r"hidden_size=-64: must be between 1 and 1000000"),
    ("absurd width", {**LLAMA, "hidden_size": 10**7}, r"hidden_size=10000000: must be between"),
    ("absurd depth", {**LLAMA, "num_hidden_layers": 10**6}, r"num_hidden_layers=1000000: must be between"),
    ("absurd vocabulary", {**LLAMA, "vocab_size": 10**9}, r"vocab_size=1000000000: must be between"),
    ("zero context", {**LLAMA, "max_position_embeddings": 0}, r"max_position_embeddings=0: must be between"),
    (
        "heads do not divide",
        {**LLAMA, "num_attention_heads": 6},
        r"hidden_size=64: is not divisible by num_attention_heads=6.*head_dim",
    ),
    (
        "heads do not divide, GPT-2",
        {**GPT2, "n_head": 3},
        r"n_embd=8: is not divisible by n_head=3; change one of them \[",
    ),
    (
        "key/value heads do not divide",
        {**LLAMA, "num_key_value_heads": 3},
        r"num_key_value_heads=3: does not divide num_attention_heads=4",
    ),
    ("zero key/value heads", {**LLAMA, "num_key_value_heads": 0}, r"num_key_value_heads=0: must be between"),
    ("disagreeing aliases", {**GPT2, "hidden_size": 16}, r"hidden_size=16: disagrees with n_embd=8"),
    (
        "flag is a string",
        {**LLAMA, "tie_word_embeddings": "true"},
        r"tie_word_embeddings='true': must be true or false",
    ),
    (
        "negative window",
        {**LLAMA, "model_type": "mistral", "sliding_window": -1},
        r"sliding_window=-1: must be between",
    ),
    ("more experts used than there are", MIXTRAL, r"num_experts_per_tok=4: exceeds the number of experts, 2"),
    (
        "layer_types too short",
        {**LLAMA, "layer_types": ["full_attention"]},
        r"layer_types=.*1 entries for num_hidden_layers=2",
    ),
    (
        "layer_types not a list",
        {**LLAMA, "layer_types": "full_attention"},
        r"layer_types='full_attention': must be a list",
    ),
    (
        "no model_type",
        _without(LLAMA, "model_type"),
        r"model_type=None: missing; add .*\"model_type\": \"llama\".*n_layer, n_head",
    ),
    ("empty object", {}, r"model_type=None: missing"),
    ("model_type is a list", {**LLAMA, "model_type": ["llama"]}, r"model_type=\['llama'\]: must be a string"),
    (
        "encoder",
        {"model_type": "bert", "hidden_size": 768},
        r"model_type='bert': is an encoder; only decoder-only .*gpt2.*llama",
    ),
    ("encoder-decoder", {"model_type": "t5"}, r"model_type='t5': is an encoder-decoder; only decoder-only"),
    ("encoder-decoder by its flag", {"model_type": "new", "is_encoder_decoder": True}, r"'new': is an encoder-decoder"),
    ("state-space model", {"model_type": "mamba"}, r"model_type='mamba': is a state-space model"),
    ("unknown type", {"model_type": "nosuch"}, r"model_type='nosuch': is not a known type: .*qwen2"),
    (
        "multimodal without a language type",
        {"model_type": "llava", "text_config": {"hidden_size": 8}},
        r"model_type=None: missing",
    ),
    (
        "multimodal with an encoder",
        {"model_type": "x", "text_config": {"model_type": "bert"}},
        r"'bert': is an encoder",
    ),
    ("JSON list", [LLAMA], r"holds a JSON list; a model configuration is an object"),
    ("JSON string", "llama", r"holds a JSON string"),
    ("JSON null", None, r"holds a JSON null"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed_config(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


NOT_JSON = [
    ("empty file", b"", r"not valid JSON at line 1, column 1"),
    ("truncated", json.dumps(LLAMA, indent=1).encode()[:60], r"not valid JSON at line \d+.*is the file complete\?"),
    ("YAML", b"hidden_size: 64", r"not valid JSON"),
    ("comment", b'{"batch_size": 16 // Instead of 32\n}', r"not valid JSON at line 1"),
    ("NaN", b'{"model_type": "llama", "hidden_size": NaN}', r"holds NaN, which is not JSON"),
    ("Infinity", b'{"hidden_size": Infinity}', r"holds Infinity"),
    ("negative Infinity in depth", b'{"a": {"b": [-Infinity]}}', r"holds -Infinity"),
    ("duplicate key", b'{"hidden_size": 64, "hidden_size": 65}', r"names 'hidden_size' twice"),
    ("binary", b"\x93NUMPY\xff\xfe", r"not a text file in UTF-8"),
    ("nested too deeply", b'{"a":' + b"[" * 100_000, r"nested too deeply"),
    ("a number of 5000 digits", b'{"hidden_size": ' + b"9" * 5000 + b"}", r"a number too long"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in NOT_JSON], ids=[case[0] for case in NOT_JSON])
def test_not_json(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelConfigError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*LLAMA, "head_dim", "tie_word_embeddings", "layer_types", "text_config"]), value=JSON)
def test_any_value_in_any_field_is_read_or_refused_by_name(key: str, value: Any) -> None:
    try:
        model = model_from_fields({**LLAMA, key: value}, name="x", source="file", origin="x.json")
    except VramcastError as error:
        assert "[x.json]" in str(error)
        return
    sizes = model.dimensions.model_dump(exclude={"tie_word_embeddings"}, exclude_none=True)
    assert all(type(size) is int and size > 0 for size in sizes.values())
    assert model.dimensions.num_attention_heads % model.dimensions.num_key_value_heads == 0
